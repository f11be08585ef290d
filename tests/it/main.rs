//! The crate from outside, against real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod coalescing;
mod fills;
mod layer;
mod lease;
mod support;
mod valkey;
