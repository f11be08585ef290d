//! The store that instances share.
//!
//! [`SharedStore`] is the interface: values under keys with a lifetime, and one ordered log for
//! purges. Every operation takes a deadline and keeps it, whatever the server does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use tokio::time::Instant;

pub use crate::base::position::LogPosition;
pub(crate) use crate::error::StoreError;

#[cfg(feature = "test-util")]
mod chaos;
#[cfg(feature = "test-util")]
mod in_process;
mod lookup;
mod memory;
mod rejected;
mod shared;
mod tiers;
pub(crate) mod valkey;
mod variants;

#[cfg(feature = "test-util")]
pub use chaos::ChaosStore;
#[cfg(feature = "test-util")]
pub use in_process::{InProcessStore, Outage};
pub(crate) use lookup::{Lookup, MemoryLookup};
pub(crate) use memory::{Memory, least_for};
pub(crate) use shared::{Flushed, Shared, SharedSettings};
pub(crate) use tiers::{Reach, Tiers};
#[cfg(feature = "tls")]
pub use valkey::TlsSettings;
pub use valkey::{CredentialsProvider, StoreUrl, UrlError, ValkeySettings, ValkeyStore};
pub(crate) use variants::NewResponse;

/// A boxed future, so that [`SharedStore`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store of bytes that several instances share, with an ordered log beside it.
///
/// All futures are safe to drop at any point. An operation that is given up may or may not have
/// reached the server, and the store stays usable. No future resolves later than its deadline, as
/// far as the timer is precise.
pub trait SharedStore: fmt::Debug + Send + Sync + 'static {
    /// The value under `key`, if there is one.
    fn get<'a>(
        &'a self,
        key: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Stores `value` under `key` for `ttl`, in whole milliseconds and at least one.
    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes `keys`, and returns how many of them existed.
    fn remove<'a>(
        &'a self,
        keys: &'a [String],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Takes a lease on `key` for `token`, unless another token holds it. The lease ends when `ttl`
    /// has passed or it is released.
    ///
    /// Leases save work among instances. Nothing depends on their being exclusive. By default every
    /// lease is granted.
    fn lease<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Leased, StoreError>> {
        let _unused = (key, token, ttl, deadline);
        Box::pin(std::future::ready(Ok(Leased::Granted)))
    }

    /// Gives a lease back, if `token` still holds it. A store that cannot tell lets it expire.
    fn release<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _unused = (key, token, deadline);
        Box::pin(std::future::ready(Ok(())))
    }

    /// Makes one round trip to the server, and returns how long it took.
    fn ping(&self, deadline: Instant) -> BoxFuture<'_, Result<Duration, StoreError>>;

    /// Whether an operation would fail at once, because there is no connection and one is being
    /// made already. The cache asks this before it encodes a value. It never does I/O. A store that
    /// does not know returns `false`.
    fn is_away(&self) -> bool {
        false
    }

    /// The state of the store, as far as it is known. Never does I/O.
    fn health(&self) -> Health;

    /// Appends `record` to the log.
    ///
    /// An error means that the record may not have been appended, so the caller must not report
    /// success. Appending it again is harmless.
    ///
    /// If `options` ask for replicas, the store waits for them within the deadline. It is no error
    /// if fewer replicas have the record, or if their number is not known: [`Appended`] says so. A
    /// store without replicas does not wait.
    fn log_append<'a>(
        &'a self,
        record: &'a [u8],
        options: AppendOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Appended, StoreError>>;

    /// Whether there is a record at `position`. By this an instance finds out whether the log is
    /// still the one that it has read. A store that never loses a record need not implement it.
    fn log_holds(
        &self,
        position: LogPosition,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Presence, StoreError>> {
        let _unused = (position, deadline);
        Box::pin(std::future::ready(Ok(Presence::Unknown)))
    }

    /// The records after position `after`, oldest first, a bounded number at a time.
    ///
    /// Waits up to `block` for the first record, and returns an empty list if none came. The read
    /// uses a connection of its own. If the server fails, making that connection and noticing its
    /// silence may each add the time that a connection may take. After a fault the read waits
    /// before it dials again, so that a loop of reads does not spin. There is one reader at a time.
    /// A second one gets [`StoreError::Busy`](crate::StoreError::Busy).
    fn log_read(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> BoxFuture<'_, Result<Vec<(LogPosition, Bytes)>, StoreError>>;

    /// The records that the log holds now. A server that is only a replica is an error too: it may
    /// lag behind the log for as long as it is cut off from its primary.
    fn log_bounds(&self, deadline: Instant) -> BoxFuture<'_, Result<LogBounds, StoreError>>;

    /// Makes sure that the log could take a record now, without appending one: it makes a small
    /// write where the log is kept. No instance can announce a change to a log that refuses
    /// records, so such a log counts as out of sight. A store that always takes records need not
    /// implement this.
    fn log_takes_writes(&self, deadline: Instant) -> BoxFuture<'_, Result<(), StoreError>> {
        let _unused = deadline;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Tells the store that a value read under `key` belongs to another key. The replies on the
    /// connection may have slipped, so the store replaces it and trusts no reply that is under way
    /// on it.
    fn note_mismatch(&self, key: &str);
}

/// The answer to a request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leased {
    /// The caller has the lease.
    Granted,
    /// Another token holds the lease.
    Held,
}

