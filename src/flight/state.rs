//! One flight, and the stages that it goes through.

use std::sync::Arc;

use http::HeaderName;

use super::hit_for_miss::Uncacheable;
use crate::base::clock::Timestamp;
use crate::base::position::Moment;
use crate::base::sync::{Mutex, MutexGuard};
use crate::base::tags::Tags;
use crate::entry::{Entry, Head, Verified};
use crate::key::Key;
use crate::purge::{PurgeCheck, PurgeIndex};
use crate::recording::Recording;
use crate::recording::wakers::Waiters;

/// What a flight has come to, as its followers see it.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// The handler has not answered yet.
    Waiting,
    /// The handler has answered, and the body is being recorded.
    Recording(SharedHead, Arc<Recording>),
    /// The entry is complete, and varies on these fields. It is a new response, one that a 304
    /// has updated, or the stale one that replaces a failed fetch.
    Complete(Arc<Entry>, Arc<[HeaderName]>),
    /// The response is not shared, so every follower calls the handler. With a reason, the key is
    /// uncacheable for a while, perhaps for some requests only.
    Released(Option<Uncacheable>),
    /// The leader was dropped without a result.
    Failed,
}

/// The head of a response whose body is still being recorded.
#[derive(Clone, Debug)]
pub(crate) struct SharedHead {
    pub(crate) head: Arc<Head>,
    /// The request fields that the response varies on. A follower uses the head only if it asks
    /// for the same variant.
    pub(crate) fields: Arc<[HeaderName]>,
}

/// One call of the handler, which its leader makes and its followers wait for.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) key: Key,
    /// Its number among all flights that ever began.
    pub(super) number: u64,
    /// What was known of purges when the flight began. Requests that arrive after a later purge of
    /// its URL do not join.
    moment: Moment,
    verified: Verified,
    pub(super) began: Timestamp,
    state: Mutex<FlightState>,
}

#[derive(Debug)]
pub(super) struct FlightState {
    pub(super) stage: Stage,
    /// A follower has found that the response was purged meanwhile.
    pub(super) is_purged: bool,
    pub(super) followers: usize,
    pub(super) waiters: Waiters,
}

impl Flight {
    pub(super) fn new(key: Key, number: u64, moment: Moment, began: Timestamp) -> Self {
        let state = FlightState {
            stage: Stage::Waiting,
            is_purged: false,
            followers: 0,
            waiters: Waiters::default(),
        };
        Self {
            key,
            number,
            moment,
            verified: Verified::never(),
            began,
            state: Mutex::new(state),
        }
    }

    /// Whether a purge since it began concerns its URL, a path above it, or everything. The tags of
    /// the response are known once it is there: then its followers judge it.
    pub(super) fn is_outdated(&self, purges: &PurgeIndex) -> bool {
        if self.lock().is_purged {
            return true;
        }
        let check = PurgeCheck {
            key: &self.key,
            tags: &Tags::default(),
            has_query_rule: false,
            moment: self.moment,
            stored: self.began,
            verified: &self.verified,
        };
        purges.is_outdated(&check)
    }

    /// Sets the stage before it wakes the followers, so that they see it.
    pub(super) fn set_stage(&self, stage: Stage) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.stage, stage);
        let wakers = state.waiters.take();
        drop(state);
        drop(before);
        wakers.wake();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, FlightState> {
        self.state.lock()
    }
}
