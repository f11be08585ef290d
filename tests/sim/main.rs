//! A deterministic simulation of the cache.
//!
//! One to three instances of the cache share one handler, in virtual time and on one thread. A seed
//! chooses what happens. An oracle that knows nothing of the cache judges the events.
//!
//! ```text
//! cargo test --test sim                              the short form: known faults, fixed seeds
//! SIM_SECONDS=600 cargo test --release --test sim    the long form: fresh seeds
//! SIM_SEED=7 cargo test --test sim                   one seed again
//! SIM_STEPS='world; 0 get; 5 change; 9 get' cargo test --test sim
//! SIM_DIGEST=1000 cargo test --test sim              a digest of all that is seen
//! SIM_MEASURE=600 cargo test --release --test sim    seeds that each known fault takes, from
//!                                                    SIM_FIRST on; all that is unknown, shrunk
//! ```

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
mod content;
mod digest;
mod facts;
mod fields;
mod finding;
mod forms;
mod generate;
mod handler;
mod known;
mod mended;
mod oracle;
mod shrink;
mod step;
mod teeth;
mod text;
mod trace;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    quiet_panics_of_the_handler();
    match forms::asked_for() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn quiet_panics_of_the_handler() {
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref::<&str>() != Some(&handler::PANIC) {
            eprintln!("{info}");
        }
    }));
}
