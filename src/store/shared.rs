//! The shared store as the tiers use it: names of keys, and writes in the background.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::SharedStore;
use super::rejected::{BadValues, Counters};
use crate::base::clock::Timestamp;
use crate::base::sync::Striped;
use crate::base::task;
use crate::entry::Record;
use crate::entry::codec::{self, Format};
use crate::key::Key;

/// The lower tier: the store, and the bounds on what is written to it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn SharedStore>,
    /// The start of every name.
    names: String,
    write_timeout: Duration,
    pub(super) format: Format,
    pub(super) bad_values: BadValues,
    queue: Arc<Semaphore>,
    queue_kib: u32,
    /// The keys with an operation under way, and the next operation on each. So writes and removals
    /// of one key reach the store in their order, and an outdated one does not reach it.
    in_order: Arc<Striped<Lanes>>,
    /// Bounds the bytes that are being sent at a time, since a long write delays the reads behind
    /// it on the same connection.
    sending: Arc<Semaphore>,
}

/// The bounds on writes, and the form of values.
#[derive(Clone, Debug)]
pub(crate) struct SharedSettings {
    pub(crate) prefix: String,
    pub(crate) queue_bytes: u64,
    pub(crate) write_timeout: Duration,
    pub(crate) format: Format,
}

/// Whether it is certain that a value belongs to the reply for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Given,
    /// The connection has to answer a `PING` correctly first.
    Needed,
}

/// Whether all queued writes have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Every write has succeeded or failed.
    All,
    /// The deadline has passed before that.
    Some,
}

impl Shared {
    pub(crate) fn new(store: Arc<dyn SharedStore>, settings: SharedSettings) -> Self {
        let SharedSettings {
            prefix,
            queue_bytes,
            write_timeout,
            format,
        } = settings;
        let queue_kib = u32::try_from(queue_bytes.div_ceil(1024)).unwrap_or(u32::MAX / 8);
        Self {
            store,
            names: format!("{prefix}:{}:", codec::VERSION),
            write_timeout,
            format,
            bad_values: BadValues::default(),
            queue: Arc::new(Semaphore::new(queue_kib as usize)),
            queue_kib,
            in_order: Arc::default(),
            sending: Arc::new(Semaphore::new(SENDING_KIB as usize)),
        }
    }

    /// The name of a key: `{prefix}:{version}:{hash}`. It is short and free of secrets. Each
    /// version of the stored form has names of its own, so that instances of two versions do not
    /// overwrite each other's values.
    pub(super) fn name(&self, key: &Key) -> String {
        let mut name = String::with_capacity(self.names.len() + 32);
        name.push_str(&self.names);
        // Writing to a `String` cannot fail.
        let _ = write!(name, "{:032x}", key.hash());
        name
    }

