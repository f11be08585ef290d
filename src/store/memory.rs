//! Tier 1: decoded records in process, bounded by bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::{Cache, EntryAction};

use crate::base::clock::Timestamp;
use crate::base::random;
use crate::entry::{Entry, Record};
use crate::key::KeyRef;

/// A scan-resistant map of records, weighted by their size (quick_cache: S3-FIFO).
pub(crate) struct Memory {
    records: Cache<u128, Slot, ByWeight>,
    holds: Holds,
}

/// A record and its weight. The map asks for the weight again on eviction, when the record has long
/// left the processor's caches.
#[derive(Clone)]
struct Slot {
    record: Record,
    weight: u32,
    /// The weight includes the header map that answers are made from.
    ready: bool,
}

impl Slot {
    fn of(record: Record) -> Self {
        let is_ready = |entry: &Arc<Entry>| entry.head.headers.is_ready();
        Self {
            weight: u32::try_from(record.weight()).unwrap_or(u32::MAX),
            ready: record.response().is_none_or(is_ready),
            record,
        }
    }
}

/// The records that the tier holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Everything,
    /// The tier is turned off and holds markers only, so that a variant takes one round trip to the
    /// shared store and not two.
    Markers,
}

impl Memory {
    /// A tier of at most `bytes`. With zero bytes it holds markers only.
    pub(crate) fn new(bytes: u64) -> Self {
        let (bytes, holds) = match bytes {
            0 => (MARKERS, Holds::Markers),
            bytes => (bytes, Holds::Everything),
        };
        let items = usize::try_from(bytes / TYPICAL_RECORD).unwrap_or(usize::MAX);
        Self {
            records: random::weighted_map(items.max(16), bytes, ByWeight),
            holds,
        }
    }

    /// The record under `key`, if it may still be used. A response gets the header map that answers
    /// are made from, and weighs more from then on.
    pub(crate) fn get(&self, key: KeyRef<'_>, now: Timestamp) -> Option<Record> {
        let Slot { record, ready, .. } = self.find(key, now)?;
        if !ready && let Some(entry) = record.response() {
            entry.head.headers.ready();
            self.weigh_again(key.hash());
        }
        Some(record)
    }

    /// As [`Memory::get`], if no answer is made from the record.
    pub(crate) fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Option<Record> {
        self.find(key, now).map(|slot| slot.record)
    }

    fn find(&self, key: KeyRef<'_>, now: Timestamp) -> Option<Slot> {
        let slot = self.records.get(&key.hash())?;
        let record = &slot.record;
        (record.key().borrow() == key && now < record.kept_until()).then_some(slot)
    }

    fn weigh_again(&self, hash: u128) {
        let _gone_meanwhile = self.records.entry(&hash, Some(Duration::ZERO), |_, slot| {
            *slot = Slot::of(slot.record.clone());
            EntryAction::Retain(())
        });
    }

    /// The response under this hash, whatever its key is. Nobody is answered with it.
    pub(crate) fn response_of(&self, hash: u128) -> Option<Arc<Entry>> {
        self.records.peek(&hash)?.record.into_response()
    }

    /// Whether there is anything under this hash.
    pub(crate) fn contains(&self, hash: u128) -> bool {
        self.records.contains_key(&hash)
    }

    pub(crate) fn insert(&self, record: Record) {
        let hash = record.key().hash();
        match (self.holds, &record) {
            (Holds::Everything, _) | (Holds::Markers, Record::Marker(_)) => {
                self.records.insert(hash, Slot::of(record));
            }
            // The resource does not vary any more, so its marker goes.
            (Holds::Markers, _) => {
                self.records.remove(&hash);
            }
        }
    }

    pub(crate) fn remove(&self, hash: u128) {
        self.records.remove(&hash);
    }

    /// Removes all records.
    pub(crate) fn clear(&self) {
        self.records.clear();
    }

    /// Whether the tier holds no responses.
    pub(crate) fn is_off(&self) -> bool {
        self.holds == Holds::Markers
    }

    /// The number of records.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The weight of the records, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        self.records.weight()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("records", &self.len())
            .field("weight", &self.weight())
            .finish()
    }
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<u128, Slot> for ByWeight {
    fn weight(&self, _hash: &u128, slot: &Slot) -> u64 {
        slot.weight.into()
    }
}

/// Sizes the map at the start. The map grows as needed.
const TYPICAL_RECORD: u64 = 16 * 1024;

/// The size of a tier that holds markers only, in bytes: enough for a few thousand resources.
const MARKERS: u64 = 1 << 20;
