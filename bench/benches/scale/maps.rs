//! The map of tier 1 beside the other one that was considered: values behind an `Arc`, keys of 128
//! bits that are hashes already, weights in bytes.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use tower_response_cache_bench::rounds::median;

type Value = Arc<Vec<u8>>;

#[derive(Clone)]
struct ByLength;

impl quick_cache::Weighter<u128, Value> for ByLength {
    fn weight(&self, _key: &u128, value: &Value) -> u64 {
        value.len() as u64
    }
}

type Quick = quick_cache::sync::Cache<u128, Value, ByLength>;
type Moka = moka::sync::Cache<u128, Value>;

trait Map: Sync {
    fn get(&self, key: u128) -> Option<Value>;
    fn insert(&self, key: u128, value: Value);
}

impl Map for Quick {
    fn get(&self, key: u128) -> Option<Value> {
        Quick::get(self, &key)
    }

    fn insert(&self, key: u128, value: Value) {
        Quick::insert(self, key, value);
    }
}

impl Map for Moka {
    fn get(&self, key: u128) -> Option<Value> {
        Moka::get(self, &key)
    }

    fn insert(&self, key: u128, value: Value) {
        Moka::insert(self, key, value);
    }
}

pub fn compare() {
    println!("\n| 100,000 values of 1 KiB, ns | quick_cache | moka |\n|---|---|---|");
    let quick = Quick::with_weighter(100_000, HELD * 1024 * 2, ByLength);
    let moka = Moka::builder()
        .weigher(|_, value: &Value| value.len() as u32)
        .max_capacity(HELD * 1024 * 2)
        .build();
    fill(&quick);
    fill(&moka);
    row("get, random, one thread", &quick, &moka, 1, |map, call| {
        drop(black_box(map.get(random(call))))
    });
    row("get, random, two threads", &quick, &moka, 2, |map, call| {
        drop(black_box(map.get(random(call))))
    });
    row("get, one key, one thread", &quick, &moka, 1, |map, _| {
        drop(black_box(map.get(spread(1))))
    });
    row("get, one key, two threads", &quick, &moka, 2, |map, _| {
        drop(black_box(map.get(spread(1))))
    });
    let insert =
        |map: &dyn Map, call: u64| map.insert(spread(HELD + call), Arc::new(vec![0; 1024]));
    row("insert a new one, one thread", &quick, &moka, 1, insert);
    row("insert a new one, two threads", &quick, &moka, 2, insert);
}

fn fill(map: &dyn Map) {
    for number in 0..HELD {
        map.insert(spread(number), Arc::new(vec![0; 1024]));
    }
}

fn row(name: &str, quick: &Quick, moka: &Moka, threads: usize, act: impl Fn(&dyn Map, u64) + Sync) {
    let (mut of_quick, mut of_moka) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        of_quick.push(time(quick, threads, round, &act));
        of_moka.push(time(moka, threads, round, &act));
    }
    println!(
        "| {name} | {:.0} | {:.0} |",
        median(of_quick),
        median(of_moka)
    );
}

/// Nanoseconds an operation of one thread.
fn time(map: &dyn Map, threads: usize, round: u64, act: &(impl Fn(&dyn Map, u64) + Sync)) -> f64 {
    let barrier = &Barrier::new(threads);
    let longest = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads as u64)
            .map(|thread| {
                scope.spawn(move || {
                    barrier.wait();
                    let began = Instant::now();
                    for call in 0..CALLS {
                        act(map, (round * 2 + thread) * CALLS + call);
                    }
                    began.elapsed()
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("it ends"))
            .max()
    });
    longest.unwrap_or_default().as_nanos() as f64 / CALLS as f64
}

/// A key like a hash.
fn spread(number: u64) -> u128 {
    u128::from(number.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
}

fn random(call: u64) -> u128 {
    spread((call.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % HELD)
}

const HELD: u64 = 100_000;
const CALLS: u64 = 50_000;
const ROUNDS: u64 = 21;
