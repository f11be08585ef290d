//! The one who calls the handler, and what it makes of the flight.

use std::sync::Arc;

use http::HeaderName;

use super::{Flight, Flights, SharedHead, Stage, Uncacheable};
use crate::base::clock::Timestamp;
use crate::entry::Entry;
use crate::flight::lease::Lease;
use crate::key::Key;
use crate::recording::Recording;

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
    pub(super) const fn new(flights: Arc<Flights>, flight: Arc<Flight>, errand: Errand) -> Self {
        Self {
            flights,
            flight,
            errand,
            lease: None,
            landed: false,
        }
    }

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
    pub(crate) fn share(&self, shared: SharedHead, recording: Arc<Recording>) {
        self.flight.set(Stage::Shared(shared, recording));
    }

    /// Lets the followers have a complete entry. Unless it is stored already, the leader is to be
    /// kept until it is, so that no request falls between the flight and the entry.
    pub(crate) fn land(&self, entry: Arc<Entry>, fields: Arc<[HeaderName]>) {
        self.flight.set(Stage::Landed(entry, fields));
    }

    /// As [`Leader::land`] of an entry that is stored already, and the end of the flight: who comes
    /// later finds the entry.
    pub(crate) fn land_stored(mut self, entry: &Arc<Entry>, fields: Arc<[HeaderName]>) {
        self.landed = true;
        self.flights.remove(&self.flight);
        // Nobody joins any more.
        if self.flight.lock().followers > 0 {
            self.land(Arc::clone(entry), fields);
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

/// Why a flight was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// A request waits for it.
    Request,
    /// The stale entry was served: if the refresh comes to nothing, the next is let wait.
    Refresh,
}
