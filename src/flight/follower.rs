//! One who waits for what another has asked for.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::{Flight, Stage};
use crate::recording::wakers::WakerKey;

/// One who waits for the leader's response. Dropping it leaves no trace.
#[derive(Debug)]
pub(crate) struct Follower {
    flight: Arc<Flight>,
    place: WakerKey,
}

impl Follower {
    pub(super) fn of(flight: Arc<Flight>) -> Self {
        Self {
            flight,
            place: WakerKey::default(),
        }
    }

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
