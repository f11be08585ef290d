//! One server: its connection, its breakers, and how much is under way.

pub(crate) mod bounded;
pub(crate) mod breaker;
pub(crate) mod connect;
mod dialling;
pub(crate) mod link;
mod sentinel;
pub(crate) mod state;
pub(crate) mod stream;
pub(crate) mod supervisor;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::Instant;

use self::bounded::BoundedReads;
use self::breaker::{Breaker, Change};
use self::supervisor::Supervisor;
use crate::error::StoreError;
use crate::store::valkey::ValkeySettings;
use crate::store::valkey::command::Redirect;
use crate::store::valkey::url::Location;

/// A server, and leave to ask it something.
pub(crate) struct Node {
    pub(crate) supervisor: Arc<Supervisor>,
    in_flight: AtomicUsize,
}

/// Which breaker decides.
#[derive(Clone, Copy)]
pub(crate) enum Guard {
    Read,
    Write,
    /// None: tried whenever there is a connection.
    Free,
}

/// What is sent.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    Plain,
    /// After `ASKING`: of a slot that is on its way to this node.
    Asking,
}

/// A failed operation; in a cluster it may be for another node.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: StoreError,
    pub(crate) redirect: Option<Redirect>,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            redirect: None,
        }
    }
}

impl Node {
    /// `care` is taken of values when one proves to be too long.
    pub(crate) fn new(settings: ValkeySettings, care: Arc<BoundedReads>) -> Self {
        Self {
            supervisor: Supervisor::new(settings, care),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Its name or address, where it has one.
    pub(crate) fn host(&self) -> &str {
        match &self.supervisor.settings.url.place {
            Location::Server(_, address) => &address.host,
            _ => "",
        }
    }

    /// Sends a command, with a breaker that decides whether to, and learns from how it went.
    pub(crate) async fn run<T>(
        &self,
        lane: Guard,
        manner: Manner,
        command: &Cmd,
        deadline: Instant,
        read: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<T, Failed> {
        let started = Instant::now();
        let Some(breaker) = self.breaker(lane) else {
            return self.send(manner, command, deadline, read).await;
        };
        let permit = breaker.admit(started)?;
        let result = self.send(manner, command, deadline, read).await;
        let now = Instant::now();
        #[cfg(feature = "metrics")]
        metrics::histogram!("response_cache_store_seconds", "lane" => lane.name())
            .record((now - started).as_secs_f64());
        let error = result.as_ref().err().map(|failed| &failed.error);
        let limit = self.supervisor.settings.operation_timeout;
        let change = match verdict(error, now - started, limit) {
            Verdict::Good => permit.succeed(),
            Verdict::Bad => permit.fail(now),
            Verdict::Neither => Change::None,
        };
        self.tell(lane, change, error);
        result
    }

    /// Sends a command if there is room for one more.
    async fn send<T>(
        &self,
        manner: Manner,
        command: &Cmd,
        deadline: Instant,
        read: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<T, Failed> {
        if deadline <= Instant::now() {
            return Err(StoreError::TimedOut.into());
        }
        let _slot = self.take_slot()?;
        self.supervisor
            .execute(manner, command, deadline, read)
            .await
    }

    fn take_slot(&self) -> Result<Slot<'_>, StoreError> {
        let slot = Slot(&self.in_flight);
        match self.in_flight.fetch_add(1, Ordering::Relaxed) {
            taken if taken < self.supervisor.settings.max_in_flight => Ok(slot),
            _ => Err(StoreError::Busy),
        }
    }

    fn tell(&self, lane: Guard, change: Change, error: Option<&StoreError>) {
        let store = &self.supervisor.settings.url;
        let lane = lane.name();
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

    fn breaker(&self, lane: Guard) -> Option<&Breaker> {
        match lane {
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
