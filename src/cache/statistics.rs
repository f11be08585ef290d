//! The figures of one cache.

use std::sync::atomic::Ordering;

use crate::cache::Cache;
use crate::store::Health;

/// The figures of [`Cache::statistics`]: sizes are those of now, counts are since the cache was
/// created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// The number of records in the in-process tier.
    pub memory_records: u64,
    /// The weight of those records, in bytes.
    pub memory_bytes: u64,
    /// The number of fetches that other requests can wait for.
    pub flights: u64,
    /// The memory that recordings of bodies hold, in bytes.
    pub fill_bytes: u64,
    /// The number of different tags, URLs and paths whose purges are remembered.
    pub purge_selectors: u64,
    /// Count of values in the shared store that this crate did not write.
    pub foreign_values: u64,
    /// Count of values that another version of this crate wrote.
    pub other_version_values: u64,
    /// Count of damaged values.
    pub corrupt_values: u64,
    /// Count of values that are longer than this instance reads.
    pub too_long_values: u64,
    /// Count of values that belong to another key.
    pub mismatched_values: u64,
    /// Count of values past their time, or from an instance whose clock is ahead.
    pub untimely_values: u64,
    /// Count of writes that were dropped because the queue was full.
    pub dropped_writes: u64,
    /// Count of writes that the store did not take.
    pub failed_writes: u64,
    /// Count of reads that the store did not answer.
    pub failed_reads: u64,
    /// The health of the shared store, if there is one.
    pub store: Option<Health>,
    /// Counts of responses by outcome and by reason.
    #[cfg(feature = "metrics")]
    pub responses: Responses,
}

#[cfg(feature = "metrics")]
pub use crate::status::Responses;

impl Cache {
    /// The figures of this cache, for an application's metrics. Reading them does no I/O.
    ///
    /// ```
    /// use tower_response_cache::{Cache, CacheConfig};
    ///
    /// let cache = Cache::new(CacheConfig::default());
    /// assert_eq!(cache.statistics().memory_records, 0);
    /// ```
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let tiers = self.tiers();
        let counters = tiers.counters();
        Statistics {
            memory_records: tiers.memory().len() as u64,
            memory_bytes: tiers.memory().weight(),
            flights: self.flights().len() as u64,
            fill_bytes: self.fill_bytes_taken(),
            purge_selectors: self.log().index().len() as u64,
            foreign_values: counters.foreign.load(Ordering::Relaxed),
            other_version_values: counters.other_version.load(Ordering::Relaxed),
            corrupt_values: counters.corrupt.load(Ordering::Relaxed),
            too_long_values: counters.too_long.load(Ordering::Relaxed),
            mismatched_values: counters.mismatched.load(Ordering::Relaxed),
            untimely_values: counters.untimely.load(Ordering::Relaxed),
            dropped_writes: counters.dropped_writes.load(Ordering::Relaxed),
            failed_writes: counters.failed_writes.load(Ordering::Relaxed),
            failed_reads: counters.failed_reads.load(Ordering::Relaxed),
            store: tiers.store().map(|store| store.health()),
            #[cfg(feature = "metrics")]
            responses: self.status_name().responses(),
        }
    }
}
