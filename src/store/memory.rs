//! Tier 1: decoded records in process, bounded by bytes.

use std::fmt;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::clock::Timestamp;
use crate::entry::Record;
use crate::key::{Key, KeyRef};

/// A scan-resistant map of records, weighted by their size (quick_cache: S3-FIFO).
pub(crate) struct Memory {
    records: Option<Cache<u128, Record, ByRecordWeight>>,
}

impl Memory {
    /// A tier of at most `bytes`; of zero bytes, one that holds nothing.
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / TYPICAL_RECORD).unwrap_or(usize::MAX);
        let cache = |bytes| Cache::with_weighter(items.max(16), bytes, ByRecordWeight);
        Self {
            records: (bytes > 0).then(|| cache(bytes)),
        }
    }

    /// The record under `key`, if it is of this key and not past its use.
    pub(crate) fn get(&self, key: KeyRef<'_>, now: Timestamp) -> Option<Record> {
        let record = self.records.as_ref()?.get(&key.hash())?;
        (record.key().borrow() == key && now < record.kept_until()).then_some(record)
    }

    /// Whether there is anything under this hash.
    pub(crate) fn contains(&self, hash: u128) -> bool {
        self.records
            .as_ref()
            .is_some_and(|records| records.contains_key(&hash))
    }

    pub(crate) fn insert(&self, record: Record) {
        if let Some(records) = &self.records {
            records.insert(record.key().hash(), record);
        }
    }

    /// Whether there was one.
    pub(crate) fn remove(&self, key: &Key) -> bool {
        let removed = self
            .records
            .as_ref()
            .and_then(|records| records.remove(&key.hash()));
        removed.is_some()
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        if let Some(records) = &self.records {
            records.clear();
        }
    }

    /// Whether it never holds anything.
    pub(crate) fn is_off(&self) -> bool {
        self.records.is_none()
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.as_ref().map_or(0, Cache::len)
    }

    /// What they weigh, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        self.records.as_ref().map_or(0, Cache::weight)
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
struct ByRecordWeight;

impl Weighter<u128, Record> for ByRecordWeight {
    fn weight(&self, _hash: &u128, record: &Record) -> u64 {
        record.weight() as u64
    }
}

/// Only sizes the map at the start; it grows as needed.
const TYPICAL_RECORD: u64 = 16 * 1024;
