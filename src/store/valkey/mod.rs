//! The shared store in Valkey, or in anything that speaks its protocol.

mod client;
mod cluster;
mod command;
mod log;
mod settings;
mod url;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::time::Instant;

use self::client::bounded::BoundedReads;
use self::client::{Guard, Manner, Node};
use self::cluster::Cluster;
use self::log::PurgeStream;
use self::url::Location;
use super::{
    AppendOptions, Appended, BoxFuture, Health, Leased, LogBounds, LogPosition, Presence,
    SharedStore,
};
use crate::error::StoreError;

#[cfg(feature = "tls")]
pub use self::settings::TlsSettings;
pub use self::settings::{CredentialsProvider, ValkeySettings};
pub use self::url::{StoreUrl, UrlError};

/// A [`SharedStore`] in Valkey: one multiplexed connection to each server, kept good by a
/// supervisor.
///
/// Whatever the server does, an operation costs at most its deadline: while there is no
/// connection it fails at once, and after failures in a row a breaker, one for reads and
/// one for writes, spares the attempt.
///
/// An empty value is as none. For a minute after a read that took too long, values are read by
/// `GETRANGE`, in case a huge one of someone else's was the reason.
///
/// It needs a tokio runtime with I/O and time enabled to work, but none to be created. It
/// may outlive the runtime that it connected on, and connects anew on the next.
pub struct ValkeyStore {
    topology: Topology,
    settings: ValkeySettings,
    care: Arc<BoundedReads>,
    log: PurgeStream,
    /// The server lacks a compare-and-delete: leases are left to expire.
    leases_expire: AtomicBool,
}

enum Topology {
    /// A server, or the primary that Sentinels name.
    One(Arc<Node>),
    Cluster(Cluster),
}

impl ValkeyStore {
    /// A store that connects when it is first used. Does no I/O.
    #[must_use]
    pub fn new(settings: ValkeySettings) -> Self {
        let care = Arc::new(BoundedReads::new());
        let topology = match &settings.url.place {
            Location::Cluster(transport, seeds) => {
                let cluster = Cluster::new(
                    settings.clone(),
                    *transport,
                    seeds.clone(),
                    Arc::clone(&care),
                );
                Topology::Cluster(cluster)
            }
            Location::Server(..) | Location::Unix { .. } | Location::Sentinel { .. } => {
                Topology::One(Arc::new(Node::new(settings.clone(), Arc::clone(&care))))
            }
        };
        Self {
            topology,
            log: PurgeStream::of(&settings.prefix),
            settings,
            care,
            leases_expire: AtomicBool::new(false),
        }
    }

    /// The connection in use, for commands that this crate does not wrap; `None` while there
    /// is none. In a cluster it is the one to the node that keeps the log.
    ///
    /// It is shared with the cache: a blocking command on it holds up everything else, and a reply
    /// longer than the cache reads (see [`ValkeySettings::longest_value`]) ends it. Its answers are
    /// waited for half a second by default. It ends when the cache replaces it, so ask for it again
    /// rather than keep it.
    #[must_use]
    pub fn connection(&self) -> Option<MultiplexedConnection> {
        let mut connection = self.log_node()?.supervisor.current()?.connection();
        connection.set_response_timeout(RESPONSE_TIMEOUT);
        Some(connection)
    }

    /// Runs a command about one key, wherever that key is.
    async fn run<T>(
        &self,
        lane: Guard,
        key: &str,
        command: Cmd,
        deadline: Instant,
        read: impl Fn(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &self.topology {
            Topology::One(node) => node
                .run(lane, Manner::Plain, &command, deadline, read)
                .await
                .map_err(|failed| failed.error),
            // Boxed because it is large, and a round trip costs more.
            Topology::Cluster(cluster) => {
                Box::pin(cluster.run(lane, key, &command, deadline, read)).await
            }
        }
    }

    /// A write succeeded, so the server takes writes. A cluster's replicas do not answer at all.
    fn note_writable(&self) {
        if let Topology::One(node) = &self.topology {
            node.supervisor.note_writable();
        }
    }

    /// The node that has `key`, if it is known.
    fn known_node_of(&self, key: &str) -> Option<Arc<Node>> {
        match &self.topology {
            Topology::One(node) => Some(Arc::clone(node)),
            Topology::Cluster(cluster) => cluster.known_node_of(key),
        }
    }
}

impl SharedStore for ValkeyStore {
    fn get<'a>(
        &'a self,
        key: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let longest = self.settings.longest_value;
        let command = match self.care.is_due() {
            false => command::get(key),
            true => command::get_carefully(key, longest),
        };
        Box::pin(async move {
            let value = |reply| command::value(reply, longest);
            let read = self.run(Guard::Read, key, command, deadline, value).await;
            if let Err(StoreError::TimedOut | StoreError::TooLong) = &read {
                self.care.take();
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
                .inspect(|()| self.note_writable())
        })
    }

