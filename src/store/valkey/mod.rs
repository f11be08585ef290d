//! The shared store in Valkey, or in anything that speaks its protocol.

mod client;
mod cluster;
mod command;
mod log;
mod settings;
mod topology;
mod url;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::time::Instant;

use self::client::connect::Connector;
use self::client::guard::Guard;
use self::client::node::Operation;
use self::log::PurgeStream;
use self::topology::Topology;
use super::{
    AppendOptions, Appended, BoxFuture, Health, Leased, LogBounds, LogPosition, Presence,
    SharedStore,
};
use crate::error::StoreError;

#[cfg(feature = "tls")]
pub use self::settings::TlsSettings;
pub use self::settings::{CredentialsProvider, ValkeySettings};
pub use self::url::{StoreUrl, UrlError};

/// A [`SharedStore`] in Valkey: one multiplexed connection to each server, replaced when it
/// fails.
///
/// An operation costs at most its deadline, whatever the server does. While there is no
/// connection, operations fail at once. After failures in a row a breaker, one for reads and one
/// for writes, suspends them.
///
/// An empty value counts as none. For a minute after a read that took too long, values are read
/// by `GETRANGE`, in case a huge value of another application was the reason.
///
/// The store can be created without a tokio runtime, and works within one that has I/O and time
/// enabled. It may outlive the runtime that it connected on, and connects anew on the next.
pub struct ValkeyStore {
    topology: Arc<Topology>,
    connector: Connector,
    log: PurgeStream,
    /// The server lacks a compare-and-delete, so leases are left to expire.
    leases_expire: AtomicBool,
}

impl ValkeyStore {
    /// A store that connects when it is first used. Does no I/O.
    #[must_use]
    pub fn new(settings: ValkeySettings) -> Self {
        let connector = Connector::new(settings);
        let topology = Arc::new(Topology::new(connector.clone()));
        Self {
            log: PurgeStream::new(&connector.settings, Arc::clone(&topology)),
            topology,
            connector,
            leases_expire: AtomicBool::new(false),
        }
    }

    /// The connection in use, for commands that this crate does not wrap; `None` while there
    /// is none. In a cluster it is the one to the node that keeps the log.
    ///
    /// The cache uses the same connection: a blocking command on it holds up everything else, and
    /// a reply longer than the cache reads (see [`ValkeySettings::longest_value`]) ends it. A
    /// command fails if its answer takes longer than half a second, which you can change. When the
    /// cache replaces the connection, the old one ends, so ask for it again rather than keep it.
    #[must_use]
    pub fn connection(&self) -> Option<MultiplexedConnection> {
        let mut connection = self.log.node()?.current()?.connection();
        connection.set_response_timeout(RESPONSE_TIMEOUT);
        Some(connection)
    }

    /// Runs a command about one key.
    async fn run<T>(
        &self,
        guard: Guard,
        key: &str,
        command: Cmd,
        deadline: Instant,
        read: impl Fn(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let operation = Operation::new(guard, command, deadline);
        self.topology.run(key, operation, read).await
    }
}

impl SharedStore for ValkeyStore {
    fn get<'a>(
        &'a self,
        key: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let bounded_reads = &self.connector.bounded_reads;
        let longest = self.connector.settings.longest_value;
        let command = if bounded_reads.are_on() {
            command::get_bounded(key, longest)
        } else {
            command::get(key)
        };
        Box::pin(async move {
            let value = |reply| command::value(reply, longest);
            let read = self.run(Guard::Read, key, command, deadline, value).await;
            if let Err(StoreError::TimedOut | StoreError::TooLong) = &read {
                bounded_reads.begin();
            }
            read
        })
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
            let okay = |reply| command::okay(&reply);
            self.run(Guard::Write, key, command, deadline, okay)
                .await
                .inspect(|()| self.topology.note_writable())
        })
    }

    /// Removals pass no breaker: a full server opens it, and still removes. Nor may a removal wait
    /// for a probe.
    fn remove<'a>(
        &'a self,
        keys: &'a [String],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        // In a cluster each key may be on another node.
        let at_once = if self.topology.is_cluster() {
            1
        } else {
            keys.len().max(1)
        };
        Box::pin(async move {
            let mut removed = 0;
            for keys in keys.chunks(at_once) {
                let Some(first) = keys.first() else { continue };
                let command = command::unlink(keys);
                let count = |reply| command::count(&reply);
                removed += self
                    .run(Guard::Unguarded, first, command, deadline, count)
                    .await
                    .inspect(|_removed| self.topology.note_writable())?;
            }
            Ok(removed)
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
        Box::pin(async move {
            let leased = |reply| command::leased(&reply);
            self.run(Guard::Write, key, command, deadline, leased).await
        })
    }

    /// Passes no breaker, like every removal.
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
            let count = |reply| command::count(&reply);
            let released = self.run(Guard::Unguarded, key, command, deadline, count);
            match released.await {
                Ok(_removed) => Ok(()),
                // The plain code of an unknown command: the arguments cannot be wrong.
                Err(StoreError::Server(code)) if code.as_str() == "ERR" => {
                    self.leases_expire.store(true, Ordering::Relaxed);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Pings the server, or the node of a cluster that keeps the log.
    fn ping(&self, deadline: Instant) -> BoxFuture<'_, Result<Duration, StoreError>> {
        Box::pin(async move {
            let started = Instant::now();
            let nonce = fastrand::u64(..);
            let command = command::ping(nonce);
            let pong = |reply| command::pong(&reply, nonce);
            self.run(Guard::Unguarded, &self.log.name, command, deadline, pong)
                .await?;
            Ok(started.elapsed())
        })
    }

    fn is_away(&self) -> bool {
        self.topology.is_down()
    }

    fn health(&self) -> Health {
        self.topology.health(&self.log.name)
    }

    /// Purges pass no breaker: they are tried whenever there is a connection.
    fn log_append<'a>(
        &'a self,
        record: &'a [u8],
        options: AppendOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Appended, StoreError>> {
        Box::pin(self.log.append(record, options, deadline))
    }

    fn log_holds(
        &self,
        position: LogPosition,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Presence, StoreError>> {
        Box::pin(self.log.holds(position, deadline))
    }

    fn log_read(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> BoxFuture<'_, Result<Vec<(LogPosition, Bytes)>, StoreError>> {
        Box::pin(self.log.read(after, block))
    }

    fn log_bounds(&self, deadline: Instant) -> BoxFuture<'_, Result<LogBounds, StoreError>> {
        Box::pin(self.log.bounds(deadline))
    }

    fn log_takes_writes(&self, deadline: Instant) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.log.prove_writable(deadline))
    }

    fn note_mismatch(&self, key: &str) {
        if let Some(node) = self.topology.known_node_of(key) {
            node.note_mismatch();
        }
    }
}

impl fmt::Debug for ValkeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkeyStore")
            .field("url", &self.connector.settings.url)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// The client library's default.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
