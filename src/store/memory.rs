//! Tier 1: decoded records in process, bounded by bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::EntryAction;

use crate::base::clock::Timestamp;
use crate::base::random::{self, Layout, Map};
use crate::entry::{Entry, Record};
use crate::key::KeyRef;

/// A scan-resistant map of records, weighted by their size (quick_cache: S3-FIFO).
pub(crate) struct Memory {
    records: Map<u128, Slot, ByWeight>,
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
    /// A tier of at most `bytes` for bodies of at most `longest_body`, in bytes; of zero bytes, one
    /// that holds no responses and no values.
    pub(crate) fn new(bytes: u64, longest_body: u64) -> Self {
        Self::for_processors(random::processors(), bytes, longest_body)
    }

    fn for_processors(processors: usize, bytes: u64, longest_body: u64) -> Self {
        let (bytes, holds) = match bytes {
            0 => (MARKERS, Holds::Markers),
            bytes => (bytes, Holds::Everything),
        };
        let layout = layout(processors, bytes, longest_body);
        Self {
            records: random::weighted_map(layout, ByWeight),
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

/// A shard refuses what is heavier than the part of it that is for what was asked for again, and
/// evicts by what it holds itself. So there are no more shards than hold many of the longest bodies,
/// whatever the number of processors.
fn layout(processors: usize, bytes: u64, longest_body: u64) -> Layout {
    let of_processors = processors.saturating_mul(SHARDS_OF_A_PROCESSOR);
    let of_bodies = bytes / longest_body.max(1).saturating_mul(BODIES_OF_A_SHARD);
    let shards = usize::try_from(of_bodies).map_or(of_processors, |most| most.min(of_processors));
    let items = usize::try_from(bytes / TYPICAL_RECORD).unwrap_or(usize::MAX);
    Layout {
        items: items.max(16),
        weight: bytes,
        shards: shards.checked_ilog2().map_or(1, |power| 1 << power),
    }
}

/// The size of the least tier that holds bodies of this length, in bytes.
pub(crate) const fn least_for(longest_body: u64) -> u64 {
    longest_body.saturating_add(longest_body / 4)
}

/// The weight of most records, in bytes. It decides for how many evicted records a trace is kept.
const TYPICAL_RECORD: u64 = 4 * 1024;

const SHARDS_OF_A_PROCESSOR: usize = 4;

/// With fewer, chance gives one shard more of the long bodies than it can hold.
const BODIES_OF_A_SHARD: u64 = 64;

/// The size of a tier that holds markers only, in bytes: enough for a few thousand resources.
const MARKERS: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::position::Moment;
    use crate::base::tags::Tags;
    use crate::entry::{Value, Verified};
    use crate::key::Key;

    /// Whatever the number of processors, a body of any length that is allowed finds room.
    #[test]
    fn a_body_up_to_the_longest_is_held_on_any_machine() {
        for processors in [1, 2, 3, 16, 32, 128] {
            for longest in [1 << 10, 100 << 10, 1 << 20] {
                for bytes in [2 << 20, 8 << 20, 64 << 20, 1 << 30] {
                    for length in [1, longest / 2, longest] {
                        let memory = Memory::for_processors(processors, bytes, longest);
                        memory.insert(value(1, length));
                        assert!(
                            memory.contains(value(1, 0).key().hash()),
                            "{processors} processors, {bytes} B for {longest} B: {length} B"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_least_tier_for_a_body_holds_it() {
        for longest in [64 << 10, 1 << 20, 16 << 20] {
            let memory = Memory::for_processors(32, least_for(longest), longest);
            memory.insert(value(1, longest));
            assert!(memory.contains(value(1, 0).key().hash()), "{longest}");
        }
    }

    /// What fits into the tier as a whole fits into its shards.
    #[test]
    fn sixty_megabytes_stay_in_a_tier_of_sixty_four_mebibytes() {
        for processors in [1, 2, 16, 128] {
            let memory = Memory::for_processors(processors, 64 << 20, 1 << 20);
            for number in 0..60 {
                memory.insert(value(number, 1_000_000));
            }
            let held = (0..60).filter(|number| memory.contains(value(*number, 0).key().hash()));
            assert_eq!(held.count(), 60, "{processors} processors");
        }
    }

    #[test]
    fn shards_follow_the_processors_as_far_as_bodies_allow() {
        let table = [
            (2, 64 << 20, 1 << 20, 1),
            (2, 1 << 30, 1 << 20, 8),
            (16, 1 << 30, 1 << 20, 16),
            (16, 1 << 30, 1 << 10, 64),
            (3, 1 << 30, 1 << 10, 8),
            (128, 2 << 20, 1 << 20, 1),
        ];
        for (processors, bytes, longest, shards) in table {
            let layout = layout(processors, bytes, longest);
            assert_eq!(layout.shards, shards, "{processors} {bytes} {longest}");
        }
    }

    fn value(number: u64, length: u64) -> Record {
        let length = usize::try_from(length).unwrap();
        Record::Value(Arc::new(Value {
            key: Key::of_value("memory", &number.to_string()),
            stored: Timestamp::default(),
            fresh_until: Timestamp::MAX,
            expires: Timestamp::MAX,
            moment: Moment::default(),
            tags: Tags::default(),
            verified: Verified::never(),
            bytes: Bytes::from(vec![0; length]),
        }))
    }
}
