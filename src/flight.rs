//! One leader per key: many requests for the same thing, one call of the handler.
//!
//! ```text
//! board ─┬─ Lead ──── share(head) ── commit ──► Landed      followers read the recording
//!        │     ├───── release ───────────────► Released     followers go on their own, all at once
//!        │     └───── dropped ───────────────► Failed       followers compete again
//!        ├─ Follow ── wait
//!        └─ Alone     marked uncacheable, or too many
//! ```
//!
//! A flight stands in the table until its leader is dropped. One that began before the last
//! purge, or has been under way for longer than its deadline, is joined by nobody any more: the
//! next request begins another in its place.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;

use crate::clock::{Clock, Timestamp};
use crate::entry::Head;
use crate::key::Key;
use crate::lease::Lease;
use crate::policy::RequestFacts;
use crate::recording::Recording;
use crate::sync::{Mutex, MutexGuard};
use crate::waiters::{Place, Waiters};

/// The flights under way and the keys that are marked uncacheable, of one process.
#[derive(Debug)]
pub(crate) struct Flights {
    limits: Limits,
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
    /// Hit-for-miss: until when each key is known to be uncacheable, and for whom.
    marks: quick_cache::sync::Cache<(u128, Requester), Timestamp>,
    /// Until when a failed fetch of a key that can be served stale is not tried again.
    rests: quick_cache::sync::Cache<u128, Timestamp>,
    /// How long the handler took for a key, where entries are refreshed early.
    costs: quick_cache::sync::Cache<u128, Duration>,
    /// No key has been marked yet.
    unmarked: AtomicBool,
    changes: AtomicU64,
}

/// The flights under way by the hashes of their keys.
type Table = HashMap<u128, Arc<Flight>, quick_cache::DefaultHashBuilder>;

/// Bounds on coalescing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) flights: usize,
    pub(crate) followers: usize,
    pub(crate) marks: usize,
    /// How long a key stays marked uncacheable.
    pub(crate) mark_ttl: Duration,
    /// How long a flight is joined: after that its leader counts as lost.
    pub(crate) deadline: Duration,
}

/// One who asks for a place on a flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) requester: Requester,
    pub(crate) role: Role,
    /// The purge log's version.
    pub(crate) version: u64,
    pub(crate) now: Timestamp,
}

/// What a request may be on a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Any,
    /// It asks for something of its own (a part, or a 304 to its own validator): the answer to it
    /// is no one else's, but it may be cut from the answer to another's.
    FollowerOnly,
}

/// What a request is to do.
#[derive(Debug)]
pub(crate) enum Boarding {
    Lead(Leader),
    Follow(Follower),
    /// Call the handler without anyone waiting for it.
    Alone,
}

/// What a flight has come to, as its followers see it.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// The handler has not answered yet.
    Waiting,
    /// The head is there, and the body is being recorded.
    Shared(Offer, Arc<Recording>),
    /// Complete, or updated by a 304, or the stale one that stands in for a failure.
    Landed(Offer, Bytes),
    /// Not to be shared: each on its own, or each of those concerned.
    Released(Option<Uncacheable>),
    /// The leader is gone without a result.
    Failed,
}

/// A head that followers may be served with, each if it is of their own variant.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) head: Arc<Head>,
    /// What the response varies on.
    pub(crate) fields: Arc<[HeaderName]>,
}

/// On whose behalf a request is made, as far as sharing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Requester {
    Anonymous,
    /// With `Authorization` or `Cookie`.
    Credentialed,
}

impl Requester {
    pub(crate) const fn of(facts: &RequestFacts) -> Self {
        if facts.authorization || facts.cookie {
            Self::Credentialed
        } else {
            Self::Anonymous
        }
    }
}

#[derive(Debug)]
struct Flight {
    key: Key,
    /// The purge log's version when it began: what comes after a purge does not join.
    version: u64,
    began: Timestamp,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    followers: usize,
    waiters: Waiters,
}

