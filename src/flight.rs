//! One leader per key: many requests for the same thing, one call of the handler.
//!
//! ```text
//! board ─┬─ Lead ──── share(head) ── commit ──► Landed      followers read the recording
//!        │     ├───── release ───────────────► Released     followers go on their own, all at once
//!        │     └───── dropped ───────────────► Failed       followers compete again
//!        ├─ Follow ── wait
//!        └─ Alone     marked uncacheable, or too many
//! ```

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;

use crate::clock::Timestamp;
use crate::entry::Head;
use crate::key::Key;
use crate::recording::Recording;
use crate::waiters::{Place, Waiters, wake};

/// The flights under way and the keys that are marked uncacheable, of one process.
#[derive(Debug)]
pub(crate) struct Flights {
    limits: Limits,
    table: Mutex<HashMap<u128, Arc<Flight>>>,
    /// Hit-for-miss: until when each key is known to be uncacheable, and for whom.
    marks: quick_cache::sync::Cache<(u128, Requester), Timestamp>,
    /// Until when a failed fetch of a key that can be served stale is not tried again.
    rests: quick_cache::sync::Cache<u128, Timestamp>,
}

/// Bounds on coalescing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) flights: usize,
    pub(crate) followers: usize,
    pub(crate) marks: usize,
    /// How long a key stays marked uncacheable.
    pub(crate) mark_ttl: Duration,
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
    Shared(Arc<Offer>, Arc<Recording>),
    /// Complete, or updated by a 304, or the stale one that stands in for a failure.
    Landed(Arc<Offer>, Bytes),
    /// Not to be shared: each on its own.
    Released,
    /// The leader is gone without a result.
    Failed,
}

/// A head that followers may be served with, each if it is of their own variant.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) head: Arc<Head>,
    /// What the response varies on.
    pub(crate) fields: Vec<HeaderName>,
}

/// On whose behalf a request is made, as far as sharing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Requester {
    Anonymous,
    /// With `Authorization` or `Cookie`.
    Credentialed,
}

#[derive(Debug)]
struct Flight {
    key: Key,
    /// The purge log's version when it began: what comes after a purge does not join.
    version: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    followers: usize,
    waiters: Waiters,
}

impl Flights {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            table: Mutex::default(),
            marks: quick_cache::sync::Cache::new(limits.marks.max(1)),
            rests: quick_cache::sync::Cache::new(limits.marks.max(1)),
        }
    }

    /// Joins the flight for `key`, or begins one.
    pub(crate) fn board(
        self: &Arc<Self>,
        key: &Key,
        requester: Requester,
        version: u64,
        now: Timestamp,
    ) -> Boarding {
        if self.is_marked(key, requester, now) {
            return Boarding::Alone;
        }
        let mut table = self.lock();
        if let Some(flight) = table.get(&key.hash())
            && flight.version == version
        {
            return flight.join(key, self.limits.followers);
        }
        if table.len() >= self.limits.flights {
            return Boarding::Alone;
        }
        Boarding::Lead(self.begin(&mut table, key, version))
    }

    /// Leads a flight for `key` unless there is one: for background refreshes.
    pub(crate) fn lead_if_idle(self: &Arc<Self>, key: &Key, version: u64) -> Option<Leader> {
        let mut table = self.lock();
        let idle = !table.contains_key(&key.hash()) && table.len() < self.limits.flights;
        idle.then(|| self.begin(&mut table, key, version))
    }

    /// Whether anyone is fetching `key`.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.lock().contains_key(&key.hash())
    }

    /// Remembers for a while that responses for `key` cannot be shared: with anyone, or when it
    /// is someone with credentials who asks.
    pub(crate) fn mark(&self, key: &Key, whom: Uncacheable, now: Timestamp) {
        let until = now.saturating_add(self.limits.mark_ttl);
        if whom == Uncacheable::ForAll {
            self.marks.insert((key.hash(), Requester::Anonymous), until);
        }
        self.marks
            .insert((key.hash(), Requester::Credentialed), until);
    }

    /// Lets a key rest whose fetch failed, since it can be served stale meanwhile.
    pub(crate) fn rest(&self, key: &Key, now: Timestamp) {
        self.rests.insert(key.hash(), now.saturating_add(REST));
    }

    /// Whether the last fetch of a key failed a moment ago.
    pub(crate) fn rests(&self, key: &Key, now: Timestamp) -> bool {
        self.rests.get(&key.hash()).is_some_and(|until| now < until)
    }

    /// The flights under way.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn is_marked(&self, key: &Key, requester: Requester, now: Timestamp) -> bool {
        let until = self.marks.get(&(key.hash(), requester));
        until.is_some_and(|until| now < until)
    }

    fn begin(
        self: &Arc<Self>,
        table: &mut HashMap<u128, Arc<Flight>>,
        key: &Key,
        version: u64,
    ) -> Leader {
        let flight = Arc::new(Flight {
            key: key.clone(),
            version,
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
        }
    }

    /// Takes a flight from the table, unless a later one stands in its place.
    fn remove(&self, flight: &Arc<Flight>) {
        let mut table = self.lock();
        let hash = flight.key.hash();
        if table
            .get(&hash)
            .is_some_and(|standing| Arc::ptr_eq(standing, flight))
        {
            table.remove(&hash);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Arc<Flight>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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
        })
    }

    fn set(&self, stage: Stage) {
        let mut state = self.lock();
        state.stage = stage;
        let wakers = state.waiters.take();
        drop(state);
        wake(wakers);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
}

impl Leader {
    pub(crate) fn key(&self) -> &Key {
        &self.flight.key
    }

    /// Lets the followers have the recording while it grows. Later requests join still.
    pub(crate) fn share(&self, offer: Arc<Offer>, recording: Arc<Recording>) {
        self.flight.set(Stage::Shared(offer, recording));
    }

    /// Ends the flight with a complete entry, which must be stored already, so that no
    /// request falls between the flight and the entry.
    pub(crate) fn land(self, offer: Arc<Offer>, body: Bytes) {
        self.flight.set(Stage::Landed(offer, body));
    }

    /// Ends the flight: every follower goes to the handler with its own request.
    pub(crate) fn release(self) {
        self.flight.set(Stage::Released);
    }

    /// Ends the flight, and marks its key so that no flight is begun for a while.
    pub(crate) fn release_and_mark(self, whom: Uncacheable, now: Timestamp) {
        self.flights.mark(&self.flight.key, whom, now);
        self.release();
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.flights.remove(&self.flight);
        let mut state = self.flight.lock();
        if matches!(state.stage, Stage::Waiting | Stage::Shared(..)) {
            state.stage = Stage::Failed;
            let wakers = state.waiters.take();
            drop(state);
            wake(wakers);
        }
    }
}

/// One who waits for the leader's response.
#[derive(Debug)]
pub(crate) struct Follower {
    flight: Arc<Flight>,
}

impl Follower {
    /// Waits for the head or the end. Dropping it leaves no trace but a waker.
    pub(crate) async fn wait(&self) -> Stage {
        let mut place = Place::default();
        poll_fn(|context| {
            let mut state = self.flight.lock();
            if matches!(state.stage, Stage::Waiting) {
                state.waiters.enter(&mut place, context);
                return Poll::Pending;
            }
            Poll::Ready(state.stage.clone())
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.flight.lock().followers -= 1;
    }
}

/// How long a key rests after a failed fetch.
const REST: Duration = Duration::from_secs(2);
