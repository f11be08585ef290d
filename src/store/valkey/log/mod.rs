//! The purge log: one stream, on the one node that has its key.

mod replicated;
mod tail;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};
use tokio::time::Instant;

use self::replicated::Replicated;
use self::tail::Tail;
use super::client::guard::Guard;
use super::client::node::{Node, Operation};
use super::cluster::slot;
use super::command;
use super::settings::ValkeySettings;
use super::topology::Topology;
use crate::base::task;
use crate::error::StoreError;
use crate::store::{AppendOptions, Appended, LogBounds, LogPosition, Presence};

/// The stream, and what is known of it.
pub(super) struct PurgeStream {
    pub(super) name: String,
    /// The name of a key on the same node. While that can be written, so can the stream.
    proof: String,
    topology: Arc<Topology>,
    max_records: u64,
    max_age: Duration,
    /// The time that a trim may take.
    trim_timeout: Duration,
    tail: Tail,
    replicated: Replicated,
    known: Mutex<Known>,
    /// When (ms, by the server's clock) the stream was last trimmed, or first used.
    trimmed: AtomicU64,
}

/// What the server has said of the stream and of itself.
struct Known {
    last_generated: LogPosition,
    /// When to ask again whether the server is the primary; `None` if it does not say.
    next_role: Option<Instant>,
}

impl PurgeStream {
    pub(super) fn new(settings: &ValkeySettings, topology: Arc<Topology>) -> Self {
        let name = format!("{}:log", settings.prefix);
        Self {
            proof: proof_name(&settings.prefix, &name),
            name,
            topology,
            max_records: settings.log_max_records,
            max_age: settings.log_max_age,
            trim_timeout: settings.connect_timeout,
            tail: Tail::new(),
            replicated: Replicated::new(),
            known: Mutex::new(Known {
                last_generated: LogPosition::ZERO,
                next_role: Some(Instant::now()),
            }),
            trimmed: AtomicU64::new(0),
        }
    }

    /// The node that keeps the stream, if it is known.
    pub(super) fn node(&self) -> Option<Arc<Node>> {
        self.topology.known_node_of(&self.name)
    }

    pub(super) async fn read(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> Result<Vec<(LogPosition, Bytes)>, StoreError> {
        let deadline = Instant::now() + block;
        let read = match self.topology.node_of(&self.name, deadline).await {
            Ok(node) => {
                let last_generated = self.known(|known| known.last_generated);
                self.tail
                    .read(&node, &self.name, after, block, last_generated)
                    .await
            }
            Err(error) => {
                tokio::time::sleep(block.min(UNKNOWN_NODE_PAUSE)).await;
                Err(error)
            }
        };
        read.inspect_err(|error| self.topology.note_failed(error))
    }

    pub(super) async fn append(
        &self,
        record: &[u8],
        options: AppendOptions,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        let AppendOptions { after, replicas } = options;
        if let Some(after) = after {
            let command =
                command::log_append_at(&self.name, self.max_records, after.next(), record);
            match self.append_by(command, replicas, deadline).await {
                // The plain code of a position that the log has passed: the next is later too.
                Err(StoreError::Server(code)) if code.as_str() == "ERR" => {}
                appended => return appended,
            }
        }
        let command = command::log_append(&self.name, self.max_records, record);
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
            self.run(command, deadline, |reply| command::position(&reply))
                .await
                .map(Appended::unreplicated)
        };
        appended.inspect(|_appended| self.topology.note_writable())
    }

    async fn append_replicated(
        &self,
        command: &Cmd,
        replicas: u32,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        // Several times, since a node that has not heard of the move yet may name another.
        for last in [false, false, false, true] {
            let node = self.topology.node_of(&self.name, deadline).await?;
            let appended = self.replicated.append(&node, command, replicas, deadline);
            let error = match appended.await {
                Ok(appended) => return Ok(appended),
                Err(error) => error,
            };
            let moved = matches!(&error, StoreError::Server(code) if code.as_str() == "MOVED");
            if last || !moved || !self.topology.is_cluster() {
                self.topology.note_failed(&error);
                return Err(error);
            }
            // Any command that follows the redirection learns the new node; its result does
            // not matter.
            let _ = self.ask_bounds(deadline).await;
        }
        Err(StoreError::Unavailable)
    }

    /// Writes a small key on the stream's node. A server that is full, a replica, and one whose
    /// rights were taken away refuse it as they would refuse a record.
    pub(super) async fn prove_writable(&self, deadline: Instant) -> Result<(), StoreError> {
        self.topology.until_linked(deadline).await;
        let command = command::set(&self.proof, b"1", PROOF_TTL);
        let operation = Operation::new(Guard::Unguarded, command, deadline);
        let written = self
            .topology
            .run(&self.proof, operation, |reply| command::okay(&reply));
        written.await.inspect(|()| self.topology.note_writable())
    }

    pub(super) async fn holds(
        &self,
        position: LogPosition,
        deadline: Instant,
    ) -> Result<Presence, StoreError> {
        let command = command::log_look(&self.name, position);
        let found = self.run(command, deadline, |reply| command::presence(&reply));
        match found.await {
            // The command is not permitted: positions and counts have to do.
            Err(StoreError::Refused) => Ok(Presence::Unknown),
            found => found,
        }
    }

