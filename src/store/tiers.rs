//! The two tiers together: memory above, the shared store below.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use super::rejected::{BadValueAction, Counters};
use super::shared::Proof;
use super::variants::{self, Inserted, NewMarker, VariantIndex};
use super::{Flushed, Lookup, Memory, MemoryLookup, Shared, SharedStore, StoreError};
use crate::base::clock::Timestamp;
use crate::entry::codec;
use crate::entry::{Entry, Marker, Record, Value};
use crate::key::{Key, KeyBuilder};

/// Both tiers. A read asks memory and then the store. A write changes memory at once, and the store
/// in the background.
#[derive(Debug)]
pub(crate) struct Tiers {
    memory: Memory,
    shared: Option<Shared>,
    variants: VariantIndex,
    counters: Arc<Counters>,
}

/// Whether a response was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Yes,
    /// The resource has as many variants as it may.
    TooManyVariants,
    /// The response was purged before it was complete.
    Purged,
}

/// The tiers that get a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    BothTiers,
    /// A purge of the record is not in the log yet. The record is later than the purge, and other
    /// instances could not tell.
    Memory,
}

impl Tiers {
    pub(crate) fn new(memory_bytes: u64, shared: Option<Shared>, max_variants: usize) -> Self {
        Self {
            memory: Memory::new(memory_bytes),
            shared,
            variants: VariantIndex::new(max_variants),
            counters: Arc::default(),
        }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn store(&self) -> Option<&Arc<dyn SharedStore>> {
        self.shared.as_ref().map(|shared| &shared.store)
    }

    /// The counts of faults so far, for metrics.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Looks a request up in memory, without waiting and without holding a lock.
    pub(crate) fn look_in_memory(
        &self,
        builder: &mut KeyBuilder,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> MemoryLookup {
        let mut found = MemoryLookup::default();
        match self.memory.get(builder.base(), now) {
            Some(Record::Response(entry)) => found.entry = Some(entry),
            Some(Record::Marker(marker)) => {
                let variant = builder.vary(&marker.fields, headers);
                found.entry = variants::find(&self.memory, &marker, variant, now);
                found.marker = Some(marker);
            }
            Some(Record::Value(_)) | None => {}
        }
        found
    }

    /// Whether a look into the shared store would fail at once, because there is no store or no
    /// connection to it. Without a connection this counts as a failed read.
    pub(crate) fn looks_in_memory_only(&self) -> bool {
        let Some(store) = self.store() else {
            return true;
        };
        let is_away = store.is_away();
        if is_away {
            self.counters.failed_reads.fetch_add(1, Ordering::Relaxed);
        }
        is_away
    }

    /// Completes a look-up from the shared store. It takes two round trips if the store has a
    /// marker that this instance did not know, and one otherwise. A fault is a miss.
    /// [`Tiers::promote`] then puts the entry into memory.
    pub(crate) async fn look_in_store(
        &self,
        lookup: &mut Lookup,
        headers: &HeaderMap,
        now: Timestamp,
        deadline: Instant,
    ) {
        let found = self.fetch(lookup.key(), now, deadline).await;
        if lookup.marker.is_some() {
            // Otherwise the entry of memory stays: a stale one is better than none.
            if let Some(entry) = found.and_then(Record::into_response) {
                lookup.entry = Some(entry);
            }
            return;
        }
        match found {
            Some(Record::Response(entry)) => lookup.entry = Some(entry),
            Some(Record::Marker(marker)) => {
                let variant = lookup.base.variant(&marker.fields, headers);
                let found = self.fetch(&variant, now, deadline).await;
                lookup.entry = found.and_then(Record::into_response);
                if lookup.entry.is_none() || self.memory.is_off() {
                    self.memory.insert(Record::Marker(Arc::clone(&marker)));
                }
                lookup.variant = Some(variant);
                lookup.marker = Some(marker);
            }
            Some(Record::Value(_)) | None => {}
        }
    }

    /// Puts the entry that was found in the shared store into memory, unless memory has a newer
    /// one.
    pub(crate) fn promote(&self, lookup: &Lookup, now: Timestamp) {
        let Some(entry) = &lookup.entry else {
            return;
        };
        match &lookup.marker {
            Some(marker) if !self.memory.is_off() => {
                self.promote_variant(&lookup.base, marker, entry, now);
            }
            Some(_) => {}
            None => {
                let standing = self.memory.peek(lookup.base.borrow(), now);
                let standing = standing.and_then(Record::into_response);
                if !standing.is_some_and(|standing| standing.is_newer_than(entry)) {
                    self.memory.insert(Record::Response(Arc::clone(entry)));
                }
            }
        }
    }

    /// Puts a variant of the shared store into memory. The bound on variants does not apply.
    fn promote_variant(&self, base: &Key, marker: &Marker, entry: &Arc<Entry>, now: Timestamp) {
        let canonical = entry.head.key.canonical();
        let standing = match self.memory.peek(base.borrow(), now) {
            Some(Record::Marker(marker)) => variants::find(&self.memory, &marker, canonical, now),
            _ => None,
        };
        if standing.is_some_and(|standing| standing.is_newer_than(entry)) {
            return;
        }
        let lead = NewMarker {
            base,
            fields: &marker.fields,
            kept_until: marker.kept_until,
        };
        if let Inserted::TooMany = self.variants.place(&self.memory, lead, entry, now) {
            self.memory.insert(Record::Response(Arc::clone(entry)));
        }
    }

    /// Looks for one of the application's own values in memory.
    pub(crate) fn value_in_memory(&self, key: &Key, now: Timestamp) -> Option<Arc<Value>> {
        self.memory
            .get(key.borrow(), now)
            .and_then(Record::into_value)
    }

    /// Looks for one of the application's own values in the shared store.
    pub(crate) async fn value_in_store(
        &self,
        key: &Key,
        now: Timestamp,
        deadline: Instant,
    ) -> Option<Arc<Value>> {
        self.fetch(key, now, deadline).await?.into_value()
    }

    /// Puts a value of the shared store into memory.
    pub(crate) fn promote_value(&self, value: &Arc<Value>) {
        self.memory.insert(Record::Value(Arc::clone(value)));
    }

    /// Stores a response that varies on `fields`: in memory at once, and in the shared store in the
    /// background. `until_written` is dropped when the shared store has the response, or when it is
    /// certain that it will not get it.
    pub(crate) fn store_response(
        &self,
        base: &Key,
        fields: &Arc<[HeaderName]>,
        entry: Arc<Entry>,
        now: Timestamp,
        reach: Reach,
        until_written: impl Send + 'static,
    ) -> Stored {
        let kept_until = entry.head.lifetimes.kept_until;
        if fields.is_empty() {
            self.memory.insert(Record::Response(Arc::clone(&entry)));
            self.write_behind(Record::Response(entry), now, reach, until_written);
            return Stored::Yes;
        }
        let lead = NewMarker {
            base,
            fields,
            kept_until: kept_until.saturating_add(MARKER_SLACK),
        };
        match self.variants.place(&self.memory, lead, &entry, now) {
            Inserted::TooMany => return Stored::TooManyVariants,
            Inserted::Here(marker) => {
                if let Some(marker) = marker {
                    self.write_behind(Record::Marker(marker), now, reach, ());
                }
            }
        }
        self.write_behind(Record::Response(entry), now, reach, until_written);
        Stored::Yes
    }

    /// Stores one of the application's own values: in memory at once, and in the shared store in
    /// the background. A value whose moment is earlier than that of the value in memory is not
    /// stored.
    pub(crate) fn store_value_behind(&self, value: Value, now: Timestamp, reach: Reach) {
        let standing = self.value_in_memory(&value.key, now);
        if standing.is_some_and(|standing| standing.moment.is_later_than(value.moment)) {
            return;
        }
        let record = Record::Value(Arc::new(value));
        self.memory.insert(record.clone());
        self.write_behind(record, now, reach, ());
    }

    /// Stores one of the application's own values, and waits until the shared store has it too.
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
                    .set(&name, codec::encode(&record, shared.format), ttl, deadline)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Removes one of the application's own values from both tiers.
    pub(crate) async fn remove_value(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        self.memory.remove(key);
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let names = [shared.name(key)];
        shared.store.remove(&names, deadline).await.map(drop)
    }

    /// Waits until every write to the shared store has succeeded or failed.
    pub(crate) async fn flush(&self, deadline: Instant) -> Flushed {
        match &self.shared {
            Some(shared) => shared.flush(deadline).await,
            None => Flushed::All,
        }
    }

    /// Removes the response under `key`, which may be a variant of the resource under `base`: from
    /// memory at once, and from the shared store in the background.
    pub(crate) fn forget(&self, base: &Key, key: &Key, now: Timestamp) {
        self.variants.forget(&self.memory, base, key, now);
        if let Some(shared) = &self.shared {
            shared.remove_behind(key);
        }
    }

    fn write_behind(
        &self,
        record: Record,
        now: Timestamp,
        reach: Reach,
        until_written: impl Send + 'static,
    ) {
        if let Some(shared) = &self.shared
            && reach == Reach::BothTiers
        {
            shared.write_behind(record, now, &self.counters, until_written);
        }
    }

    /// Reads and checks a record of the shared store.
    async fn fetch(&self, key: &Key, now: Timestamp, deadline: Instant) -> Option<Record> {
        let shared = self.shared.as_ref()?;
        let bytes = match shared.store.get(&shared.name(key), deadline).await {
            Ok(bytes) => bytes?,
            // The value stays until the next response overwrites it.
            Err(StoreError::TooLong) => {
                self.counters.too_long.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Err(_logged_by_the_store) => {
                self.counters.failed_reads.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        let record = self.check(shared, &bytes, key, now)?;
        if !is_timely(&record, now) {
            self.counters.untimely.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(record)
    }

    /// Decodes a record of `key`. Any other bytes are a miss, which is counted and acted on.
    fn check(&self, shared: &Shared, bytes: &Bytes, key: &Key, now: Timestamp) -> Option<Record> {
        let why = match codec::decode(bytes, key, shared.format) {
            Ok(record) => return Some(record),
            Err(why) => why,
        };
        self.counters.refused(why);
        match shared.bad_values.treat(key.hash(), why, now) {
            BadValueAction::Leave => {}
            BadValueAction::Delete => shared.delete_behind(key, Proof::Given),
            BadValueAction::Verify => shared.delete_behind(key, Proof::Needed),
            BadValueAction::Distrust => shared.store.note_mismatch(&shared.name(key)),
        }
        None
    }
}

/// Whether a record may be used now. Its own times decide, and not the time to live of its key. A
/// record from an instance whose clock is too far ahead may not be used.
fn is_timely(record: &Record, now: Timestamp) -> bool {
    let from_the_future = match record {
        Record::Response(entry) => entry.head.lifetimes.stored > now.saturating_add(MAX_SKEW),
        Record::Value(value) => value.stored > now.saturating_add(MAX_SKEW),
        Record::Marker(_) => false,
    };
    now < record.kept_until() && !from_the_future
}

/// How far the clocks of two instances may differ.
const MAX_SKEW: Duration = Duration::from_secs(60);

/// How much longer a marker is kept than its variant, so that the next variant need not write the
/// marker again.
const MARKER_SLACK: Duration = Duration::from_secs(300);
