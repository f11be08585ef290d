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

mod follower;
mod leader;
pub(crate) mod lease;
mod table;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::base::clock::Timestamp;
use crate::base::sync::{Mutex, MutexGuard};
use crate::entry::{Entry, Head};
use crate::key::Key;
use crate::recording::Recording;
use crate::recording::wakers::Waiters;
use crate::semantics::RequestFacts;

pub(crate) use follower::Follower;
pub(crate) use leader::Leader;
pub(crate) use table::Flights;

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
pub(crate) struct JoinRequest {
    pub(crate) credentials: Credentials,
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
pub(crate) enum Joined {
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
    Shared(SharedHead, Arc<Recording>),
    /// Complete, or updated by a 304, or the stale one that stands in for a failure; and what it
    /// varies on.
    Landed(Arc<Entry>, Arc<[HeaderName]>),
    /// Not to be shared: each on its own, or each of those concerned.
    Released(Option<Uncacheable>),
    /// The leader is gone without a result.
    Failed,
}

/// The head of what is still coming. Followers may be served with it, each if it is of their own
/// variant.
#[derive(Clone, Debug)]
pub(crate) struct SharedHead {
    pub(crate) head: Arc<Head>,
    /// What the response varies on.
    pub(crate) fields: Arc<[HeaderName]>,
}

/// On whose behalf a request is made, as far as sharing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Credentials {
    Anonymous,
    /// With `Authorization` or `Cookie`.
    Credentialed,
}

impl Credentials {
    pub(crate) const fn of(facts: &RequestFacts) -> Self {
        if facts.authorization || facts.cookie {
            Self::Credentialed
        } else {
            Self::Anonymous
        }
    }
}

/// For whom a key's responses cannot be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uncacheable {
    ForAll,
    /// Only requests with credentials bring such responses about.
    ForCredentialed,
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

impl Flight {
    fn new(key: Key, version: u64, began: Timestamp) -> Self {
        let state = State {
            stage: Stage::Waiting,
            followers: 0,
            waiters: Waiters::default(),
        };
        Self {
            key,
            version,
            began,
            state: Mutex::new(state),
        }
    }

    fn join(self: &Arc<Self>, key: &Key, most: usize) -> Joined {
        let mut state = self.lock();
        if self.key != *key || state.followers >= most {
            return Joined::Alone;
        }
        state.followers += 1;
        Joined::Follow(Follower::of(Arc::clone(self)))
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
