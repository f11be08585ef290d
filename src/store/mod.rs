//! The store that instances share.
//!
//! [`SharedStore`] is all that the cache needs from it: values under keys with a lifetime,
//! and one ordered log for purges. Every operation takes a deadline and keeps it, whatever
//! the server does.

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
pub(crate) use memory::Memory;
pub(crate) use shared::{Flushed, Shared, SharedSettings};
pub(crate) use tiers::{Reach, Stored, Tiers};
#[cfg(feature = "tls")]
pub use valkey::TlsSettings;
pub use valkey::{CredentialsProvider, StoreUrl, UrlError, ValkeySettings, ValkeyStore};

/// A boxed future, so that [`SharedStore`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store of bytes that several instances share, with an ordered log beside it.
///
/// All futures are safe to drop at any point: an operation given up may or may not have
/// reached the server, and the store stays usable. None resolves later than its deadline,
/// but for the timer's precision.
pub trait SharedStore: fmt::Debug + Send + Sync + 'static {
    /// The value under `key`, if there is one.
    fn get<'a>(
        &'a self,
        key: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Stores `value` under `key` for `ttl` (to the millisecond, at least one).
    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes `keys` and tells how many of them existed.
    fn remove<'a>(
        &'a self,
        keys: &'a [String],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Takes `key` for `token` until `ttl` has passed or it is released, unless another has it.
    ///
    /// Leases save work among instances; nothing depends on their being exclusive. A store that
    /// does not implement them grants each one.
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

    /// Gives a lease back, if `token` has it still. A store that cannot tell leaves it to expire.
    fn release<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _unused = (key, token, deadline);
        Box::pin(std::future::ready(Ok(())))
    }

    /// One round trip to the server, and how long it took.
    fn ping(&self, deadline: Instant) -> BoxFuture<'_, Result<Duration, StoreError>>;

    /// Whether an operation would fail at once, because there is no connection and one is being
    /// made already. Asked before a value is made ready to be written; never does I/O. A store
    /// that does not know says no.
    fn is_away(&self) -> bool {
        false
    }

    /// What is known of the store's state. Never does I/O.
    fn health(&self) -> Health;

    /// Appends `record` to the log.
    ///
    /// An error means that the record may not have been appended: the caller must not
    /// report success. Appending it again is harmless.
    ///
    /// Where `options` want replicas, it waits for them within the deadline. That fewer of them
    /// have the record, or that it is not known how many, is no error: [`Appended`] tells. A store
    /// without replicas has none to wait for.
    fn log_append<'a>(
        &'a self,
        record: &'a [u8],
        options: AppendOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Appended, StoreError>>;

    /// Whether there is a record at `position`: whether the log is still the one that was read.
    /// A store that never loses a record needs nothing of its own.
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
    /// Waits up to `block` for the first one and returns an empty list if none came. It uses
    /// a connection of its own; with a server at fault, making that connection and noticing
    /// its silence may each add the time that a connection may take. After a fault it waits
    /// before it dials again, so that calling it in a loop does not spin. One reader at a
    /// time; a second one is told that the store is busy.
    fn log_read(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> BoxFuture<'_, Result<Vec<(LogPosition, Bytes)>, StoreError>>;

    /// What the log holds at the moment. An error as well where the server is only a replica: it
    /// may lag behind the log, for as long as it is cut off from where purges are written.
    fn log_bounds(&self, deadline: Instant) -> BoxFuture<'_, Result<LogBounds, StoreError>>;

    /// Makes sure that the log could take a record now, without appending one: by a small write
    /// where the log is kept. A log that refuses records cannot tell what was changed, so it counts
    /// as out of sight. A store that always takes them needs nothing of its own.
    fn log_takes_writes(&self, deadline: Instant) -> BoxFuture<'_, Result<(), StoreError>> {
        let _unused = deadline;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Says that what was read under `key` belongs to another key: the connection's replies may
    /// have slipped, so it is replaced and what is under way on it is not trusted.
    fn note_mismatch(&self, key: &str);
}

/// What asking for a lease came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leased {
    /// It is the caller's.
    Granted,
    /// Another has it.
    Held,
}

/// How a record is to be appended to the log. By default: at the next position, wherever that is,
/// and without waiting for replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppendOptions {
    /// Its position has to be later than this one, though the log may end before it: a log that
    /// is made anew, by a clock that is behind, would otherwise give out positions a second time.
    /// A store whose positions never go backwards needs nothing of its own for it.
    pub after: Option<LogPosition>,
    /// How many replicas of the server are waited for until they have the record as well.
    pub replicas: u32,
}

impl AppendOptions {
    /// The default: see [`AppendOptions`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            after: None,
            replicas: 0,
        }
    }

    /// See [`after`](Self::after).
    #[must_use]
    pub const fn after(mut self, position: LogPosition) -> Self {
        self.after = Some(position);
        self
    }

    /// See [`replicas`](Self::replicas).
    #[must_use]
    pub const fn replicas(mut self, count: u32) -> Self {
        self.replicas = count;
        self
    }
}

/// A record that was appended, and where else it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "made by stores outside this crate"
)]
pub struct Appended {
    /// Its position.
    pub position: LogPosition,
    /// How many replicas have said that they have it, or why that is not known.
    pub replicas: Result<u32, StoreError>,
}

impl Appended {
    /// Appended, with no replica asked.
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
    /// It is there.
    Present,
    /// It is not: trimmed, or lost.
    Absent,
    /// The store cannot tell.
    Unknown,
}

/// What the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogBounds {
    /// There is no log: nothing was ever appended, or it is lost.
    Missing,
    /// There is a log, and all its records are gone.
    Empty {
        /// The last position that was ever given out.
        last_generated: LogPosition,
        /// How many records were ever appended, if the server can tell (from version 7).
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
        /// Whether older records than `first` were there once.
        trimmed: Trimmed,
        /// How many records were ever appended, if the server can tell (from version 7).
        added: Option<u64>,
    },
}

impl LogBounds {
    /// How many records were ever appended, if that is known: zero without a log.
    #[must_use]
    pub const fn added(&self) -> Option<u64> {
        match self {
            Self::Missing => Some(0),
            Self::Empty { added, .. } | Self::Held { added, .. } => *added,
        }
    }

    /// The last position that was ever given out, [`LogPosition::ZERO`] without a log.
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

/// Whether records are gone from the log's old end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trimmed {
    /// Every record ever appended is still there.
    Nothing,
    /// Some are gone, or the server cannot tell (before version 7).
    Some,
}

/// What a store knows of itself, as of now, without asking the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The state of the connection.
    pub state: StoreState,
    /// When that state began.
    pub since: StdInstant,
    /// Whether reads are let through.
    pub read_breaker: BreakerState,
    /// Whether writes are let through.
    pub write_breaker: BreakerState,
    /// How many connections were attempted so far, the log's own included.
    pub dials: u64,
    /// How often a value of another key was read.
    pub mismatches: u64,
    /// How often a breaker has opened.
    pub suspensions: u64,
    /// The last fault of the connection, in words and without secrets.
    pub last_error: Option<String>,
}

impl Health {
    /// In a state since a moment, with nothing else to tell: for stores of your own.
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
    /// Not dialled yet: the first operation will.
    Idle,
    /// The first connection is being made.
    Connecting,
    /// Connected and answering.
    Ready,
    /// Connected, and the server takes no writes.
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

/// Whether a kind of operation is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// All operations are let through.
    Closed,
    /// None are, until the next probe.
    Open,
    /// One is under way to find out.
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
