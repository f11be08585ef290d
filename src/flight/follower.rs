//! A request that waits for another request's fetch.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::state::{Flight, Stage};
use crate::recording::wakers::WakerKey;

/// A request that waits for the leader's response. Dropping it removes it from the flight.
#[derive(Debug)]
pub(crate) struct Follower {
    flight: Arc<Flight>,
    waker_key: WakerKey,
}

impl Follower {
    /// Joins a flight, unless it has as many followers as it may.
    pub(super) fn join(flight: &Arc<Flight>, max_followers: usize) -> Option<Self> {
        let mut state = flight.lock();
        if state.followers >= max_followers {
            return None;
        }
        state.followers += 1;
        Some(Self {
            flight: Arc::clone(flight),
            waker_key: WakerKey::default(),
        })
    }

    /// Waits until the flight has left [`Stage::Waiting`].
    pub(crate) async fn wait(&mut self) -> Stage {
        poll_fn(|context| {
            let mut state = self.flight.lock();
            if matches!(state.stage, Stage::Waiting) {
                state.waiters.enter(&mut self.waker_key, context);
                return Poll::Pending;
            }
            Poll::Ready(state.stage.clone())
        })
        .await
    }

    /// Whether the flight began after a request had arrived that counted so many flights.
    pub(crate) fn is_later_than(&self, arrived: u64) -> bool {
        self.flight.number > arrived
    }

    /// The response was purged meanwhile. Only requests that arrived before the flight began may
    /// join it from now on; its followers from later share the next one.
    pub(crate) fn refuse_as_purged(&self) {
        self.flight.lock().is_purged = true;
    }

    /// The stage of the flight now.
    pub(crate) fn stage(&self) -> Stage {
        self.flight.lock().stage.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        state.followers -= 1;
        let waker = state.waiters.leave(&mut self.waker_key);
        drop(state);
        drop(waker);
    }
}
