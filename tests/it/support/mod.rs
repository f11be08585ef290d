//! Helpers that the tests share.
#![allow(dead_code, reason = "not every test module uses everything")]

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(crate) mod app;
pub(crate) mod cluster;
pub(crate) mod copies;
pub(crate) mod handler;
pub(crate) mod logs;
pub(crate) mod proxy;
pub(crate) mod sentinel;
pub(crate) mod store;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod valkey;
pub(crate) mod wire;

/// Calls `check` again and again until it returns `true`, and returns how long that took.
///
/// # Panics
///
/// Panics if it does not return `true` within `patience`.
pub(crate) async fn eventually<F>(
    what: &str,
    patience: Duration,
    mut check: impl FnMut() -> F,
) -> Duration
where
    F: Future<Output = bool>,
{
    let started = Instant::now();
    while !check().await {
        assert!(started.elapsed() < patience, "not in {patience:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}
