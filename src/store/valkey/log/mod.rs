//! The purge log, one stream on one node: where it is, and what asking it takes.

mod replicated;
mod tail;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;
use tokio::time::Instant;

use self::replicated::Replicated;
use self::tail::Tail;
use crate::base::task::{self, Spawned};
use crate::error::StoreError;
use crate::store::valkey::client::node::Guard;
use crate::store::valkey::topology::Topology;
use crate::store::valkey::{ValkeySettings, command};
use crate::store::{AppendOptions, Appended, LogBounds, LogPosition};

/// The log, and what is known of it.
pub(crate) struct PurgeStream {
    pub(crate) name: String,
    tail: Tail,
    replicated: Replicated,
    /// What is known of its server from asking it.
    known: Mutex<Known>,
    /// When (ms, by the server's clock) it was last relieved of old records, or first used.
    trimmed: AtomicU64,
    max_records: u64,
    max_age: Duration,
    connect_timeout: Duration,
}

pub(crate) struct Known {
    /// The last position that the log had given out when it was last asked.
    pub(crate) last_generated: LogPosition,
    /// When to ask again whether the server is the primary; never, if it will not say.
    next_role: Option<Instant>,
}

impl PurgeStream {
    /// The log of the instances with this prefix.
    pub(crate) fn new(settings: &ValkeySettings) -> Self {
        Self {
            name: format!("{}:log", settings.prefix),
            tail: Tail::new(),
            replicated: Replicated::new(),
            known: Mutex::new(Known {
                last_generated: LogPosition::ZERO,
                next_role: Some(Instant::now()),
            }),
            trimmed: AtomicU64::new(0),
            max_records: settings.log_max_records,
            max_age: settings.log_max_age,
            connect_timeout: settings.connect_timeout,
        }
    }

