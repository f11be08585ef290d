//! The shared store in Valkey, or in anything that speaks its protocol.

mod attempt;
mod breaker;
mod command;
mod dial;
mod link;
mod sentinel;
mod settings;
mod state;
mod supervisor;
mod tail;
mod url;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::time::Instant;

use self::breaker::{Breaker, Change};
use self::supervisor::Supervisor;
use self::tail::Tail;
use super::{BoxFuture, Health, Leased, LogBounds, LogPosition, SharedStore};
use crate::error::StoreError;

#[cfg(feature = "tls")]
pub use self::settings::TlsSettings;
pub use self::settings::{CredentialsProvider, ValkeySettings};
pub use self::url::{StoreUrl, UrlError};

/// A [`SharedStore`] in Valkey: one multiplexed connection, kept good by a supervisor.
///
/// Whatever the server does, an operation costs at most its deadline: while there is no
/// connection it fails at once, and after failures in a row a breaker, one for reads and
/// one for writes, spares the attempt.
///
/// It needs a tokio runtime with I/O and time enabled to work, but none to be created. It
/// may outlive the runtime that it connected on, and connects anew on the next.
pub struct ValkeyStore {
    supervisor: Arc<Supervisor>,
    tail: Tail,
    log: String,
    in_flight: AtomicUsize,
    /// The server lacks a compare-and-delete: leases are left to expire.
    leases_expire: AtomicBool,
}

impl ValkeyStore {
    /// A store that connects when it is first used. Does no I/O.
    #[must_use]
    pub fn new(settings: ValkeySettings) -> Self {
        Self {
            log: format!("{}:log", settings.prefix),
            supervisor: Supervisor::new(settings),
            tail: Tail::new(),
            in_flight: AtomicUsize::new(0),
            leases_expire: AtomicBool::new(false),
        }
    }

    /// The connection in use, for commands that this crate does not wrap; `None` while there
    /// is none.
    ///
    /// It is shared with the cache: a blocking command on it holds up everything else. Its
    /// answers are waited for half a second by default, and it is not replaced when the
    /// cache's is, so ask for it again rather than keep it.
    #[must_use]
    pub fn connection(&self) -> Option<MultiplexedConnection> {
        let mut connection = self.supervisor.current()?.connection();
        connection.set_response_timeout(RESPONSE_TIMEOUT);
        Some(connection)
    }

    /// Sends a command, with a breaker that decides whether to, and learns from how it went.
    async fn gated<T>(
        &self,
        lane: Lane,
        command: Cmd,
        deadline: Instant,
        read: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let breaker = self.breaker(lane);
        let permit = breaker.admit(started)?;
        let result = self.ungated(command, deadline, read).await;
        let now = Instant::now();
        let change = match verdict(&result, now - started, self.operation_timeout()) {
            Verdict::Good => permit.succeed(),
            Verdict::Bad => permit.fail(now),
            Verdict::Neither => Change::None,
        };
        self.tell(lane, change, &result);
        result
    }

    /// Sends a command if there is room for one more.
    async fn ungated<T>(
        &self,
        command: Cmd,
        deadline: Instant,
        read: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if deadline <= Instant::now() {
            return Err(StoreError::TimedOut);
        }
        let _slot = self.take_slot()?;
        self.supervisor.execute(&command, deadline, read).await
    }

    fn take_slot(&self) -> Result<Slot<'_>, StoreError> {
        let slot = Slot(&self.in_flight);
        match self.in_flight.fetch_add(1, Ordering::Relaxed) {
            taken if taken < self.supervisor.settings.max_in_flight => Ok(slot),
            _ => Err(StoreError::Busy),
        }
    }

    fn tell<T>(&self, lane: Lane, change: Change, result: &Result<T, StoreError>) {
        let store = &self.supervisor.settings.url;
        let lane = lane.name();
        match (change, result) {
            (Change::None, _) => {}
            (Change::Opened, Err(error)) => {
                tracing::warn!(%store, lane, %error, "the shared store fails; suspended");
            }
            (Change::Opened, Ok(_)) => {
                tracing::warn!(%store, lane, "the shared store is too slow; suspended");
            }
            (Change::Closed, _) => tracing::info!(%store, lane, "the shared store is used again"),
        }
    }

    fn breaker(&self, lane: Lane) -> &Breaker {
        match lane {
            Lane::Read => &self.supervisor.reads,
            Lane::Write => &self.supervisor.writes,
        }
    }

    fn operation_timeout(&self) -> Duration {
        self.supervisor.settings.operation_timeout
    }
}

