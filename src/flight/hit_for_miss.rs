//! Keys whose responses cannot be shared: nobody waits for them.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::clock::Timestamp;

use crate::key::Key;
use crate::semantics::RequestFacts;

/// Whether a request has credentials, as far as sharing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Credentials {
    Anonymous,
    /// The request has `Authorization` or `Cookie`.
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

/// The requests for which a key's responses cannot be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uncacheable {
    ForAll,
    /// Only requests with credentials get responses that cannot be shared.
    ForCredentialed,
}

/// The keys that are known to be uncacheable, and until when.
#[derive(Debug)]
pub(super) struct HitForMiss {
    until: quick_cache::sync::Cache<(u128, Credentials), Timestamp>,
    /// No key has been added yet, so the map need not be asked.
    unused: AtomicBool,
}

impl HitForMiss {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            until: crate::base::random::bounded_map(capacity),
            unused: AtomicBool::new(true),
        }
    }

    pub(super) fn insert(&self, key: &Key, whom: Uncacheable, until: Timestamp) {
        self.unused.store(false, Ordering::Release);
        if whom == Uncacheable::ForAll {
            self.until
                .insert((key.hash(), Credentials::Anonymous), until);
        }
        self.until
            .insert((key.hash(), Credentials::Credentialed), until);
    }

    pub(super) fn remove(&self, key: &Key, credentials: Credentials) {
        if !self.unused.load(Ordering::Acquire) {
            self.until.remove(&(key.hash(), credentials));
        }
    }

    pub(super) fn contains(&self, key: &Key, credentials: Credentials, now: Timestamp) -> bool {
        if self.unused.load(Ordering::Acquire) {
            return false;
        }
        let until = self.until.get(&(key.hash(), credentials));
        until.is_some_and(|until| now < until)
    }
}