impl Flights {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let marks = limits.marks.max(1);
        Self {
            limits,
            clock,
            table: Mutex::default(),
            marks: quick_cache::sync::Cache::new(marks),
            rests: quick_cache::sync::Cache::new(marks),
            costs: quick_cache::sync::Cache::new(marks),
            unmarked: AtomicBool::new(true),
            changes: AtomicU64::new(0),
        }
    }

    /// Joins the flight for `key`, or begins one.
    pub(crate) fn board(self: &Arc<Self>, key: &Key, arrival: &Arrival) -> Boarding {
        if self.is_marked(key, arrival.requester, arrival.now) {
            return Boarding::Alone;
        }
        let mut table = self.table.lock();
        if let Some(flight) = self.joinable(&table, key, arrival.version, arrival.now) {
            return flight.join(key, self.limits.followers);
        }
        if arrival.role == Role::FollowerOnly || self.is_full(&table, key) {
            return Boarding::Alone;
        }
        let (version, now) = (arrival.version, arrival.now);
        Boarding::Lead(self.begin(&mut table, key, version, now, Errand::Request))
    }

    /// Leads a flight for `key` unless there is one, or the key rests or is marked: for
    /// background refreshes.
    pub(crate) fn lead_if_idle(self: &Arc<Self>, key: &Key, arrival: &Arrival) -> Option<Leader> {
        let (version, now) = (arrival.version, arrival.now);
        if self.rests(key, now) || self.is_marked(key, arrival.requester, now) {
            return None;
        }
        let mut table = self.table.lock();
        let busy = self.joinable(&table, key, version, now).is_some();
        (!busy && !self.is_full(&table, key))
            .then(|| self.begin(&mut table, key, version, now, Errand::Refresh))
    }

    /// Whether anyone is fetching the key of this hash.
    pub(crate) fn has(&self, hash: u128) -> bool {
        self.table.lock().contains_key(&hash)
    }

    /// How many requests with unsafe methods have succeeded: none may be overlooked by one who
    /// stores what was asked for before.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(crate) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Remembers for a while that responses for `key` cannot be shared: with anyone, or when it
    /// is someone with credentials who asks.
    pub(crate) fn mark(&self, key: &Key, whom: Uncacheable, now: Timestamp) {
        self.unmarked.store(false, Ordering::Release);
        let until = now.saturating_add(self.limits.mark_ttl);
        if whom == Uncacheable::ForAll {
            self.marks.insert((key.hash(), Requester::Anonymous), until);
        }
        self.marks
            .insert((key.hash(), Requester::Credentialed), until);
    }

    /// Takes the mark away that a response which could be shared has proved wrong.
    pub(crate) fn unmark(&self, key: &Key, requester: Requester) {
        if !self.unmarked.load(Ordering::Acquire) {
            self.marks.remove(&(key.hash(), requester));
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
        self.table.lock().len()
    }

    fn is_marked(&self, key: &Key, requester: Requester, now: Timestamp) -> bool {
        if self.unmarked.load(Ordering::Acquire) {
            return false;
        }
        let until = self.marks.get(&(key.hash(), requester));
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

    /// Whether there are too many flights for one more; one that takes another's place is none.
    fn is_full(&self, table: &Table, key: &Key) -> bool {
        table.len() >= self.limits.flights && !table.contains_key(&key.hash())
    }

    fn begin(
        self: &Arc<Self>,
        table: &mut Table,
        key: &Key,
        version: u64,
        began: Timestamp,
        errand: Errand,
    ) -> Leader {
        let flight = Arc::new(Flight {
            key: key.clone(),
            version,
            began,
            state: Mutex::new(State {
                stage: Stage::Waiting,
                followers: 0,
                waiters: Waiters::default(),
            }),
        });
        table.insert(key.hash(), Arc::clone(&flight));
        Leader {
            flights: Arc::clone(self),
            flight,
            errand,
            lease: None,
            landed: false,
        }
    }

    /// Takes a flight from the table, unless a later one stands in its place.
    fn remove(&self, flight: &Arc<Flight>) {
        let mut table = self.table.lock();
        let hash = flight.key.hash();
        if table
            .get(&hash)
            .is_some_and(|standing| Arc::ptr_eq(standing, flight))
        {
            table.remove(&hash);
        }
    }
}

impl Flight {
    fn join(self: &Arc<Self>, key: &Key, most: usize) -> Boarding {
        let mut state = self.lock();
        if self.key != *key || state.followers >= most {
            return Boarding::Alone;
        }
        state.followers += 1;
        Boarding::Follow(Follower {
            flight: Arc::clone(self),
            place: Place::default(),
        })
    }

    /// Followers are woken once they can see what they are woken for.
    fn set(&self, stage: Stage) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.stage, stage);
        let wakers = state.waiters.take();
        drop(state);
        drop(before);
        wakers.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Why a flight was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// A request waits for it.
    Request,
    /// The stale entry was served: if the refresh comes to nothing, the next is let wait.
    Refresh,
}