impl SharedStore for ValkeyStore {
    fn get<'a>(
        &'a self,
        key: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.gated(Lane::Read, command::get(key), deadline, command::value))
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let command = command::set(key, &value, ttl);
        Box::pin(async move {
            self.gated(Lane::Write, command, deadline, |reply| {
                command::okay(&reply)
            })
            .await
            .inspect(|()| self.supervisor.note_writable())
        })
    }

    /// Past the breaker: it may be open because the server is full, and removals still work
    /// there; nor may a removal wait for a probe.
    fn remove<'a>(
        &'a self,
        keys: &'a [String],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        if keys.is_empty() {
            return Box::pin(std::future::ready(Ok(0)));
        }
        Box::pin(async move {
            self.ungated(command::unlink(keys), deadline, |reply| {
                command::count(&reply)
            })
            .await
            .inspect(|_removed| self.supervisor.note_writable())
        })
    }

    fn lease<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Leased, StoreError>> {
        let command = command::lease(key, token, ttl);
        Box::pin(self.gated(Lane::Write, command, deadline, |reply| {
            command::leased(&reply)
        }))
    }

    /// Past the breaker, like every removal.
    fn release<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            if self.leases_expire.load(Ordering::Relaxed) {
                return Ok(());
            }
            let command = command::release(key, token);
            let released = self.ungated(command, deadline, |reply| command::count(&reply));
            match released.await {
                Ok(_whether_it_was_there_still) => Ok(()),
                // The plain code of an unknown command: the arguments cannot be wrong.
                Err(StoreError::Server(code)) if code.as_str() == "ERR" => {
                    self.leases_expire.store(true, Ordering::Relaxed);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })
    }

    fn ping(&self, deadline: Instant) -> BoxFuture<'_, Result<Duration, StoreError>> {
        Box::pin(async move {
            let started = Instant::now();
            let nonce = fastrand::u64(..);
            self.ungated(command::ping(nonce), deadline, |reply| {
                command::pong(&reply, nonce)
            })
            .await?;
            Ok(started.elapsed())
        })
    }

    fn health(&self) -> Health {
        self.supervisor.health()
    }

    /// Past the breaker: a purge is tried whenever there is a connection.
    fn log_append<'a>(
        &'a self,
        record: &'a [u8],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<LogPosition, StoreError>> {
        let max_records = self.supervisor.settings.log_max_records;
        Box::pin(async move {
            let command = command::log_append(&self.log, max_records, record);
            self.ungated(command, deadline, |reply| command::position(&reply))
                .await
                .inspect(|_position| self.supervisor.note_writable())
        })
    }

    fn log_read(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> BoxFuture<'_, Result<Vec<(LogPosition, Bytes)>, StoreError>> {
        Box::pin(self.tail.read(&self.supervisor, &self.log, after, block))
    }

    fn log_bounds(&self, deadline: Instant) -> BoxFuture<'_, Result<LogBounds, StoreError>> {
        Box::pin(async move {
            let command = command::log_bounds(&self.log);
            match self
                .ungated(command, deadline, |reply| command::bounds(&reply))
                .await
            {
                // The plain code of "no such key", the one argument that can be wrong here.
                Err(StoreError::Server(code)) if code.as_str() == "ERR" => Ok(LogBounds::Missing),
                bounds => bounds,
            }
        })
    }

    fn note_mismatch(&self) {
        self.supervisor.note_mismatch();
    }
}

impl fmt::Debug for ValkeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkeyStore")
            .field("url", &self.supervisor.settings.url)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Lane {
    Read,
    Write,
}

impl Lane {
    const fn name(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
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
fn verdict<T>(result: &Result<T, StoreError>, took: Duration, limit: Duration) -> Verdict {
    match result {
        Ok(_) if took >= limit => Verdict::Bad,
        Ok(_) => Verdict::Good,
        // The caller came with less than half of the usual budget.
        Err(StoreError::TimedOut) if took * 2 < limit => Verdict::Neither,
        // Nothing was asked of the server. Without a connection the error is immediate, and
        // once there is one the breaker should not delay its use.
        Err(StoreError::Unavailable | StoreError::Busy | StoreError::Suspended) => Verdict::Neither,
        // Something else keeps a value of another type under this one key.
        Err(StoreError::Server(code)) if code.as_str() == "WRONGTYPE" => Verdict::Neither,
        Err(_) => Verdict::Bad,
    }
}

/// One operation under way.
struct Slot<'a>(&'a AtomicUsize);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the client library waits by default.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
