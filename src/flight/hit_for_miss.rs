//! Keys whose responses cannot be shared. Requests for them do not wait for each other.

use crate::base::clock::Timestamp;
use crate::base::random;
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::key::Key;
use crate::semantics::{RequestFacts, StorageRules, has_credentials};

/// Whether a request has credentials, as far as sharing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Credentials {
    Anonymous,
    /// The request has `Authorization`, `Cookie`, or what else the policy counts.
    Credentialed,
}

impl Credentials {
    pub(crate) fn of(facts: &RequestFacts, rules: &StorageRules) -> Self {
        if has_credentials(facts, rules) {
            Self::Credentialed
        } else {
            Self::Anonymous
        }
    }
}

/// The requests for which a key's responses cannot be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uncacheable {
    ForAll,
    /// Only requests with credentials get responses that cannot be shared.
    ForCredentialed,
    /// A layer of the same cache inside this one shares them.
    HandledInside,
}

/// The keys that are known to be uncacheable, why, and until when.
#[derive(Debug)]
pub(super) struct HitForMiss {
    marks: random::Map<(u128, Credentials), (Uncacheable, Timestamp)>,
    /// Whether no key has been added yet. Then the map need not be read.
    unused: AtomicBool,
}

impl HitForMiss {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            marks: random::bounded_map(capacity),
            unused: AtomicBool::new(true),
        }
    }

    pub(super) fn insert(&self, key: &Key, whom: Uncacheable, until: Timestamp) {
        self.unused.store(false, Ordering::Release);
        let mark = (whom, until);
        if whom != Uncacheable::ForCredentialed {
            self.marks
                .insert((key.hash(), Credentials::Anonymous), mark);
        }
        self.marks
            .insert((key.hash(), Credentials::Credentialed), mark);
    }

    pub(super) fn remove(&self, key: &Key, credentials: Credentials) {
        if !self.unused.load(Ordering::Acquire) {
            self.marks.remove(&(key.hash(), credentials));
        }
    }

    /// Why responses for a key cannot be shared, if they cannot.
    pub(super) fn find(
        &self,
        key: &Key,
        credentials: Credentials,
        now: Timestamp,
    ) -> Option<Uncacheable> {
        if self.unused.load(Ordering::Acquire) {
            return None;
        }
        let (whom, until) = self.marks.get(&(key.hash(), credentials))?;
        (now < until).then_some(whom)
    }
}
