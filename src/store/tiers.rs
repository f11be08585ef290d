//! The two tiers together: memory above, the shared store below.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Memory, SharedStore, StoreError};
use crate::clock::Timestamp;
use crate::entry::codec::{self, Undecodable};
use crate::entry::{Entry, Marker, Record, Value};
use crate::key::Key;
use crate::task;

/// Both tiers. Reads go down, writes go to memory at once and to the store behind the response.
#[derive(Debug)]
pub(crate) struct Tiers {
    memory: Memory,
    shared: Option<Shared>,
    max_variants: usize,
    counters: Arc<Counters>,
}

/// The lower tier and what it costs to reach it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn SharedStore>,
    pub(crate) prefix: String,
    /// Write-backs under way and waiting, in KiB: beyond it they are dropped.
    pub(crate) queue: Arc<Semaphore>,
    pub(crate) write_timeout: Duration,
}

/// What went wrong without anyone being told by an error.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) undecodable: AtomicU64,
    pub(crate) mismatched: AtomicU64,
    pub(crate) dropped_writes: AtomicU64,
    pub(crate) failed_writes: AtomicU64,
    pub(crate) failed_reads: AtomicU64,
}

/// What is known of a request's resource so far.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) base: Key,
    /// What the resource's responses vary on, if that is known.
    pub(crate) marker: Option<Arc<Marker>>,
    /// The key of this request's variant, if the resource is known to vary.
    pub(crate) variant: Option<Key>,
    pub(crate) entry: Option<Arc<Entry>>,
}

/// Whether a response found its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Yes,
    /// The resource has as many variants as it may.
    TooManyVariants,
    /// It was purged before it was complete.
    Purged,
}

impl Lookup {
    /// What the entry found varies on.
    pub(crate) fn fields(&self) -> &[HeaderName] {
        let marker = self.marker.as_ref();
        marker.map_or(&[], |marker| marker.fields.as_slice())
    }

    /// The most specific key known: what work for this request is coordinated on.
    pub(crate) fn key(&self) -> &Key {
        self.variant.as_ref().unwrap_or(&self.base)
    }
}

