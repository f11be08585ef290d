//! The flights under way, and what is remembered of keys that have none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::hit_for_miss::{Credentials, HitForMiss, Uncacheable};
use super::state::Flight;
use crate::base::clock::{Clock, Timestamp};
use crate::base::position::Moment;
use crate::base::random;
use crate::base::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::base::sync::{MutexGuard, Striped};
use crate::key::Key;

/// Bounds on coalescing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) flights: usize,
    pub(crate) followers: usize,
    /// How many keys are remembered that have no flight.
    pub(crate) keys: usize,
    /// How long a key counts as uncacheable.
    pub(crate) hit_for_miss_ttl: Duration,
    /// How long requests join a flight. Its leader counts as lost after that.
    pub(crate) deadline: Duration,
}

/// The flights of one process, and the keys that begin none for a while.
#[derive(Debug)]
pub(crate) struct Flights {
    pub(super) limits: Limits,
    clock: Arc<dyn Clock>,
    tables: Striped<Table>,
    /// The number of flights, in the tables or replaced there.
    under_way: AtomicUsize,
    /// The number of flights that ever began.
    begun: AtomicU64,
    hit_for_miss: HitForMiss,
    /// The time until which a key is not fetched again, since its last fetch failed and a stale
    /// response can be served.
    backoff: random::Map<u128, Timestamp>,
    /// How long the handler took for a key, where entries are refreshed early.
    fetch_times: random::Map<u128, Duration>,
}

/// Flights under way by the hashes of their keys.
pub(super) type Table = HashMap<u128, Arc<Flight>, random::Hashers>;

impl Flights {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let keys = limits.keys.max(1);
        Self {
            limits,
            clock,
            tables: Striped::default(),
            under_way: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            hit_for_miss: HitForMiss::new(keys),
            backoff: random::bounded_map(keys),
            fetch_times: random::bounded_map(keys),
        }
    }

    /// The number of flights under way.
    pub(crate) fn len(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Remembers for a while that responses for `key` cannot be shared, so that no request waits
    /// for another's.
    pub(crate) fn add_hit_for_miss(&self, key: &Key, whom: Uncacheable, now: Timestamp) {
        let until = now.saturating_add(self.limits.hit_for_miss_ttl);
        self.hit_for_miss.insert(key, whom, until);
    }

    /// Forgets that a key is uncacheable, since a response for it could be shared after all.
    pub(crate) fn remove_hit_for_miss(&self, key: &Key, credentials: Credentials) {
        self.hit_for_miss.remove(key, credentials);
    }

    pub(super) fn is_hit_for_miss(
        &self,
        key: &Key,
        credentials: Credentials,
        now: Timestamp,
    ) -> bool {
        self.hit_for_miss.find(key, credentials, now).is_some()
    }

    /// Whether a layer of the same cache inside answered the last request for a key.
    pub(crate) fn is_handled_inside(
        &self,
        key: &Key,
        credentials: Credentials,
        now: Timestamp,
    ) -> bool {
        let whom = self.hit_for_miss.find(key, credentials, now);
        whom == Some(Uncacheable::HandledInside)
    }

    /// Lets no refresh of `key` begin for a moment, since its fetch failed.
    pub(crate) fn back_off(&self, key: &Key, now: Timestamp) {
        self.backoff.insert(key.hash(), now.saturating_add(BACKOFF));
    }

    pub(super) fn back_off_now(&self, key: &Key) {
        self.back_off(key, self.clock.now());
    }

    /// Whether the last fetch of a key failed a moment ago.
    pub(crate) fn is_backing_off(&self, key: &Key, now: Timestamp) -> bool {
        let until = self.backoff.get(&key.hash());
        until.is_some_and(|until| now < until)
    }

    /// Remembers how long the handler took for a key.
    pub(crate) fn note_fetch_time(&self, key: &Key, time: Duration) {
        self.fetch_times.insert(key.hash(), time);
    }

    /// How long the handler took for a key, if this instance has called it.
    pub(crate) fn fetch_time(&self, key: &Key) -> Option<Duration> {
        self.fetch_times.get(&key.hash())
    }

    /// The table in which the flight for `key` stands.
    pub(super) fn table(&self, key: &Key) -> MutexGuard<'_, Table> {
        self.tables.lock(key.hash())
    }

    /// The number of flights that ever began. By it a request knows those that begin after it has
    /// arrived.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Begins a flight, unless there are too many. A flight that is replaced goes on, and counts.
    pub(super) fn begin(
        &self,
        table: &mut Table,
        key: &Key,
        moment: Moment,
        began: Timestamp,
    ) -> Option<Arc<Flight>> {
        let one_more = |flights| (flights < self.limits.flights).then_some(flights + 1);
        let counted = self
            .under_way
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.ok()?;
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let flight = Arc::new(Flight::new(key.clone(), number, moment, began));
        table.insert(key.hash(), Arc::clone(&flight));
        Some(flight)
    }

    /// Ends a flight. A later one may have replaced it in the table.
    pub(super) fn remove(&self, flight: &Arc<Flight>) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        let hash = flight.key.hash();
        let mut table = self.tables.lock(hash);
        if table
            .get(&hash)
            .is_some_and(|current| Arc::ptr_eq(current, flight))
        {
            table.remove(&hash);
        }
    }
}

/// How long a key is not fetched again after a failed fetch.
const BACKOFF: Duration = Duration::from_secs(2);