    /// Writes a record in the background. If the queue is full, the write is dropped and counted.
    /// `until_written` is dropped when the store has the record, or when it is certain that it will
    /// not get it.
    pub(super) fn write_behind(
        &self,
        record: Record,
        now: Timestamp,
        counters: &Arc<Counters>,
        until_written: impl Send + 'static,
    ) {
        // Spares the task and the encoding: in an outage every miss gets here.
        if self.store.is_away() {
            counters.failed_writes.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let kib = u32::try_from(record.weight_alone() / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(queued) = Arc::clone(&self.queue).try_acquire_many_owned(kib) else {
            counters.dropped_writes.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (hash, name) = (record.key().hash(), self.name(record.key()));
        let write = Write {
            ttl: jittered(record.kept_until().since(now)),
            record,
            format: self.format,
            sending: Arc::clone(&self.sending),
            kib: kib.min(SENDING_KIB),
            counters: Arc::clone(counters),
            _queued: queued,
            _until_written: Box::new(until_written),
        };
        self.run_in_order(hash, name, Operation::Write(write));
    }

    /// Removes the value of a key in the background.
    pub(super) fn remove_behind(&self, key: &Key) {
        self.run_in_order(key.hash(), self.name(key), Operation::Remove);
    }

    /// Runs an operation on a key after the one that is under way. It replaces one that waits.
    fn run_in_order(&self, hash: u128, name: String, operation: Operation) {
        let mut lanes = self.in_order.lock(hash);
        if let Some(next) = lanes.get_mut(&hash) {
            let outdated = next.replace(operation);
            drop(lanes);
            drop(outdated);
            return;
        }
        lanes.insert(hash, None);
        drop(lanes);
        let lane = Lane {
            lanes: Arc::clone(&self.in_order),
            hash,
            name,
            store: Arc::clone(&self.store),
            timeout: self.write_timeout,
        };
        let _lost_without_a_runtime = task::spawn(lane.run(operation));
    }

    /// Deletes a bad value in the background. If a proof is needed, the connection has to answer a
    /// `PING` first; the store replaces a connection that does not.
    pub(super) fn delete_behind(&self, key: &Key, proof: Proof) {
        let name = self.name(key);
        let store = Arc::clone(&self.store);
        let timeout = self.write_timeout;
        let _stays_without_a_runtime = task::spawn(async move {
            let deadline = Instant::now() + timeout;
            if proof == Proof::Needed && store.ping(deadline).await.is_err() {
                return;
            }
            let _stays_if_it_fails = store.remove(&[name], deadline).await;
        });
    }

    /// Waits until the queue of writes is empty.
    pub(super) async fn flush(&self, deadline: Instant) -> Flushed {
        match timeout_at(deadline, self.queue.acquire_many(self.queue_kib)).await {
            Ok(_all) => Flushed::All,
            Err(_late) => Flushed::Some,
        }
    }
}

type Lanes = HashMap<u128, Option<Operation>>;

enum Operation {
    Write(Write),
    Remove,
}

struct Write {
    record: Record,
    ttl: Duration,
    format: Format,
    sending: Arc<Semaphore>,
    kib: u32,
    counters: Arc<Counters>,
    _queued: OwnedSemaphorePermit,
    _until_written: Box<dyn Send>,
}

/// The task that runs the operations on one key in their order. If its runtime ends, the operation
/// that waits is lost.
struct Lane {
    lanes: Arc<Striped<Lanes>>,
    hash: u128,
    name: String,
    store: Arc<dyn SharedStore>,
    timeout: Duration,
}

impl Lane {
    async fn run(self, first: Operation) {
        let mut operation = first;
        loop {
            match operation {
                Operation::Write(write) => self.write(write).await,
                Operation::Remove => {
                    let deadline = Instant::now() + self.timeout;
                    let name = self.name.clone();
                    if let Err(error) = self.store.remove(&[name], deadline).await {
                        tracing::debug!(%error, "an outdated response stays in the shared store");
                    }
                }
            }
            let mut lanes = self.lanes.lock(self.hash);
            match lanes.get_mut(&self.hash).and_then(Option::take) {
                Some(next) => operation = next,
                None => {
                    lanes.remove(&self.hash);
                    return;
                }
            }
        }
    }

    async fn write(&self, write: Write) {
        let sending = Arc::clone(&write.sending);
        // The semaphore is never closed.
        let Ok(_sending) = sending.acquire_many_owned(write.kib).await else {
            return;
        };
        let bytes = codec::encode(&write.record, write.format);
        // The deadline does not include the wait in the queue, which says nothing about the server.
        let deadline = Instant::now() + self.timeout;
        let written = self.store.set(&self.name, bytes, write.ttl, deadline).await;
        if written.is_err() {
            write.counters.failed_writes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let left = self.lanes.lock(self.hash).remove(&self.hash);
        drop(left);
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write(_) => "Write",
            Self::Remove => "Remove",
        })
    }
}

/// Makes a time to live up to a tenth longer, so that keys written together do not expire together.
/// The record's own times decide whether it may be used.
fn jittered(ttl: Duration) -> Duration {
    let millis = u64::try_from(ttl.as_millis())
        .unwrap_or(u64::MAX / 2)
        .max(1);
    Duration::from_millis(millis.saturating_add(fastrand::u64(0..=millis / 10)))
}

/// How much is being sent at a time, in KiB: a few milliseconds' worth within a data centre.
const SENDING_KIB: u32 = 1024;