impl Tiers {
    pub(crate) fn new(memory_bytes: u64, shared: Option<Shared>, max_variants: usize) -> Self {
        Self {
            memory: Memory::new(memory_bytes),
            shared,
            max_variants,
            counters: Arc::default(),
        }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn store(&self) -> Option<&Arc<dyn SharedStore>> {
        self.shared.as_ref().map(|shared| &shared.store)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What memory has for a request. No waiting, no locks held.
    pub(crate) fn look_in_memory(&self, base: Key, headers: &HeaderMap, now: Timestamp) -> Lookup {
        let record = self.memory.get(&base, now);
        let mut lookup = Lookup {
            base,
            marker: None,
            variant: None,
            entry: None,
        };
        match record {
            Some(Record::Response(entry)) => lookup.entry = Some(entry),
            Some(Record::Marker(marker)) => {
                let variant = lookup.base.variant(&marker.fields, headers);
                if let Some(Record::Response(entry)) = self.memory.get(&variant, now) {
                    lookup.entry = Some(entry);
                }
                lookup.variant = Some(variant);
                lookup.marker = Some(marker);
            }
            Some(Record::Value(_)) | None => {}
        }
        lookup
    }

    /// Completes a look-up from the shared store: one round trip where the resource is known
    /// not to vary or how it varies, two where a marker is found. A fault is a miss.
    pub(crate) async fn look_in_store(
        &self,
        lookup: &mut Lookup,
        headers: &HeaderMap,
        now: Timestamp,
        deadline: Instant,
    ) {
        match self.fetch(lookup.key(), now, deadline).await {
            Some(Record::Response(entry)) => lookup.entry = Some(entry),
            Some(Record::Marker(marker)) => {
                let variant = lookup.base.variant(&marker.fields, headers);
                if let Some(Record::Response(entry)) = self.fetch(&variant, now, deadline).await {
                    lookup.entry = Some(entry);
                }
                lookup.variant = Some(variant);
                lookup.marker = Some(marker);
            }
            Some(Record::Value(_)) | None => {}
        }
    }

    /// One of the application's own values.
    pub(crate) async fn value(
        &self,
        key: &Key,
        now: Timestamp,
        deadline: Instant,
    ) -> Option<Arc<Value>> {
        let record = match self.memory.get(key, now) {
            Some(record) => record,
            None => self.fetch(key, now, deadline).await?,
        };
        match record {
            Record::Value(value) => Some(value),
            Record::Response(_) | Record::Marker(_) => None,
        }
    }

    /// Puts a record into memory only: it came from the store, or the store has it already.
    pub(crate) fn remember(&self, record: Record) {
        self.memory.insert(record);
    }

    /// Stores a response that varies on `fields`: in memory at once, in the shared store
    /// behind the caller's back. `until_written` is dropped when the store has it, or it is
    /// certain that it will not.
    pub(crate) fn store_response(
        &self,
        base: &Key,
        fields: &[HeaderName],
        entry: Arc<Entry>,
        now: Timestamp,
        until_written: impl Send + 'static,
    ) -> Stored {
        if !fields.is_empty() {
            let Some(marker) = self.marker_for(base, fields, &entry, now) else {
                return Stored::TooManyVariants;
            };
            if let Some(marker) = marker {
                self.write_both(Record::Marker(marker), now, ());
            }
        }
        self.write_both(Record::Response(entry), now, until_written);
        Stored::Yes
    }

    /// Stores one of the application's own values, and waits until the shared store has it.
    pub(crate) async fn store_value(
        &self,
        value: Value,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let ttl = value.expires.since(now);
        let record = Record::Value(Arc::new(value));
        self.memory.insert(record.clone());
        match &self.shared {
            Some(shared) => {
                let name = shared.name(record.key());
                shared
                    .store
                    .set(&name, codec::encode(&record), ttl, deadline)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Removes what stands under `key` from both tiers; whether either had it.
    pub(crate) async fn remove(&self, key: &Key, deadline: Instant) -> Result<bool, StoreError> {
        let in_memory = self.memory.remove(key);
        match &self.shared {
            Some(shared) => {
                let removed = shared.store.remove(&[shared.name(key)], deadline).await?;
                Ok(in_memory || removed > 0)
            }
            None => Ok(in_memory),
        }
    }

    /// The marker to write for a new variant: none if the one that stands will do, and
    /// nothing at all (`None`) if the resource has too many variants.
    fn marker_for(
        &self,
        base: &Key,
        fields: &[HeaderName],
        entry: &Entry,
        now: Timestamp,
    ) -> Option<Option<Arc<Marker>>> {
        let kept_until = entry.head.lifetimes.kept_until;
        let standing = match self.memory.get(base, now) {
            Some(Record::Marker(marker)) if marker.fields == fields => Some(marker),
            _ => None,
        };
        let variants = standing.as_ref().map(|marker| marker.variants.clone());
        let variants = variants.unwrap_or_default();
        let present = |hash| self.memory.contains(hash);
        if !variants.admit(entry.head.key.hash(), self.max_variants, present) {
            return None;
        }
        if standing.is_some_and(|marker| marker.kept_until >= kept_until) {
            return Some(None);
        }
        Some(Some(Arc::new(Marker {
            key: base.clone(),
            fields: fields.to_vec(),
            kept_until: kept_until.saturating_add(MARKER_SLACK),
            variants,
        })))
    }

    fn write_both(&self, record: Record, now: Timestamp, until_written: impl Send + 'static) {
        self.memory.insert(record.clone());
        if let Some(shared) = &self.shared {
            shared.write_behind(record, now, &self.counters, until_written);
        }
    }

    /// Reads, checks and remembers a record of the shared store.
    async fn fetch(&self, key: &Key, now: Timestamp, deadline: Instant) -> Option<Record> {
        let shared = self.shared.as_ref()?;
        let bytes = match shared.store.get(&shared.name(key), deadline).await {
            Ok(bytes) => bytes?,
            Err(_logged_by_the_store) => {
                self.counters.failed_reads.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        let record = self.check(shared, &bytes, key)?;
        if !is_timely(&record, now) {
            return None;
        }
        self.memory.insert(record.clone());
        Some(record)
    }

    fn check(&self, shared: &Shared, bytes: &Bytes, key: &Key) -> Option<Record> {
        match codec::decode(bytes, key) {
            Ok(record) => Some(record),
            Err(Undecodable::OtherKey) => {
                self.counters.mismatched.fetch_add(1, Ordering::Relaxed);
                shared.store.note_mismatch();
                None
            }
            Err(Undecodable::Foreign | Undecodable::Version | Undecodable::Corrupt) => {
                self.counters.undecodable.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

impl Shared {
    /// `{prefix}:{hash}`: bounded, and free of secrets.
    fn name(&self, key: &Key) -> String {
        format!("{}:{:032x}", self.prefix, key.hash())
    }

    /// Writes without anyone waiting; dropped and counted when the queue is full.
    fn write_behind(
        &self,
        record: Record,
        now: Timestamp,
        counters: &Arc<Counters>,
        until_written: impl Send + 'static,
    ) {
        let kib = u32::try_from(record.weight() / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.queue).try_acquire_many_owned(kib) else {
            counters.dropped_writes.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let name = self.name(record.key());
        let ttl = record.kept_until().since(now);
        let store = Arc::clone(&self.store);
        let timeout = self.write_timeout;
        let counters = Arc::clone(counters);
        let _lost_without_a_runtime = task::spawn(async move {
            let bytes = codec::encode(&record);
            let deadline = Instant::now() + timeout;
            if store
                .set(&name, bytes, jittered(ttl), deadline)
                .await
                .is_err()
            {
                counters.failed_writes.fetch_add(1, Ordering::Relaxed);
            }
            drop((permit, until_written));
        });
    }
}

/// Expiry by the record's own metadata, whatever became of the key's TTL; and nothing from
/// an instance whose clock is further ahead than clocks may be.
fn is_timely(record: &Record, now: Timestamp) -> bool {
    let from_the_future = match record {
        Record::Response(entry) => entry.head.lifetimes.stored > now.saturating_add(MAX_SKEW),
        Record::Marker(_) | Record::Value(_) => false,
    };
    now < record.kept_until() && !from_the_future
}

/// Up to a tenth longer, so that keys written together are not deleted together.
/// Expiry itself is judged by the record.
fn jittered(ttl: Duration) -> Duration {
    let millis = u64::try_from(ttl.as_millis())
        .unwrap_or(u64::MAX / 2)
        .max(1);
    Duration::from_millis(millis.saturating_add(fastrand::u64(0..=millis / 10)))
}

/// How far the clocks of two instances may be apart.
const MAX_SKEW: Duration = Duration::from_secs(60);

/// Markers outlive the variants they lead to, so that they need not be written with each.
const MARKER_SLACK: Duration = Duration::from_secs(300);
