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
}

/// Where a complete response is stored, and the flight that it ends. Dropping it fails the flight.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) cache: Cache,
    pub(crate) base: Key,
    /// The key of a stored response that is of no use any more, whether this one is stored or not.
    pub(crate) replaced: Option<Key>,
    pub(crate) credentials: Credentials,
    /// `None` if no request could wait for this response.
    pub(crate) leader: Option<Leader>,
    /// Whether a 200 without an `ETag` gets one, made of its content's digest.
    pub(crate) auto_etag: bool,
}

impl Commit {
    /// Stores the entry and then ends the flight, so that no request misses both. If memory is
    /// off, the flight stays open until the shared store has the entry. `headers` are those of the
    /// request.
    pub(crate) fn commit(
        self,
        new_entry: NewEntry,
        body: Bytes,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> (Arc<Entry>, Stored) {
        let Self {
            cache,
            base,
            replaced: _,
            credentials,
            mut leader,
            auto_etag,
        } = self;
        let NewEntry {
            mut head,
            fields,
            vary,
        } = new_entry;
        if auto_etag && let Some(tagged) = head.with_etag_of(&body) {
            head = tagged;
        }
        // An entry that was purged while it was fetched would only hide a newer one. Requests that
        // arrived before it was fetched may have it all the same.
        if cache.validity(&head, now) == Validity::Purged {
            let entry = Arc::new(Entry { head, body });
            if let Some(leader) = leader {
                leader.share_entry(Arc::clone(&entry), fields);
            }
            return (entry, Stored::Purged);
        }
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
