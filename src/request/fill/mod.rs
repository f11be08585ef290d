//! A response that is recorded while it is served, and then committed or discarded.
//!
//! A body that is complete in its first frames is stored at once. A task of its own reads any
//! other body, as fast as the handler gives it, into a [`Recording`](crate::recording::Recording),
//! from which its client and the followers read at their own pace: a client that is slow or goes
//! away delays nobody. An entry is committed only after a clean end of the declared length.
//! Anything else, `Drop` included, means "not stored".

mod peek;
mod recorder;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

pub(crate) use peek::{Peeked, peek};
#[cfg(all(test, shuttle))]
pub(crate) use recorder::PushResult;
pub(crate) use recorder::{Fill, Recorded};

use crate::base::clock::Timestamp;
use crate::base::position::Moment;
use crate::cache::Cache;
use crate::entry::{Entry, Head};
use crate::flight::{Credentials, Leader, Uncacheable};
use crate::key::Key;
use crate::purge::Validity;
use crate::store::{NewResponse, Reach};

/// The head of a response that is to be stored.
#[derive(Debug)]
pub(crate) struct NewEntry {
    pub(crate) head: Head,
    /// The fields of its key: all that is known to matter for the resource.
    pub(crate) fields: Arc<[HeaderName]>,
    /// What its own `Vary` names.
    pub(crate) vary: Arc<[HeaderName]>,
}

/// Whether a complete response was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Yes,
    /// It was purged before it was complete.
    Purged,
    /// What was asked for later is stored already.
    Superseded,
}

/// Where a complete response is stored, and the flight that it ends. Dropping it fails the flight.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) cache: Cache,
    pub(crate) base: Key,
    /// The key of a stored response that is of no use any more, whether this one is stored or not.
    pub(crate) replaced: Option<Key>,
    /// The stored response that this one is an update of: a 304, or an answer to HEAD.
    pub(crate) updated: Option<Arc<Entry>>,
    pub(crate) credentials: Credentials,
    /// `None` if no request could wait for this response.
    pub(crate) leader: Option<Leader>,
    /// Whether a 200 without an `ETag` gets one, made of its content's digest.
    pub(crate) auto_etag: bool,
}

impl Commit {
    /// The commit of an update of a stored response.
    pub(crate) fn of_update(self, stored: &Arc<Entry>) -> Self {
        Self {
            updated: Some(Arc::clone(stored)),
            ..self
        }
    }

    /// Stores the entry and then ends the flight, so that no request misses both. If memory is
    /// off, the flight stays open until the shared store has the entry. `headers` are those of the
    /// request.
    pub(crate) fn commit(
        mut self,
        new_entry: NewEntry,
        body: Bytes,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> (Arc<Entry>, Stored) {
        let NewEntry {
            mut head,
            fields,
            vary,
        } = new_entry;
        if self.auto_etag
            && let Some(tagged) = head.with_etag_of(&body)
        {
            head = tagged;
        }
        // An entry that was purged while it was fetched would only hide a newer one. Requests that
        // arrived before it was fetched may have it all the same.
        let unstored = if self.cache.validity(&head, now) == Validity::Purged {
            Some(Stored::Purged)
        } else {
            let is_superseded = self.is_superseded(head.moment, headers, now);
            is_superseded.then_some(Stored::Superseded)
        };
        if let Some(unstored) = unstored {
            let entry = Arc::new(Entry { head, body });
            if let Some(leader) = self.leader.take() {
                leader.share_entry(Arc::clone(&entry), fields);
            }
            return (entry, unstored);
        }
        let Self {
            cache,
            base,
            credentials,
            mut leader,
            ..
        } = self;
        let reach = if cache.is_purge_pending(&head) {
            Reach::Memory
        } else {
            Reach::BothTiers
        };
        let tiers = cache.tiers();
        let new = NewResponse {
            base: &base,
            vary: &vary,
            fields,
            headers,
            head,
            body,
        };
        let placed = tiers.place(new, &|head| cache.validity(head, now).is_usable(), now);
        let flights = cache.flights();
        flights.remove_hit_for_miss(&base, credentials);
        flights.remove_hit_for_miss(&placed.entry.head.key, credentials);
        let lease = leader.as_mut().and_then(Leader::take_lease);
        let (open, ending) = if tiers.memory().is_off() {
            (leader, None)
        } else {
            (None, leader)
        };
        if let Some(leader) = &open {
            leader.share_entry(Arc::clone(&placed.entry), Arc::clone(&placed.fields));
        }
        tiers.write_placed(&placed, now, reach, (lease, open));
        if let Some(leader) = ending {
            leader.finish(&placed.entry, placed.fields);
        }
        (placed.entry, Stored::Yes)
    }

    /// Whether a response is stored already that was asked for later, as far as purges tell, or that
    /// has taken the place of the one that this is an update of.
    fn is_superseded(&self, moment: Moment, headers: &HeaderMap, now: Timestamp) -> bool {
        if self.updated.is_none() && self.cache.log().index().moment() == moment {
            return false;
        }
        let tiers = self.cache.tiers();
        let Some(standing) = tiers.standing(&self.base, headers, now) else {
            return false;
        };
        let updated = self.updated.as_ref();
        let is_newer = standing.head.moment.is_later_than(moment)
            || updated.is_some_and(|updated| standing.is_newer_than(updated));
        is_newer && self.cache.validity(&standing.head, now) == Validity::Valid
    }

    /// A whole response that is not stored replaces the stored one all the same.
    fn withdraw_replaced(&self) {
        if let Some(replaced) = &self.replaced {
            let tiers = self.cache.tiers();
            tiers.forget(&self.base, replaced, self.cache.now());
        }
    }

    /// Ends the flight without an entry. The next response will most likely not be stored either.
    fn release_as_uncacheable(self) {
        self.withdraw_replaced();
        let now = self.cache.now();
        if let Some(leader) = self.leader {
            leader.release_as_uncacheable(Uncacheable::ForAll, now);
        }
    }

    /// Ends the flight without an entry, for lack of memory. The next response may be stored.
    fn release(self) {
        self.withdraw_replaced();
        if let Some(leader) = self.leader {
            leader.release();
        }
    }
}
