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

mod conformance;
mod fidelity;
mod layer;
mod safety;
mod support;
mod valkey;
