//! The long fault suite, one line a fault: `cargo test --release --all-features --test faults`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, in its helpers too"
)]

#[path = "../it/faults/mod.rs"]
mod faults;
#[path = "../it/support/mod.rs"]
mod support;

use faults::rig::{Report, Scale};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(faults::scenarios::serve_if_asked());
    println!("{}", Report::heading());
    runtime.block_on(faults::scenarios::all(Scale::Long, |report| {
        println!("{report}");
    }));
}
