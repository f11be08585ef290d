//! The purge log, one stream on one node: where it is, and what asking it takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;
use tokio::time::Instant;

use super::node::{Lane, Manner, Node};
use super::replicated::Replicated;
use super::tail::Tail;
use super::{Topology, ValkeyStore, command};
use crate::error::StoreError;
use crate::store::{AppendOptions, Appended, LogBounds, LogPosition};
use crate::task;

/// The log, and what is known of it.
pub(super) struct Log {
    pub(super) name: String,
    tail: Tail,
    replicated: Replicated,
    /// What is known of its server from asking it.
    known: Mutex<Known>,
    /// When (ms, by the server's clock) it was last relieved of old records, or first used.
    trimmed: AtomicU64,
}

pub(super) struct Known {
    /// The last position that the log had given out when it was last asked.
    pub(super) last_generated: LogPosition,
    /// When to ask again whether the server is the primary; never, if it will not say.
    next_role: Option<Instant>,
}

impl Log {
    /// The log of the instances with this prefix.
    pub(super) fn of(prefix: &str) -> Self {
        Self {
            name: format!("{prefix}:log"),
            tail: Tail::new(),
            replicated: Replicated::new(),
            known: Mutex::new(Known {
                last_generated: LogPosition::ZERO,
                next_role: Some(Instant::now()),
            }),
            trimmed: AtomicU64::new(0),
        }
    }

    pub(super) fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ValkeyStore {
    /// The node that keeps the log, if it is known.
    pub(super) fn log_node(&self) -> Option<Arc<Node>> {
        self.known_node_of(&self.log.name)
    }

    /// The node that keeps the log. Waits for the very first map of a cluster.
    async fn log_node_by(&self, deadline: Instant) -> Result<Arc<Node>, StoreError> {
        match &self.topology {
            Topology::One(node) => Ok(Arc::clone(node)),
            Topology::Cluster(cluster) => cluster.node_of(&self.log.name, deadline).await,
        }
    }

    pub(super) async fn read_log(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> Result<Vec<(LogPosition, Bytes)>, StoreError> {
        let read = match self.log_node_by(Instant::now() + block).await {
            Ok(node) => {
                let supervisor = &node.supervisor;
                let known = self.log.known(|known| known.last_generated);
                self.log
                    .tail
                    .read(supervisor, &self.log.name, after, block, known)
                    .await
            }
            Err(error) => {
                tokio::time::sleep(block.min(UNKNOWN_NODE_PAUSE)).await;
                Err(error)
            }
        };
        if let (Topology::Cluster(cluster), Err(error)) = (&self.topology, &read) {
            cluster.note(error);
        }
        read
    }

    pub(super) async fn append(
        &self,
        record: &[u8],
        options: AppendOptions,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        let AppendOptions { after, replicas } = options;
        let max = self.settings.log_max_records;
        if let Some(after) = after {
            let command = command::log_append_at(&self.log.name, max, after.next(), record);
            match self.append_by(command, replicas, deadline).await {
                // The plain code of a position that the log has passed: the next is later too.
                Err(StoreError::Server(code)) if code.as_str() == "ERR" => {}
                appended => return appended,
            }
        }
        let command = command::log_append(&self.log.name, max, record);
        self.append_by(command, replicas, deadline)
            .await
            .inspect(|appended| self.trim(appended.position))
    }

    async fn append_by(
        &self,
        command: Cmd,
        replicas: u32,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        let appended = if replicas > 0 {
            self.append_replicated(&command, replicas, deadline).await
        } else {
            let position = |reply| command::position(&reply);
            self.run(Lane::Free, &self.log.name, command, deadline, position)
                .await
                .map(Appended::unreplicated)
        };
        appended.inspect(|_appended| self.note_writable())
    }

    async fn append_replicated(
        &self,
        command: &Cmd,
        replicas: u32,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        // More than once, since a node that has not heard of the move yet may say otherwise.
        for last in [false, false, false, true] {
            let node = self.log_node_by(deadline).await?;
            let supervisor = &node.supervisor;
            let appended = self
                .log
                .replicated
                .append(supervisor, command, replicas, deadline);
            let error = match appended.await {
                Ok(appended) => return Ok(appended),
                Err(error) => error,
            };
            let Topology::Cluster(cluster) = &self.topology else {
                return Err(error);
            };
            let moved = matches!(&error, StoreError::Server(code) if code.as_str() == "MOVED");
            if last || !moved {
                cluster.note(&error);
                return Err(error);
            }
            // Any command that follows the redirection finds out where to.
            let _known_now = self.bounds(deadline).await;
        }
        Err(StoreError::Unavailable)
    }

    pub(super) async fn bounds(&self, deadline: Instant) -> Result<LogBounds, StoreError> {
        let command = command::log_bounds(&self.log.name);
        let bounds = |reply| command::bounds(&reply);
        match self
            .run(Lane::Free, &self.log.name, command, deadline, bounds)
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
    pub(super) async fn check_role(&self, deadline: Instant) -> Result<(), StoreError> {
        let now = Instant::now();
        let due = self.log.known(|known| {
            let due = known.next_role.is_some_and(|next| next <= now);
            if due {
                known.next_role = Some(now + ROLE_INTERVAL);
            }
            due
        });
        if !due || matches!(self.topology, Topology::Cluster(_)) {
            return Ok(());
        }
        let primary = |reply| Ok(command::is_primary(&reply));
        let asked = self.run(
            Lane::Free,
            &self.log.name,
            command::role(),
            deadline,
            primary,
        );
        match asked.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.log.known(|known| known.next_role = Some(now));
                Err(StoreError::ReadOnly)
            }
            // Not permitted, or not known where the server is something else: taken on trust.
            Err(StoreError::Refused | StoreError::Server(_)) => {
                self.log.known(|known| known.next_role = None);
                Ok(())
            }
            Err(error) => {
                self.log.known(|known| known.next_role = Some(now));
                Err(error)
            }
        }
    }

    /// Relieves the log of records that are older than anything they could be about, about once
    /// an hour. Without anyone waiting: it is an economy, no more.
    pub(super) fn trim(&self, latest: LogPosition) {
        let last = self.log.trimmed.load(Ordering::Relaxed);
        let due = latest.ms() >= last.saturating_add(TRIM_INTERVAL_MS);
        // Not by the first purge of every instance that starts; nor by two at once.
        if !due || self.log.trimmed.swap(latest.ms(), Ordering::Relaxed) != last || last == 0 {
            return;
        }
        let age = u64::try_from(self.settings.log_max_age.as_millis()).unwrap_or(u64::MAX);
        let oldest = LogPosition::new(latest.ms().saturating_sub(age), 0);
        let Some(node) = self.log_node() else { return };
        let command = command::log_trim(&self.log.name, oldest);
        let deadline = Instant::now() + self.settings.connect_timeout;
        let _next_time_without_a_runtime = task::spawn(async move {
            let trim = node.run(Lane::Free, Manner::Plain, &command, deadline, |reply| {
                command::count(&reply)
            });
            let _next_time = trim.await;
        });
    }
}

/// How often a reader in a loop asks where the log is.
const UNKNOWN_NODE_PAUSE: Duration = Duration::from_secs(1);

/// A replica that was a primary is noticed as soon as a silent one.
const ROLE_INTERVAL: Duration = Duration::from_secs(1);

const TRIM_INTERVAL_MS: u64 = 60 * 60 * 1000;
