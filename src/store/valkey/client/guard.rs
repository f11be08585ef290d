//! What keeps commands from a server: a breaker each for reads and writes, and a limit on the
//! commands in flight.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, Change, Permit};
use crate::error::StoreError;
use crate::store::valkey::settings::ValkeySettings;
use crate::store::valkey::url::StoreUrl;

/// The breaker that a command has to pass.
#[derive(Clone, Copy)]
pub(crate) enum Guard {
    Read,
    Write,
    /// No breaker: the command is tried whenever there is a connection.
    Unguarded,
}

impl Guard {
    /// The name in metrics and log lines.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::Unguarded => "all",
        }
    }
}

pub(crate) struct Breakers {
    pub(crate) reads: Breaker,
    pub(crate) writes: Breaker,
}

impl Breakers {
    pub(crate) fn new(settings: &ValkeySettings) -> Self {
        let breaker = || Breaker::new(settings.failures_until_open, settings.probe_interval);
        Self {
            reads: breaker(),
            writes: breaker(),
        }
    }

    pub(crate) fn of(&self, guard: Guard) -> Option<&Breaker> {
        match guard {
            Guard::Read => Some(&self.reads),
            Guard::Write => Some(&self.writes),
            Guard::Unguarded => None,
        }
    }

    /// There is a new connection, so an open breaker probes it with the next operation.
    pub(crate) fn probe_now(&self, now: Instant) {
        self.reads.probe_now(now);
        self.writes.probe_now(now);
    }

    pub(crate) fn times_opened(&self) -> u64 {
        self.reads.times_opened() + self.writes.times_opened()
    }
}

/// Tells the breaker how an operation ended.
///
/// A success that took `limit` or longer counts as a failure: it costs every request its budget.
pub(crate) fn settle(
    permit: Permit<'_>,
    error: Option<&StoreError>,
    took: Duration,
    limit: Duration,
    now: Instant,
) -> Change {
    match verdict(error, took, limit) {
        Verdict::Good => permit.succeed(),
        Verdict::Bad => permit.fail(now),
        Verdict::Neither => Change::None,
    }
}

pub(crate) fn log_change(
    change: Change,
    store: &StoreUrl,
    guard: Guard,
    error: Option<&StoreError>,
) {
    let lane = guard.name();
    match (change, error) {
        (Change::None, _) => {}
        (Change::Opened, Some(error)) => {
            tracing::warn!(%store, lane, %error, "the shared store fails; suspended");
        }
        (Change::Opened, None) => {
            tracing::warn!(%store, lane, "the shared store is too slow; suspended");
        }
        (Change::Closed, _) => tracing::info!(%store, lane, "the shared store is used again"),
    }
}

/// What the result of an operation says about the server.
enum Verdict {
    Good,
    Bad,
    Neither,
}

fn verdict(error: Option<&StoreError>, took: Duration, limit: Duration) -> Verdict {
    match error {
        None if took >= limit => Verdict::Bad,
        None => Verdict::Good,
        // The caller's deadline left less than half of the usual budget.
        Some(StoreError::TimedOut) if took * 2 < limit => Verdict::Neither,
        // The server was not asked. Without a connection the error is immediate, and a new
        // connection should be used at once.
        Some(StoreError::Unavailable | StoreError::Busy | StoreError::Suspended) => {
            Verdict::Neither
        }
        // The server has answered, and done its part.
        Some(StoreError::TooLong) => Verdict::Good,
        // The error is about this one key: another application keeps a value of another type
        // under it, or its slot belongs to another node.
        Some(StoreError::Server(code))
            if matches!(code.as_str(), "WRONGTYPE" | "MOVED" | "ASK" | "TRYAGAIN") =>
        {
            Verdict::Neither
        }
        Some(_) => Verdict::Bad,
    }
}

/// Counts the commands in flight.
#[derive(Default)]
pub(crate) struct InFlight(AtomicUsize);

impl InFlight {
    /// Counts one command more until the guard is dropped, unless there are `most` already.
    pub(crate) fn enter(&self, most: usize) -> Result<Entered<'_>, StoreError> {
        let entered = Entered(&self.0);
        if self.0.fetch_add(1, Ordering::Relaxed) < most {
            Ok(entered)
        } else {
            Err(StoreError::Busy)
        }
    }
}

/// One command in flight.
pub(crate) struct Entered<'a>(&'a AtomicUsize);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