    /// Past the breaker: it may be open because the server is full, and removals still work
    /// there; nor may a removal wait for a probe.
    fn remove<'a>(
        &'a self,
        keys: &'a [String],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        // In a cluster each key may be elsewhere.
        let at_once = match &self.topology {
            Topology::One(_) => keys.len().max(1),
            Topology::Cluster(_) => 1,
        };
        Box::pin(async move {
            let mut removed = 0;
            for keys in keys.chunks(at_once) {
                let Some(first) = keys.first() else { continue };
                let command = command::unlink(keys);
                let count = |reply| command::count(&reply);
                removed += self
                    .run(Guard::Free, first, command, deadline, count)
                    .await
                    .inspect(|_removed| self.note_writable())?;
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
            let count = |reply| command::count(&reply);
            let released = self.run(Guard::Free, key, command, deadline, count);
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

    /// In a cluster, to the node that keeps the log.
    fn ping(&self, deadline: Instant) -> BoxFuture<'_, Result<Duration, StoreError>> {
        Box::pin(async move {
            let started = Instant::now();
            let nonce = fastrand::u64(..);
            let command = command::ping(nonce);
            let pong = |reply| command::pong(&reply, nonce);
            self.run(Guard::Free, &self.log.name, command, deadline, pong)
                .await?;
            Ok(started.elapsed())
        })
    }

    /// In a cluster that is a matter of the key.
    fn is_away(&self) -> bool {
        match &self.topology {
            Topology::One(node) => node.supervisor.is_down(),
            Topology::Cluster(_) => false,
        }
    }

    fn health(&self) -> Health {
        match &self.topology {
            Topology::One(node) => node.supervisor.health(),
            Topology::Cluster(cluster) => cluster.health(&self.log.name),
        }
    }

    /// Past the breaker: a purge is tried whenever there is a connection.
    fn log_append<'a>(
        &'a self,
        record: &'a [u8],
        options: AppendOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Appended, StoreError>> {
        Box::pin(self.append(record, options, deadline))
    }

    fn log_holds(
        &self,
        position: LogPosition,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Presence, StoreError>> {
        let command = command::log_look(&self.log.name, position);
        Box::pin(async move {
            let presence = |reply| command::presence(&reply);
            let found = self.run(Guard::Free, &self.log.name, command, deadline, presence);
            match found.await {
                // Not permitted: positions and counts have to do.
                Err(StoreError::Refused) => Ok(Presence::Unknown),
                found => found,
            }
        })
    }

    fn log_read(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> BoxFuture<'_, Result<Vec<(LogPosition, Bytes)>, StoreError>> {
        Box::pin(self.read_log(after, block))
    }

    /// Waits for a connection, unlike all else: the log's reader has nothing better to do, and
    /// nothing stored is trusted again before it has looked.
    fn log_bounds(&self, deadline: Instant) -> BoxFuture<'_, Result<LogBounds, StoreError>> {
        Box::pin(async move {
            if let Topology::One(node) = &self.topology {
                node.supervisor.until_linked(deadline).await;
            }
            self.check_role(deadline).await?;
            let bounds = self.bounds(deadline).await?;
            self.log
                .known(|known| known.last_generated = bounds.last_generated());
            Ok(bounds)
        })
    }

    fn note_mismatch(&self, key: &str) {
        if let Some(node) = self.known_node_of(key) {
            node.supervisor.note_mismatch();
        }
    }
}

impl fmt::Debug for ValkeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkeyStore")
            .field("url", &self.settings.url)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// What the client library waits by default.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
