//! The long fault suite: `cargo test --release --all-features --test faults`. It prints one line
//! for each fault. Names after `--` choose some of them, such as `torn` and `moved`.

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

use faults::report::Report;
use faults::rig::Scale;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(faults::scenarios::serve_if_asked());
    println!("{}", Report::heading());
    let names = std::env::args().skip(1).collect::<Vec<_>>();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|one| name.contains(one));
    let told = |report: &Report| println!("{report}");
    runtime.block_on(faults::scenarios::all(Scale::Long, wanted, told));
}