    /// Waits for a connection, unlike all other operations: the reader of the log has nothing
    /// else to do, and nothing stored is trusted before it has looked.
    pub(super) async fn bounds(&self, deadline: Instant) -> Result<LogBounds, StoreError> {
        self.topology.until_linked(deadline).await;
        self.check_role(deadline).await?;
        let bounds = self.ask_bounds(deadline).await?;
        self.known(|known| known.last_generated = bounds.last_generated());
        Ok(bounds)
    }

    async fn ask_bounds(&self, deadline: Instant) -> Result<LogBounds, StoreError> {
        let command = command::log_bounds(&self.name);
        let bounds = self.run(command, deadline, |reply| command::bounds(&reply));
        match bounds.await {
            // The plain code of "no such key", the one argument that can be wrong here.
            Err(StoreError::Server(code)) if code.as_str() == "ERR" => Ok(LogBounds::Missing),
            bounds => bounds,
        }
    }

    /// Asks the server, about once a second, whether it is a primary.
    ///
    /// A replica answers reads too, even while it is cut off from its primary and cannot know
    /// what has been purged. In a cluster replicas do not answer, so nothing is asked.
    async fn check_role(&self, deadline: Instant) -> Result<(), StoreError> {
        let now = Instant::now();
        let due = self.known(|known| {
            let due = known.next_role.is_some_and(|next| next <= now);
            if due {
                known.next_role = Some(now + ROLE_INTERVAL);
            }
            due
        });
        if !due || self.topology.is_cluster() {
            return Ok(());
        }
        let is_primary = |reply| Ok(command::is_primary(&reply));
        let (next_role, result) = match self.run(command::role(), deadline, is_primary).await {
            Ok(true) => return Ok(()),
            Ok(false) => (Some(now), Err(StoreError::ReadOnly)),
            // The command is not permitted or not known, so the server is taken on trust.
            Err(StoreError::Refused | StoreError::Server(_)) => (None, Ok(())),
            Err(error) => (Some(now), Err(error)),
        };
        self.known(|known| known.next_role = next_role);
        result
    }

    /// Removes, about once an hour, the records that are older than any entry. Nobody waits for
    /// it, since it only saves memory.
    fn trim(&self, latest: LogPosition) {
        let last = self.trimmed.load(Ordering::Relaxed);
        let due = latest.ms() >= last.saturating_add(TRIM_INTERVAL_MS);
        // Neither the first purge of an instance trims, nor do two at once.
        if !due || self.trimmed.swap(latest.ms(), Ordering::Relaxed) != last || last == 0 {
            return;
        }
        let age = u64::try_from(self.max_age.as_millis()).unwrap_or(u64::MAX);
        let oldest = LogPosition::new(latest.ms().saturating_sub(age), 0);
        let Some(node) = self.node() else { return };
        let command = command::log_trim(&self.name, oldest);
        let deadline = Instant::now() + self.trim_timeout;
        let trim = Operation::new(Guard::Unguarded, command, deadline);
        // Without a runtime, or after an error, the next trim removes what this one did not.
        let _ = task::spawn(async move {
            let _ = node.run(&trim, |reply| command::count(&reply)).await;
        });
    }

    /// Runs a command about the stream, past the breakers.
    async fn run<T>(
        &self,
        command: Cmd,
        deadline: Instant,
        read: impl Fn(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let operation = Operation::new(Guard::Unguarded, command, deadline);
        self.topology.run(&self.name, operation, read).await
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The first name that is in the log's slot. It begins with the prefix wherever that is possible,
/// as permissions may be for such keys only.
fn proof_name(prefix: &str, log: &str) -> String {
    let first = format!("{prefix}:writable:{{{log}}}");
    let others = [format!("{prefix}:writable"), format!("{{{log}}}:writable")];
    let in_slot = |name: &String| slot(name.as_bytes()) == slot(log.as_bytes());
    if in_slot(&first) {
        return first;
    }
    others.into_iter().find(in_slot).unwrap_or(first)
}

/// The time to live of the proof. It is longer than the pause between two writes, so that the
/// number of keys stays the same.
const PROOF_TTL: Duration = Duration::from_secs(10);

/// How long a reader in a loop waits before it asks again which node keeps the log.
const UNKNOWN_NODE_PAUSE: Duration = Duration::from_secs(1);

/// How often the server's role is asked for. A primary that has become a replica is noticed as soon
/// as a silent server.
const ROLE_INTERVAL: Duration = Duration::from_secs(1);

const TRIM_INTERVAL_MS: u64 = 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_in_the_log_s_slot_and_begins_with_the_prefix() {
        for (prefix, begins) in [("trc", true), ("a{b}", true), ("a{b", false)] {
            let log = format!("{prefix}:log");
            let proof = proof_name(prefix, &log);
            assert_eq!(slot(proof.as_bytes()), slot(log.as_bytes()), "{prefix}");
            assert_eq!(proof.starts_with(prefix), begins, "{prefix}");
        }
    }
}
