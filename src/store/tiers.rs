//! The two tiers together: memory above, the shared store below.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::rejected::{BadValueAction, Counters};
use super::shared::Proof;
use super::variants::{self, IsUsable, NewResponse, Placed, VariantIndex};
use super::{Flushed, Lookup, Memory, MemoryLookup, Shared, SharedStore, StoreError};
use crate::base::clock::Timestamp;
use crate::entry::codec;
use crate::entry::{Entry, Record, Value};
use crate::key::{Key, KeyBuilder};

/// Both tiers. A read asks memory and then the store. A write changes memory at once, and the store
/// in the background.
#[derive(Debug)]
pub(crate) struct Tiers {
    pub(super) memory: Memory,
    shared: Option<Shared>,
    pub(super) variants: VariantIndex,
    counters: Arc<Counters>,
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
    pub(crate) fn new(memory: Memory, shared: Option<Shared>, max_variants: usize) -> Self {
        Self {
            memory,
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
                let variant = builder.vary(marker.fields(), headers);
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

    /// Completes a look-up from the shared store: one round trip where the resource is known not to
    /// vary or the variant is there. A variant that is not there is a reason to read the marker
    /// again, since another instance may know of more names. A fault is a miss. An entry that was
    /// found is not in memory before [`Tiers::promote`].
    pub(crate) async fn look_in_store(
        &self,
        lookup: &mut Lookup,
        headers: &HeaderMap,
        now: Timestamp,
        deadline: Instant,
    ) {
        if let Some(variant) = &lookup.variant {
            match self.fetch(variant, now, deadline).await {
                Ok(None) => {}
                Ok(Some(record)) => return lookup.found(record),
                Err(Unread) => return,
            }
        }
        let Ok(record) = self.fetch(&lookup.base, now, deadline).await else {
            return;
        };
        let (read, marker) = match (record, &lookup.marker) {
            (Some(Record::Marker(marker)), _) => (Some(Arc::clone(&marker)), marker),
            (_, Some(marker)) => (None, Arc::clone(marker)),
            (Some(record), None) => return lookup.found(record),
            (None, None) => return,
        };
        let marker = self
            .variants
            .learn(&self.memory, &lookup.base, &marker, now);
        if read.is_none_or(|read| read.names != marker.names) {
            let record = Record::Marker(Arc::clone(&marker));
            self.write_behind(record, now, Reach::BothTiers, ());
        }
        let variant = lookup.base.variant(marker.fields(), headers);
        lookup.marker = Some(marker);
        if lookup.variant.as_ref() != Some(&variant) {
            let found = self.fetch(&variant, now, deadline).await;
            lookup.variant = Some(variant);
            if let Ok(Some(record)) = found {
                lookup.found(record);
            }
        }
    }

    /// The response that memory has for a request with these fields, whatever its key says.
    pub(crate) fn standing(
        &self,
        base: &Key,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<Arc<Entry>> {
        match self.memory.peek(base.borrow(), now)? {
            Record::Response(entry) => Some(entry),
            Record::Marker(marker) => {
                let variant = base.variant(marker.fields(), headers);
                variants::find(&self.memory, &marker, variant.canonical(), now)
            }
            Record::Value(_) => None,
        }
    }

    /// Puts the entry that was found in the shared store into memory, unless memory has a newer one.
    pub(crate) fn promote(&self, lookup: &Lookup, is_usable: IsUsable<'_>, now: Timestamp) {
        if let Some(entry) = &lookup.entry {
            let (base, fields) = (&lookup.base, lookup.fields());
            self.variants
                .promote(&self.memory, base, &fields, entry, is_usable, now);
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
        let found = self.fetch(key, now, deadline).await;
        found.ok().flatten()?.into_value()
    }

    /// Puts a value of the shared store into memory.
    pub(crate) fn promote_value(&self, value: &Arc<Value>) {
        self.memory.insert(Record::Value(Arc::clone(value)));
    }

    /// Puts a response into memory, under its request's values of all the fields that count.
    pub(crate) fn place(
        &self,
        new: NewResponse<'_>,
        is_usable: IsUsable<'_>,
        now: Timestamp,
    ) -> Placed {
        self.variants.place(&self.memory, new, is_usable, now)
    }

    /// Stores a response that memory has in the shared store, in the background. `until_written` is
    /// dropped when the shared store has the response, or when it is certain that it will not get it.
    pub(crate) fn write_placed(
        &self,
        placed: &Placed,
        now: Timestamp,
        reach: Reach,
        until_written: impl Send + 'static,
    ) {
        let Placed {
            entry,
            fields: _,
            marker,
            displaced,
        } = placed;
        if let Some(marker) = marker {
            self.write_behind(Record::Marker(Arc::clone(marker)), now, reach, ());
        }
        if let (Some(key), Some(shared)) = (displaced, &self.shared) {
            shared.remove_behind(key);
        }
        let record = Record::Response(Arc::clone(entry));
        self.write_behind(record, now, reach, until_written);
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
        self.memory.remove(key.hash());
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
    async fn fetch(
        &self,
        key: &Key,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Option<Record>, Unread> {
        let Some(shared) = &self.shared else {
            return Err(Unread);
        };
        let bytes = match shared.store.get(&shared.name(key), deadline).await {
            Ok(bytes) => bytes,
            // The value stays until the next response overwrites it.
            Err(StoreError::TooLong) => {
                self.counters.too_long.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
            Err(_logged_by_the_store) => {
                self.counters.failed_reads.fetch_add(1, Ordering::Relaxed);
                return Err(Unread);
            }
        };
        let record = bytes.and_then(|bytes| self.check(shared, &bytes, key, now));
        if record.as_ref().is_some_and(|it| !is_timely(it, now)) {
            self.counters.untimely.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        Ok(record)
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

/// The store does not say what it has.
struct Unread;

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
