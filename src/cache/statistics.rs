//! Figures of one cache, for metrics.

use std::sync::atomic::Ordering;

use crate::cache::Cache;
use crate::store::Health;

/// What [`Cache::statistics`] tells: what there is now, and what has happened since the cache was
/// made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Records in the in-process tier now.
    pub memory_records: u64,
    /// What they weigh now, in bytes.
    pub memory_bytes: u64,
    /// Fetches now that other requests can wait for.
    pub flights: u64,
    /// Bytes set aside now for bodies that are being recorded.
    pub fill_bytes: u64,
    /// Purged tags, URLs and paths that are remembered now: what the purge log holds, each once.
    pub purge_selectors: u64,
    /// Values in the shared store that were not written by this crate.
    pub foreign_values: u64,
    /// Values written by another version of it.
    pub other_version_values: u64,
    /// Damaged values.
    pub corrupt_values: u64,
    /// Values longer than this instance stores.
    pub too_long_values: u64,
    /// Values that were another key's.
    pub mismatched_values: u64,
    /// Values past their time, or from an instance whose clock is ahead.
    pub untimely_values: u64,
    /// Writes that were dropped because too many were waiting.
    pub dropped_writes: u64,
    /// Writes that the store did not take.
    pub failed_writes: u64,
    /// Reads that the store did not answer.
    pub failed_reads: u64,
    /// The state of the shared store, if there is one.
    pub store: Option<Health>,
    /// What became of requests. Counted only with the feature `metrics`.
    #[cfg(feature = "metrics")]
    pub responses: Responses,
}

#[cfg(feature = "metrics")]
pub use crate::status::Responses;

impl Cache {
    /// Figures of this cache, for an application's metrics. Does no I/O.
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
