//! Which flights are under way, and which keys have none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::leader::Errand;
use super::{Credentials, Flight, JoinRequest, Joined, Leader, Limits, Role, Uncacheable};
use crate::base::clock::{Clock, Timestamp};
use crate::base::random;
use crate::base::sync::Striped;
use crate::key::Key;

/// The flights under way and the keys that are marked uncacheable, of one process.
#[derive(Debug)]
pub(crate) struct Flights {
    limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    tables: Striped<Table>,
    /// How many flights there are in all tables.
    under_way: AtomicUsize,
    /// Hit-for-miss: until when each key is known to be uncacheable, and for whom.
    marks: quick_cache::sync::Cache<(u128, Credentials), Timestamp>,
    /// Until when a failed fetch of a key that can be served stale is not tried again.
    rests: quick_cache::sync::Cache<u128, Timestamp>,
    /// How long the handler took for a key, where entries are refreshed early.
    costs: quick_cache::sync::Cache<u128, Duration>,
    /// No key has been marked yet.
    unmarked: AtomicBool,
}

/// Flights under way by the hashes of their keys.
type Table = HashMap<u128, Arc<Flight>, quick_cache::DefaultHashBuilder>;

impl Flights {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let marks = limits.marks.max(1);
        Self {
            limits,
            clock,
            tables: Striped::default(),
            under_way: AtomicUsize::new(0),
            marks: random::bounded_map(marks),
            rests: random::bounded_map(marks),
            costs: random::bounded_map(marks),
            unmarked: AtomicBool::new(true),
        }
    }

    /// Joins the flight for `key`, or begins one.
    pub(crate) fn join_or_lead(self: &Arc<Self>, key: &Key, join_request: &JoinRequest) -> Joined {
        if self.is_marked(key, join_request.credentials, join_request.now) {
            return Joined::Alone;
        }
        let mut table = self.tables.lock(key.hash());
        if let Some(flight) = self.joinable(&table, key, join_request.version, join_request.now) {
            return flight.join(key, self.limits.followers);
        }
        if join_request.role == Role::FollowerOnly {
            return Joined::Alone;
        }
        let (version, now) = (join_request.version, join_request.now);
        self.begin(&mut table, key, version, now, Errand::Request)
            .map_or(Joined::Alone, Joined::Lead)
    }

    /// Leads a flight for `key` unless there is one, or the key rests or is marked: for
    /// background refreshes.
    pub(crate) fn lead_if_idle(
        self: &Arc<Self>,
        key: &Key,
        join_request: &JoinRequest,
    ) -> Option<Leader> {
        let (version, now) = (join_request.version, join_request.now);
        if self.rests(key, now) || self.is_marked(key, join_request.credentials, now) {
            return None;
        }
        let mut table = self.tables.lock(key.hash());
        if self.joinable(&table, key, version, now).is_some() {
            return None;
        }
        self.begin(&mut table, key, version, now, Errand::Refresh)
    }

    /// Whether anyone is fetching the key of this hash.
    pub(crate) fn has(&self, hash: u128) -> bool {
        self.tables.lock(hash).contains_key(&hash)
    }

    /// Remembers for a while that responses for `key` cannot be shared: with anyone, or when it
    /// is someone with credentials who asks.
    pub(crate) fn mark(&self, key: &Key, whom: Uncacheable, now: Timestamp) {
        self.unmarked.store(false, Ordering::Release);
        let until = now.saturating_add(self.limits.mark_ttl);
        if whom == Uncacheable::ForAll {
            self.marks
                .insert((key.hash(), Credentials::Anonymous), until);
        }
        self.marks
            .insert((key.hash(), Credentials::Credentialed), until);
    }

    /// Takes the mark away that a response which could be shared has proved wrong.
    pub(crate) fn unmark(&self, key: &Key, credentials: Credentials) {
        if !self.unmarked.load(Ordering::Acquire) {
            self.marks.remove(&(key.hash(), credentials));
        }
    }

    /// Lets a key rest whose fetch failed, since it can be served stale meanwhile.
    pub(crate) fn rest(&self, key: &Key, now: Timestamp) {
        self.rests.insert(key.hash(), now.saturating_add(REST));
    }

    /// Whether the last fetch of a key failed a moment ago.
    pub(crate) fn rests(&self, key: &Key, now: Timestamp) -> bool {
        self.rests.get(&key.hash()).is_some_and(|until| now < until)
    }

    /// Remembers how long the handler took for a key.
    pub(crate) fn note_cost(&self, key: &Key, cost: Duration) {
        self.costs.insert(key.hash(), cost);
    }

    /// How long the handler took for a key, if this instance called it.
    pub(crate) fn cost(&self, key: &Key) -> Option<Duration> {
        self.costs.get(&key.hash())
    }

    /// The flights under way.
    pub(crate) fn len(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    fn is_marked(&self, key: &Key, credentials: Credentials, now: Timestamp) -> bool {
        if self.unmarked.load(Ordering::Acquire) {
            return false;
        }
        let until = self.marks.get(&(key.hash(), credentials));
        until.is_some_and(|until| now < until)
    }

    /// The flight for `key`, unless it is another's by a collision of hashes or too old: begun
    /// before a purge, or so long ago that nobody waits for it any more.
    fn joinable<'a>(
        &self,
        table: &'a Table,
        key: &Key,
        version: u64,
        now: Timestamp,
    ) -> Option<&'a Arc<Flight>> {
        let flight = table.get(&key.hash())?;
        let current = flight.version == version && now.since(flight.began) < self.limits.deadline;
        current.then_some(flight)
    }

    /// Begins a flight, unless there are too many; one that takes another's place is none more.
    fn begin(
        self: &Arc<Self>,
        table: &mut Table,
        key: &Key,
        version: u64,
        began: Timestamp,
        errand: Errand,
    ) -> Option<Leader> {
        if !table.contains_key(&key.hash()) {
            let one_more = |flights| (flights < self.limits.flights).then_some(flights + 1);
            let counted =
                self.under_way
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
            counted.ok()?;
        }
        let flight = Arc::new(Flight::new(key.clone(), version, began));
        table.insert(key.hash(), Arc::clone(&flight));
        Some(Leader::new(Arc::clone(self), flight, errand))
    }

    /// Takes a flight from the table, unless a later one stands in its place.
    pub(super) fn remove(&self, flight: &Arc<Flight>) {
        let hash = flight.key.hash();
        let mut table = self.tables.lock(hash);
        if table
            .get(&hash)
            .is_some_and(|standing| Arc::ptr_eq(standing, flight))
        {
            table.remove(&hash);
            self.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How long a key rests after a failed fetch.
const REST: Duration = Duration::from_secs(2);
