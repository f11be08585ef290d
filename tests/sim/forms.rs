//! The forms in which the simulation runs.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::finding::Finding;
use crate::known::{KNOWN, recognise};
use crate::mended::MENDED;
use crate::oracle::judge;
use crate::shrink::{shows, shrink};
use crate::step::Scenario;
use crate::teeth::shams_are_seen_through;
use crate::world::run;
use crate::{digest, generate};

/// Runs the form that the environment asks for, else the short one.
pub fn asked_for() -> Result<(), String> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        text.parse::<u64>().ok()
    };
    let steps = std::env::var("SIM_STEPS").ok();
    if let Some(seed) = number("SIM_SEED") {
        return replay(&by_seed(seed, steps.as_deref())?);
    }
    if let Some(steps) = steps {
        return replay(&steps.parse()?);
    }
    if let Some(seeds) = number("SIM_DIGEST") {
        return print_digest(seeds);
    }
    if let Some(seconds) = number("SIM_MEASURE") {
        return measure(
            Duration::from_secs(seconds),
            number("SIM_FIRST").unwrap_or(0),
        );
    }
    if let Some(seconds) = number("SIM_SECONDS") {
        known_faults_are_still_there()?;
        return fresh_seeds(Duration::from_secs(seconds));
    }
    known_faults_are_still_there()?;
    mended_faults_stay_mended()?;
    shams_are_seen_through()?;
    // Fresh seeds belong to the long form, as long as they still find what is not on the list.
    fixed_seeds()
}

/// `steps` is how many steps the seed is to make, or the steps themselves.
fn by_seed(seed: u64, steps: Option<&str>) -> Result<Scenario, String> {
    match steps {
        None => Ok(generate::scenario(seed, STEPS)),
        Some(text) => match text.parse() {
            Ok(steps) => Ok(generate::scenario(seed, steps)),
            Err(_) => text.parse(),
        },
    }
}

/// Runs one scenario, and says what is wrong with it.
fn replay(scenario: &Scenario) -> Result<(), String> {
    let trace = run(scenario);
    if std::env::var_os("SIM_TRACE").is_some() {
        println!("{trace:#?}");
    }
    let findings = judge(scenario, &trace);
    println!("SIM_STEPS='{scenario}'");
    println!("digest {:016x}", digest::of_trace(&trace));
    for finding in &findings {
        let name = recognise(finding).map_or("UNKNOWN", |known| known.name);
        println!("[{name}] {finding}");
        if let Some(known) = recognise(finding) {
            println!("    {}", known.what);
        }
    }
    match findings.iter().find(|finding| recognise(finding).is_none()) {
        None => Ok(()),
        Some(unknown) => Err(report("the steps", scenario, unknown)),
    }
}

/// A fault of the list that its steps do not show is mended, or hidden by something else.
fn known_faults_are_still_there() -> Result<(), String> {
    let mut mended = Vec::new();
    for known in KNOWN {
        let scenario: Scenario = known.steps.parse()?;
        if !shows(&scenario, &|finding| known.is(finding)) {
            mended.push(format!("{}: {}", known.name, known.steps));
        }
    }
    if mended.is_empty() {
        println!("{} known faults, all found", KNOWN.len());
        return Ok(());
    }
    Err(format!(
        "found no more; what is mended is to be taken off the list:\n  {}",
        mended.join("\n  ")
    ))
}

fn mended_faults_stay_mended() -> Result<(), String> {
    for (name, steps) in MENDED {
        let scenario: Scenario = steps.parse()?;
        let trace = run(&scenario);
        let findings = judge(&scenario, &trace);
        if let Some(finding) = findings.iter().find(|it| recognise(it).is_none()) {
            return Err(report(name, &scenario, finding));
        }
    }
    println!("{} mended faults, none found", MENDED.len());
    Ok(())
}

fn fixed_seeds() -> Result<(), String> {
    let mut tally = Tally::default();
    (0..FIXED).try_for_each(|seed| tally.run(seed))?;
    tally.print("fixed");
    Ok(())
}

fn fresh_seeds(time: Duration) -> Result<(), String> {
    let mut tally = Tally::default();
    let first = fresh_seed();
    let began = Watch::start();
    while began.elapsed() < time {
        tally.run(first + tally.seeds)?;
    }
    tally.print("fresh");
    Ok(())
}

