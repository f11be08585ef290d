//! A deterministic simulation of the cache.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, in its helpers too"
)]
#![allow(unreachable_pub, reason = "a program of its own")]

mod body;
mod client;
mod clock;
mod content;
mod finding;
mod generate;
mod handler;
mod oracle;
mod step;
mod text;
mod trace;
mod world;

fn main() {
    std::panic::set_hook(Box::new(|info| {
        if info.payload_as_str() != Some(handler::PANIC) {
            eprintln!("{info}");
        }
    }));
    if let Ok(text) = std::env::var("SIM_STEPS") {
        let scenario: step::Scenario = text.parse().unwrap();
        println!("{scenario}");
        let trace = world::run(&scenario);
        println!("{trace:#?}");
        for finding in oracle::judge(&scenario, &trace) {
            println!("{finding}");
        }
        return;
    }
    let began = tokio::time::Instant::now();
    let mut kinds = std::collections::BTreeMap::new();
    for seed in 0..300 {
        let scenario = generate::scenario(seed, 60);
        let trace = world::run(&scenario);
        for finding in oracle::judge(&scenario, &trace) {
            let entry = kinds.entry(format!("{:?} {:?}", finding.kind, finding.because)).or_insert((0, seed, finding.message.clone()));
            entry.0 += 1;
        }
    }
    for (kind, (count, seed, message)) in &kinds {
        println!("{count:5} {seed:4} {kind} {message}");
    }
    println!("{:?}", began.elapsed());
}