/// How to append a record to the log. By default the record gets the next position, wherever that
/// is, and no replica is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppendOptions {
    /// The record's position has to be later than this one, even if the log ends before it. If a
    /// log is made anew and the server's clock is behind, it would otherwise give out the same
    /// positions a second time. A store whose positions never go backwards may ignore this.
    pub after: Option<LogPosition>,
    /// The number of replicas of the server to wait for until they have the record as well.
    pub replicas: u32,
}

impl AppendOptions {
    /// The default options.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            after: None,
            replicas: 0,
        }
    }

    /// Sets [`after`](Self::after).
    #[must_use]
    pub const fn after(mut self, position: LogPosition) -> Self {
        self.after = Some(position);
        self
    }

    /// Sets [`replicas`](Self::replicas).
    #[must_use]
    pub const fn replicas(mut self, count: u32) -> Self {
        self.replicas = count;
        self
    }
}

/// The result of appending a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "made by stores outside this crate"
)]
pub struct Appended {
    /// The record's position.
    pub position: LogPosition,
    /// The number of replicas that have acknowledged the record, or why it is not known.
    pub replicas: Result<u32, StoreError>,
}

impl Appended {
    /// A record at `position`, for which no replica was asked.
    #[must_use]
    pub const fn unreplicated(position: LogPosition) -> Self {
        Self {
            position,
            replicas: Ok(0),
        }
    }
}

/// Whether the log has a certain record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// The record is there.
    Present,
    /// The record is not there: it was trimmed or lost.
    Absent,
    /// The store cannot tell.
    Unknown,
}

/// The records that the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogBounds {
    /// There is no log: nothing was ever appended, or the log was lost.
    Missing,
    /// There is a log, and it has no records any more.
    Empty {
        /// The last position that was ever given out.
        last_generated: LogPosition,
        /// The number of records that were ever appended, if the server knows it (from version 7).
        added: Option<u64>,
    },
    /// There are records.
    Held {
        /// The oldest record retained.
        first: LogPosition,
        /// The newest record retained.
        last: LogPosition,
        /// The last position that was ever given out.
        last_generated: LogPosition,
        /// Whether there once were records older than `first`.
        trimmed: Trimmed,
        /// The number of records that were ever appended, if the server knows it (from version 7).
        added: Option<u64>,
    },
}

impl LogBounds {
    /// The number of records that were ever appended, if it is known. Zero without a log.
    #[must_use]
    pub const fn added(&self) -> Option<u64> {
        match self {
            Self::Missing => Some(0),
            Self::Empty { added, .. } | Self::Held { added, .. } => *added,
        }
    }

    /// The last position that was ever given out. [`LogPosition::ZERO`] without a log.
    #[must_use]
    pub const fn last_generated(&self) -> LogPosition {
        match self {
            Self::Missing => LogPosition::ZERO,
            Self::Empty { last_generated, .. } | Self::Held { last_generated, .. } => {
                *last_generated
            }
        }
    }
}

/// Whether old records were removed from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trimmed {
    /// Every record that was ever appended is still there.
    Nothing,
    /// Some records were removed, or the server does not know (before version 7).
    Some,
}

/// The state of a store as it knows it now, without asking the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The state of the connection.
    pub state: StoreState,
    /// When that state began.
    pub since: StdInstant,
    /// The breaker of reads.
    pub read_breaker: BreakerState,
    /// The breaker of writes.
    pub write_breaker: BreakerState,
    /// The number of connections attempted so far, with those of the log.
    pub dials: u64,
    /// The number of reads that returned a value of another key.
    pub mismatches: u64,
    /// The number of times that a breaker has opened.
    pub suspensions: u64,
    /// The last fault of the connection, in words and without secrets.
    pub last_error: Option<String>,
}

impl Health {
    /// A report for stores of your own: a state and when it began, with all counts zero.
    #[must_use]
    pub const fn new(state: StoreState, since: StdInstant) -> Self {
        Self {
            state,
            since,
            read_breaker: BreakerState::Closed,
            write_breaker: BreakerState::Closed,
            dials: 0,
            mismatches: 0,
            suspensions: 0,
            last_error: None,
        }
    }
}

/// The state of the connection to the shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreState {
    /// There was no attempt to connect yet. The first operation makes one.
    Idle,
    /// The first connection is being made.
    Connecting,
    /// The server is connected and answers.
    Ready,
    /// The server is connected and takes no writes.
    ReadOnly,
    /// The server is there and does not serve yet (`LOADING`, `MASTERDOWN`, `BUSY`).
    Loading,
    /// The server cannot be reached, or does not answer.
    Unreachable,
    /// The server refuses the credentials.
    Refused,
}

impl StoreState {
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Self; 7] = [
        Self::Idle,
        Self::Connecting,
        Self::Ready,
        Self::ReadOnly,
        Self::Loading,
        Self::Unreachable,
        Self::Refused,
    ];

    /// A short, stable name for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::ReadOnly => "read-only",
            Self::Loading => "loading",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

/// The state of a breaker, which lets operations of one kind through or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// The breaker lets all operations through.
    Closed,
    /// The breaker lets no operation through until the next probe.
    Open,
    /// One operation is under way as a probe.
    Probing,
}

impl BreakerState {
    /// A short, stable name for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
}