/// What a number of seeds came to.
#[derive(Default)]
struct Tally {
    seeds: u64,
    steps: usize,
    found: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn run(&mut self, seed: u64) -> Result<(), String> {
        let scenario = generate::scenario(seed, STEPS);
        let trace = run(&scenario);
        self.seeds += 1;
        self.steps += scenario.steps.len();
        for finding in judge(&scenario, &trace) {
            match recognise(&finding) {
                Some(known) => *self.found.entry(known.name).or_default() += 1,
                None => return Err(report(&format!("SIM_SEED={seed}"), &scenario, &finding)),
            }
        }
        Ok(())
    }

    fn print(&self, name: &str) {
        println!(
            "{} {name} seeds, {} steps, {} kinds of known faults seen, nothing else",
            self.seeds,
            self.steps,
            self.found.len()
        );
    }
}

/// What is to be said of a finding that is not known, with the shortest way to it.
fn report(what: &str, scenario: &Scenario, finding: &Finding) -> String {
    let shrunk = shrink(scenario, &|scenario| {
        shows(scenario, &|other| is_alike(other, finding))
    });
    let trace = run(&shrunk);
    let found = judge(&shrunk, &trace);
    let found = found
        .iter()
        .find(|other| is_alike(other, finding))
        .unwrap_or(finding);
    format!(
        "{what} finds\n  {finding}\nshrunk to {} steps:\n  SIM_STEPS='{shrunk}'\n  {found}",
        shrunk.steps.len()
    )
}

/// The same, under no further circumstances, and not known.
fn is_alike(other: &Finding, finding: &Finding) -> bool {
    other.kind == finding.kind
        && other.because.is_subset(&finding.because)
        && recognise(other).is_none()
}

fn print_digest(seeds: u64) -> Result<(), String> {
    let began = Watch::start();
    let mut steps = 0;
    let digests = (0..seeds).map(|seed| {
        let scenario = generate::scenario(seed, STEPS);
        steps += scenario.steps.len();
        digest::of_trace(&run(&scenario))
    });
    let all = digest::of_all(digests);
    println!("{seeds} seeds: {all:016x}");
    eprintln!("{steps} steps in {:?}", began.elapsed());
    Ok(())
}

/// How many fresh seeds, and how long, each known fault takes to be found.
fn measure(time: Duration, first_seed: u64) -> Result<(), String> {
    let began = Watch::start();
    let mut first: BTreeMap<&str, (u64, Duration)> = BTreeMap::new();
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    let mut unknown: BTreeMap<String, String> = BTreeMap::new();
    let (mut seed, mut steps) = (first_seed, 0);
    while began.elapsed() < time {
        let scenario = generate::scenario(seed, STEPS);
        steps += scenario.steps.len();
        let trace = run(&scenario);
        let findings = judge(&scenario, &trace);
        let mut seen = std::collections::BTreeSet::new();
        for finding in &findings {
            let mut is_known = false;
            for known in KNOWN.iter().filter(|known| known.is(finding)) {
                is_known = true;
                if seen.insert(known.name) {
                    first
                        .entry(known.name)
                        .or_insert_with(|| (seed, began.elapsed()));
                    *times.entry(known.name).or_default() += 1;
                }
            }
            if !is_known {
                let signature = format!("{:?} {:?}", finding.kind, finding.because);
                unknown
                    .entry(signature)
                    .or_insert_with(|| report(&format!("SIM_SEED={seed}"), &scenario, finding));
            }
        }
        seed += 1;
    }
    println!(
        "{} seeds, {steps} steps, {:?}",
        seed - first_seed,
        began.elapsed()
    );
    for known in KNOWN {
        let length = known.steps.parse::<Scenario>()?.steps.len();
        match first.get(known.name) {
            Some((seed, when)) => println!(
                "{:32} seed {seed:6}, {:8.1} s, in {} seeds, {length} steps",
                known.name,
                when.as_secs_f64(),
                times[known.name]
            ),
            None => println!("{:32} not found, {length} steps", known.name),
        }
    }
    for report in unknown.values() {
        println!("{report}\n");
    }
    Ok(())
}

/// Of the machine's own chance: that of the thread has been seeded by the runs before.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 2
}

/// Real time, which says only when to stop.
struct Watch(std::time::Instant);

impl Watch {
    #[allow(clippy::disallowed_methods, reason = "the machine's own time is meant")]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// How many steps a seed makes, or a few more.
const STEPS: usize = 60;

const FIXED: u64 = 200;
