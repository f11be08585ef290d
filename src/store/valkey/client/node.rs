//! One server: its connection, its breakers, and the commands in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::bounded::BoundedReads;
use super::breaker::{Breaker, Change, Permit};
use super::fault::Failed;
use super::supervisor::Supervisor;
use crate::error::StoreError;
use crate::store::valkey::ValkeySettings;
use crate::store::valkey::url::Location;

/// A node's connection, and the limit on its commands in flight.
pub(crate) struct Node {
    pub(crate) supervisor: Arc<Supervisor>,
    in_flight: AtomicUsize,
}

/// The breaker that decides whether a command is sent.
#[derive(Clone, Copy)]
pub(crate) enum Guard {
    Read,
    Write,
    /// No breaker: the command is sent whenever there is a connection.
    Free,
}

impl Node {
    /// Reads are bounded by `bounded` once a value proves to be too long.
    pub(crate) fn new(settings: ValkeySettings, bounded: Arc<BoundedReads>) -> Self {
        Self {
            supervisor: Supervisor::new(settings, bounded),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// The host name or address, empty for a Unix socket.
    pub(crate) fn host(&self) -> &str {
        match &self.supervisor.settings.url.place {
            Location::Server(_, address) => &address.host,
            _ => "",
        }
    }

    /// Sends a command, after `ASKING` if the slot is on its way to this node.
    ///
    /// The breaker of `guard` decides whether to send, and learns from the result.
    pub(crate) async fn run<T>(
        &self,
        guard: Guard,
        asking: bool,
        command: &Cmd,
        deadline: Instant,
        read: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<T, Failed> {
        let started = Instant::now();
        if deadline <= started {
            return Err(StoreError::TimedOut.into());
        }
        let _slot = self.take_slot()?;
        let permit = match self.breaker(guard) {
            Some(breaker) => Some(breaker.admit(started)?),
            None => None,
        };
        let result = self
            .supervisor
            .execute(asking, command, deadline, read)
            .await;
        if let Some(permit) = permit {
            let error = result.as_ref().err().map(|failed| &failed.error);
            self.learn(guard, permit, error, started);
        }
        result
    }

    /// Tells the breaker how an operation went, and logs a change of it.
    fn learn(
        &self,
        guard: Guard,
        permit: Permit<'_>,
        error: Option<&StoreError>,
        started: Instant,
    ) {
        let now = Instant::now();
        #[cfg(feature = "metrics")]
        metrics::histogram!("response_cache_store_seconds", "lane" => guard.name())
            .record((now - started).as_secs_f64());
        let limit = self.supervisor.settings.operation_timeout;
        let change = match verdict(error, now - started, limit) {
            Verdict::Good => permit.succeed(),
            Verdict::Bad => permit.fail(now),
            Verdict::Neither => Change::None,
        };
        self.log_change(guard, change, error);
    }

    fn take_slot(&self) -> Result<Slot<'_>, StoreError> {
        let slot = Slot(&self.in_flight);
        match self.in_flight.fetch_add(1, Ordering::Relaxed) {
            taken if taken < self.supervisor.settings.max_in_flight => Ok(slot),
            _ => Err(StoreError::Busy),
        }
    }

    fn log_change(&self, guard: Guard, change: Change, error: Option<&StoreError>) {
        let store = &self.supervisor.settings.url;
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

    fn breaker(&self, guard: Guard) -> Option<&Breaker> {
        match guard {
            Guard::Read => Some(&self.supervisor.reads),
            Guard::Write => Some(&self.supervisor.writes),
            Guard::Free => None,
        }
    }
}

impl Guard {
    const fn name(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::Free => "all",
        }
    }
}

/// What an operation's result says about the server.
enum Verdict {
    Good,
    Bad,
    Neither,
}

/// Slow is as bad as failed: it costs every request its budget.
fn verdict(error: Option<&StoreError>, took: Duration, limit: Duration) -> Verdict {
    match error {
        None if took >= limit => Verdict::Bad,
        None => Verdict::Good,
        // The caller came with less than half of the usual budget.
        Some(StoreError::TimedOut) if took * 2 < limit => Verdict::Neither,
        // Nothing was asked of the server. Without a connection the error is immediate, and
        // once there is one the breaker should not delay its use.
        Some(StoreError::Unavailable | StoreError::Busy | StoreError::Suspended) => {
            Verdict::Neither
        }
        // An answer, and the server has done its part.
        Some(StoreError::TooLong) => Verdict::Good,
        // About this one key: something else keeps a value of another type under it, or its slot
        // is another node's.
        Some(StoreError::Server(code))
            if matches!(code.as_str(), "WRONGTYPE" | "MOVED" | "ASK" | "TRYAGAIN") =>
        {
            Verdict::Neither
        }
        Some(_) => Verdict::Bad,
    }
}

/// One operation under way.
struct Slot<'a>(&'a AtomicUsize);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
