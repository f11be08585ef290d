//! Sends the figures of [`Statistics`](crate::Statistics) to the `metrics` facade.

use ::metrics::{counter, gauge};

use crate::cache::Cache;
use crate::cache::statistics::Statistics;
use crate::store::{BreakerState, Health, StoreState};

impl Cache {
    /// Sends the current figures to the recorder of the `metrics` facade.
    ///
    /// Call this before each scrape, or at an interval if the recorder pushes. The cache has no task
    /// of its own for it. The names of the metrics are in `docs/operations.md`. Each has the label
    /// `cache` with the cache's name in `Cache-Status`, so several caches in one process need
    /// different names.
    ///
    /// ```
    /// use tower_response_cache::{Cache, CacheConfig};
    ///
    /// let cache = Cache::new(CacheConfig::default());
    /// cache.record_metrics();
    /// ```
    pub fn record_metrics(&self) {
        record(self.status_name().as_str(), &self.statistics());
    }
}

fn record(cache: &str, statistics: &Statistics) {
    let cache = || ("cache", cache.to_owned());
    let Statistics {
        memory_records,
        memory_bytes,
        flights,
        fill_bytes,
        purge_selectors,
        foreign_values,
        other_version_values,
        corrupt_values,
        too_long_values,
        mismatched_values,
        untimely_values,
        dropped_writes,
        failed_writes,
        failed_reads,
        store,
        responses,
    } = statistics;
    for (outcome, count) in &responses.outcomes {
        counter!(
            "response_cache_responses_total",
            &[cache(), ("outcome", (*outcome).to_owned())]
        )
        .absolute(*count);
    }
    for (detail, count) in &responses.details {
        counter!(
            "response_cache_details_total",
            &[cache(), ("detail", (*detail).to_owned())]
        )
        .absolute(*count);
    }
    counter!("response_cache_stored_total", &[cache()]).absolute(responses.stored);
    counter!("response_cache_collapsed_total", &[cache()]).absolute(responses.collapsed);
    for (reason, count) in [
        ("foreign", foreign_values),
        ("other-version", other_version_values),
        ("corrupt", corrupt_values),
        ("too-long", too_long_values),
        ("mismatched", mismatched_values),
        ("untimely", untimely_values),
    ] {
        let labels = [cache(), ("reason", reason.to_owned())];
        counter!("response_cache_refused_values_total", &labels).absolute(*count);
    }
    for (reason, count) in [("queue-full", dropped_writes), ("store", failed_writes)] {
        let labels = [cache(), ("reason", reason.to_owned())];
        counter!("response_cache_lost_writes_total", &labels).absolute(*count);
    }
    counter!("response_cache_failed_reads_total", &[cache()]).absolute(*failed_reads);
    for (name, value) in [
        ("response_cache_memory_records", memory_records),
        ("response_cache_memory_bytes", memory_bytes),
        ("response_cache_flights", flights),
        ("response_cache_fill_bytes", fill_bytes),
        ("response_cache_purge_selectors", purge_selectors),
    ] {
        gauge!(name, &[cache()]).set(*value as f64);
    }
    if let Some(store) = store {
        record_store(cache, store);
    }
}

fn record_store(cache: impl Fn() -> (&'static str, String), store: &Health) {
    let Health {
        state,
        read_breaker,
        write_breaker,
        dials,
        mismatches,
        suspensions,
        since: _,
        last_error: _,
    } = store;
    for possible in StoreState::ALL {
        let labels = [cache(), ("state", possible.name().to_owned())];
        let value = if possible == *state { 1.0 } else { 0.0 };
        gauge!("response_cache_store_state", &labels).set(value);
    }
    for (lane, breaker) in [("reads", read_breaker), ("writes", write_breaker)] {
        let labels = [cache(), ("lane", lane.to_owned())];
        let value = if *breaker == BreakerState::Closed {
            0.0
        } else {
            1.0
        };
        gauge!("response_cache_store_suspended", &labels).set(value);
    }
    counter!("response_cache_store_suspensions_total", &[cache()]).absolute(*suspensions);
    counter!("response_cache_store_dials_total", &[cache()]).absolute(*dials);
    counter!("response_cache_store_mismatches_total", &[cache()]).absolute(*mismatches);
}
