//! The crate from outside, against real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, in its helpers too"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests are clients with tasks of their own"
)]

mod allocations;
mod changes;
mod coalescing;
mod conformance;
mod credentials;
mod determinism;
mod faults;
mod fidelity;
mod fills;
mod footprint;
mod keys;
mod layer;
mod lease;
mod metrics;
mod nested;
mod outdated;
mod policy;
mod purge;
mod readiness;
mod regressions;
mod rooms;
mod safety;
mod server;
mod sharing;
mod short_faults;
mod store_contract;
mod support;
mod topologies;
mod valkey;
mod values;
mod variants;
mod writes;