    pub(crate) fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PurgeStream {
    pub(crate) async fn read(
        &self,
        topology: &Topology,
        after: LogPosition,
        block: Duration,
    ) -> Result<Vec<(LogPosition, Bytes)>, StoreError> {
        let read = match topology.node_of(&self.name, Instant::now() + block).await {
            Ok(node) => {
                let supervisor = &node.supervisor;
                let known = self.known(|known| known.last_generated);
                self.tail
                    .read(supervisor, &self.name, after, block, known)
                    .await
            }
            Err(error) => {
                tokio::time::sleep(block.min(UNKNOWN_NODE_PAUSE)).await;
                Err(error)
            }
        };
        if let (Topology::Cluster(cluster), Err(error)) = (topology, &read) {
            cluster.note(error);
        }
        read
    }

    pub(crate) async fn append(
        &self,
        topology: &Topology,
        record: &[u8],
        options: AppendOptions,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        let AppendOptions { after, replicas } = options;
        let max = self.max_records;
        if let Some(after) = after {
            let command = command::log_append_at(&self.name, max, after.next(), record);
            match self.append_by(topology, command, replicas, deadline).await {
                // The plain code of a position that the log has passed: the next is later too.
                Err(StoreError::Server(code)) if code.as_str() == "ERR" => {}
                appended => return appended,
            }
        }
        let command = command::log_append(&self.name, max, record);
        self.append_by(topology, command, replicas, deadline)
            .await
            .inspect(|appended| self.trim(topology, appended.position))
    }

    async fn append_by(
        &self,
        topology: &Topology,
        command: Cmd,
        replicas: u32,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        let appended = if replicas > 0 {
            self.append_replicated(topology, &command, replicas, deadline)
                .await
        } else {
            let position = |reply| command::position(&reply);
            topology
                .run(Guard::Free, &self.name, command, deadline, position)
                .await
                .map(Appended::unreplicated)
        };
        appended.inspect(|_appended| topology.note_writable())
    }

    async fn append_replicated(
        &self,
        topology: &Topology,
        command: &Cmd,
        replicas: u32,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        // More than once, since a node that has not heard of the move yet may say otherwise.
        for last in [false, false, false, true] {
            let node = topology.node_of(&self.name, deadline).await?;
            let supervisor = &node.supervisor;
            let appended = self
                .replicated
                .append(supervisor, command, replicas, deadline);
            let error = match appended.await {
                Ok(appended) => return Ok(appended),
                Err(error) => error,
            };
            let Topology::Cluster(cluster) = topology else {
                return Err(error);
            };
            let moved = matches!(&error, StoreError::Server(code) if code.as_str() == "MOVED");
            if last || !moved {
                cluster.note(&error);
                return Err(error);
            }
            // Any command that follows the redirection finds out where to.
            let _ = self.bounds(topology, deadline).await;
        }
        Err(StoreError::Unavailable)
    }

    pub(crate) async fn bounds(
        &self,
        topology: &Topology,
        deadline: Instant,
    ) -> Result<LogBounds, StoreError> {
        let command = command::log_bounds(&self.name);
        let bounds = |reply| command::bounds(&reply);
        match topology
            .run(Guard::Free, &self.name, command, deadline, bounds)
            .await
        {
            // The plain code of "no such key", the one argument that can be wrong here.
            Err(StoreError::Server(code)) if code.as_str() == "ERR" => Ok(LogBounds::Missing),
            bounds => bounds,
        }
    }

    /// Makes sure, about once a second, that the server is a primary by its own account. A
    /// replica answers reads too, and may go on to for as long as it is cut off from its primary:
    /// nobody knows then what has been purged. (A cluster's replicas do not answer at all.)
    pub(crate) async fn check_role(
        &self,
        topology: &Topology,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        let due = self.known(|known| {
            let due = known.next_role.is_some_and(|next| next <= now);
            if due {
                known.next_role = Some(now + ROLE_INTERVAL);
            }
            due
        });
        if !due || matches!(topology, Topology::Cluster(_)) {
            return Ok(());
        }
        let primary = |reply| Ok(command::is_primary(&reply));
        let asked = topology.run(Guard::Free, &self.name, command::role(), deadline, primary);
        match asked.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.known(|known| known.next_role = Some(now));
                Err(StoreError::ReadOnly)
            }
            // Not permitted, or not known where the server is something else: taken on trust.
            Err(StoreError::Refused | StoreError::Server(_)) => {
                self.known(|known| known.next_role = None);
                Ok(())
            }
            Err(error) => {
                self.known(|known| known.next_role = Some(now));
                Err(error)
            }
        }
    }

    /// Relieves the log of records that are older than anything they could be about, about once
    /// an hour. Without anyone waiting: it is an economy, no more.
    pub(crate) fn trim(&self, topology: &Topology, latest: LogPosition) {
        let last = self.trimmed.load(Ordering::Relaxed);
        let due = latest.ms() >= last.saturating_add(TRIM_INTERVAL_MS);
        // Not by the first purge of every instance that starts; nor by two at once.
        if !due || self.trimmed.swap(latest.ms(), Ordering::Relaxed) != last || last == 0 {
            return;
        }
        let age = u64::try_from(self.max_age.as_millis()).unwrap_or(u64::MAX);
        let oldest = LogPosition::new(latest.ms().saturating_sub(age), 0);
        let Some(node) = topology.known_node_of(&self.name) else {
            return;
        };
        let command = command::log_trim(&self.name, oldest);
        let deadline = Instant::now() + self.connect_timeout;
        // Without a runtime, and if it fails, the next hour trims.
        let _: Spawned = task::spawn(async move {
            let trim = node.run(Guard::Free, false, &command, deadline, |reply| {
                command::count(&reply)
            });
            let _ = trim.await;
        });
    }
}

/// How often a reader in a loop asks where the log is.
const UNKNOWN_NODE_PAUSE: Duration = Duration::from_secs(1);

/// A replica that was a primary is noticed as soon as a silent one.
const ROLE_INTERVAL: Duration = Duration::from_secs(1);

const TRIM_INTERVAL_MS: u64 = 60 * 60 * 1000;