/// For whom a key's responses cannot be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uncacheable {
    ForAll,
    /// Only requests with credentials bring such responses about.
    ForCredentialed,
}

/// The one who calls the handler. Dropped without a result, the flight has failed.
#[derive(Debug)]
pub(crate) struct Leader {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    errand: Errand,
    /// The right to fetch on behalf of all instances.
    lease: Option<Lease>,
    /// There is nothing left to do.
    landed: bool,
}

impl Leader {
    pub(crate) fn key(&self) -> &Key {
        &self.flight.key
    }

    /// Keeps the lease until the flight has ended.
    pub(crate) fn hold(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Takes the lease, to be kept until the other instances can see the entry.
    pub(crate) fn take_lease(&mut self) -> Option<Lease> {
        self.lease.take()
    }

    /// Lets the followers have the recording while it grows. Later requests join still.
    pub(crate) fn share(&self, offer: Offer, recording: Arc<Recording>) {
        self.flight.set(Stage::Shared(offer, recording));
    }

    /// Lets the followers have a complete entry. Unless it is stored already, the leader is to be
    /// kept until it is, so that no request falls between the flight and the entry.
    pub(crate) fn land(&self, offer: Offer, body: Bytes) {
        self.flight.set(Stage::Landed(offer, body));
    }

    /// As [`Leader::land`] of an entry that is stored already, and the end of the flight: who comes
    /// later finds the entry.
    pub(crate) fn land_stored(mut self, offer: Offer, body: &Bytes) {
        self.landed = true;
        self.flights.remove(&self.flight);
        // Nobody joins any more.
        if self.flight.lock().followers > 0 {
            self.flight.set(Stage::Landed(offer, body.clone()));
        }
    }

    /// Ends the flight: every follower goes to the handler with its own request.
    pub(crate) fn release(self) {
        self.flight.set(Stage::Released(None));
    }

    /// Ends the flight, and marks its key so that no flight is begun for a while.
    pub(crate) fn release_and_mark(self, whom: Uncacheable, now: Timestamp) {
        self.flights.mark(&self.flight.key, whom, now);
        self.flight.set(Stage::Released(Some(whom)));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let landed = matches!(self.flight.lock().stage, Stage::Landed(..));
        if self.errand == Errand::Refresh && !landed {
            self.flights
                .rest(&self.flight.key, self.flights.clock.now());
        }
        self.flights.remove(&self.flight);
        let lost = matches!(self.flight.lock().stage, Stage::Waiting | Stage::Shared(..));
        if lost {
            self.flight.set(Stage::Failed);
        }
    }
}

/// One who waits for the leader's response. Dropping it leaves no trace.
#[derive(Debug)]
pub(crate) struct Follower {
    flight: Arc<Flight>,
    place: Place,
}

impl Follower {
    /// Waits for the head or the end.
    pub(crate) async fn wait(&mut self) -> Stage {
        poll_fn(|context| {
            let mut state = self.flight.lock();
            if matches!(state.stage, Stage::Waiting) {
                state.waiters.enter(&mut self.place, context);
                return Poll::Pending;
            }
            Poll::Ready(state.stage.clone())
        })
        .await
    }

    /// What the flight has come to by now.
    pub(crate) fn stage(&self) -> Stage {
        self.flight.lock().stage.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        state.followers -= 1;
        let left = state.waiters.leave(&mut self.place);
        drop(state);
        drop(left);
    }
}

/// How long a key rests after a failed fetch.
const REST: Duration = Duration::from_secs(2);
