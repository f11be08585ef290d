//! The request that calls the handler, and how it ends its flight.

use std::sync::Arc;

use http::HeaderName;

use super::hit_for_miss::Uncacheable;
use super::lease::Lease;
use super::state::{Flight, SharedHead, Stage};
use super::table::Flights;
use crate::base::clock::Timestamp;
use crate::entry::Entry;
use crate::key::Key;
use crate::recording::Recording;

/// The request that calls the handler. The flight fails if its leader is dropped without a result.
#[derive(Debug)]
pub(crate) struct Leader {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    purpose: Purpose,
    /// The right to fetch on behalf of all instances.
    lease: Option<Lease>,
    /// The flight has been taken from the table, and `Drop` has nothing left to do.
    finished: bool,
}

impl Leader {
    pub(super) const fn new(flights: Arc<Flights>, flight: Arc<Flight>, purpose: Purpose) -> Self {
        Self {
            flights,
            flight,
            purpose,
            lease: None,
            finished: false,
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.flight.key
    }

    /// Keeps the lease until the flight has ended.
    pub(crate) fn hold(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Takes the lease, which the caller keeps until the other instances can see the entry.
    pub(crate) fn take_lease(&mut self) -> Option<Lease> {
        self.lease.take()
    }

    /// Gives the followers the recording while it grows. Later requests can still join.
    pub(crate) fn share_recording(&self, shared: SharedHead, recording: Arc<Recording>) {
        self.flight.set_stage(Stage::Recording(shared, recording));
    }

    /// Gives the followers a complete entry, and leaves the flight open. If the entry is still to
    /// be stored, the caller keeps the leader until it is: no request then misses both.
    pub(crate) fn share_entry(&self, entry: Arc<Entry>, fields: Arc<[HeaderName]>) {
        self.flight.set_stage(Stage::Complete(entry, fields));
    }

    /// Ends the flight with an entry that is stored already. Later requests find it in the cache.
    pub(crate) fn finish(mut self, entry: &Arc<Entry>, fields: Arc<[HeaderName]>) {
        self.finished = true;
        self.flights.remove(&self.flight);
        // No request can join any more, so the count does not rise again.
        if self.flight.lock().followers > 0 {
            self.share_entry(Arc::clone(entry), fields);
        }
    }

    /// Ends the flight: every follower calls the handler with its own request.
    pub(crate) fn release(self) {
        self.flight.set_stage(Stage::Released(None));
    }

    /// Ends the flight, and lets no flight for its key begin for a while.
    pub(crate) fn release_as_uncacheable(self, whom: Uncacheable, now: Timestamp) {
        self.flights.add_hit_for_miss(&self.flight.key, whom, now);
        self.flight.set_stage(Stage::Released(Some(whom)));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // A refresh that was refused for its requester's credentials has not failed for others.
        let may_be_tried_again = matches!(
            self.flight.lock().stage,
            Stage::Complete(..) | Stage::Released(Some(Uncacheable::ForCredentialed))
        );
        if self.purpose == Purpose::Refresh && !may_be_tried_again {
            self.flights.back_off_now(&self.flight.key);
        }
        self.flights.remove(&self.flight);
        let is_open = matches!(
            self.flight.lock().stage,
            Stage::Waiting | Stage::Recording(..)
        );
        if is_open {
            self.flight.set_stage(Stage::Failed);
        }
    }
}

/// Why a flight was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A request waits for the response.
    Request,
    /// The stale entry was served. If the refresh fails, the key backs off.
    Refresh,
}
