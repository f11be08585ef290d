//! What is asked for: generated, and from public traces.

use std::fs;
use std::path::Path;

/// One request: of what, and how long its body is.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub key: u64,
    pub bytes: usize,
}

pub struct Run {
    pub name: String,
    pub memory: u64,
    pub wanted: Vec<Wanted>,
}

impl Run {
    fn of_one_size(name: &str, memory: u64, keys: impl Iterator<Item = u64>) -> Self {
        let bytes = 1024;
        Self {
            name: name.to_owned(),
            memory,
            wanted: keys.map(|key| Wanted { key, bytes }).collect(),
        }
    }

    /// The keys and what their records weigh.
    pub fn weighed(&self, overhead: u64) -> Vec<(u64, u64)> {
        let weigh = |it: &Wanted| (it.key, it.bytes as u64 + overhead);
        self.wanted.iter().map(weigh).collect()
    }
}

pub fn runs() -> Vec<Run> {
    let mut runs = generated();
    if let Ok(folder) = std::env::var("TRACES") {
        runs.extend(traces(Path::new(&folder)));
    }
    runs
}

fn generated() -> Vec<Run> {
    let zipf = |exponent: f64| {
        let name = format!("Zipf {exponent}, a scan after each 50,000");
        let keys = with_scans(Zipf::new(20_000, exponent), 400_000);
        Run::of_one_size(&name, 4 * MIB, keys.into_iter())
    };
    let mut runs: Vec<Run> = [0.7, 0.9, 1.1].map(zipf).into();
    for memory in [4 * MIB, 32 * MIB] {
        runs.push(Run {
            name: "Zipf 0.9, lognormal lengths".to_owned(),
            memory,
            wanted: of_lognormal_lengths(400_000),
        });
    }
    runs
}

/// Each 50,000 requests are followed by 2,000 for what is never asked for again.
fn with_scans(mut zipf: Zipf, count: usize) -> Vec<u64> {
    let mut keys = Vec::new();
    let mut never_again = 1 << 40..;
    while keys.len() < count {
        keys.extend((0..50_000).map(|_| zipf.next()));
        keys.extend(never_again.by_ref().take(2_000));
    }
    keys
}

fn of_lognormal_lengths(count: usize) -> Vec<Wanted> {
    let mut zipf = Zipf::new(20_000, 0.9);
    let mut random = Random(7);
    let lengths: Vec<usize> = (0..20_000)
        .map(|_| {
            let normal = (-2.0 * random.next().max(1e-12).ln()).sqrt()
                * (std::f64::consts::TAU * random.next()).cos();
            ((8.5 + 1.5 * normal).exp() as usize).clamp(100, 1_000_000)
        })
        .collect();
    (0..count)
        .map(|_| zipf.next())
        .map(|key| Wanted {
            key,
            bytes: lengths[key as usize],
        })
        .collect()
}

fn traces(folder: &Path) -> Vec<Run> {
    let read = |name: &str| fs::read(folder.join(name)).ok();
    let keys = |name: &str, width: usize| {
        read(name).map(|bytes| {
            let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            bytes.chunks_exact(width).map(number).collect::<Vec<u64>>()
        })
    };
    let lines = |name: &str| {
        read(name).map(|bytes| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let numbers = |line: &str| line.split(' ').flat_map(str::parse).collect();
            text.lines().map(numbers).collect::<Vec<Vec<u64>>>()
        })
    };
    let mut runs = Vec::new();
    for (name, width, memory, most) in [
        ("web07", 4, 2 * MIB, usize::MAX),
        ("web12", 4, 2 * MIB, usize::MAX),
        ("scarab-recs", 8, 64 * MIB, 1_200_000),
    ] {
        if let Some(keys) = keys(&format!("{name}.trace"), width) {
            runs.push(Run::of_one_size(name, memory, keys.into_iter().take(most)));
        }
    }
    if let Some(lines) = lines("OLTP.lis") {
        let keys = lines.iter().flat_map(|line| line[0]..line[0] + line[1]);
        runs.push(Run::of_one_size("OLTP", 16 * MIB, keys));
    }
    if let Some(lines) = lines("request.trace") {
        let wanted = lines.iter().map(|line| Wanted {
            key: line[1],
            bytes: line[2] as usize,
        });
        runs.push(Run {
            name: "requests of a CDN".to_owned(),
            memory: 8 * MIB,
            wanted: wanted.collect(),
        });
    }
    runs
}

/// Keys of which the n-th is as frequent as `1 / n^exponent`.
struct Zipf {
    shares: Vec<f64>,
    random: Random,
}

impl Zipf {
    fn new(keys: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut shares: Vec<f64> = (1..=keys)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        shares.iter_mut().for_each(|share| *share /= sum);
        Self {
            shares,
            random: Random(1),
        }
    }

    fn next(&mut self) -> u64 {
        let point = self.random.next();
        let last = self.shares.len() - 1;
        self.shares.partition_point(|share| *share < point).min(last) as u64
    }
}

/// Xorshift: the same numbers on every machine.
struct Random(u64);

impl Random {
    /// From zero to one.
    fn next(&mut self) -> f64 {
        let Self(state) = self;
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const MIB: u64 = 1 << 20;
