//! The stored response that cannot be served as it is.

use std::sync::Arc;

use crate::entry::{Entry, Head};
use crate::request::decision::Decision;
use crate::semantics::Flags;
use crate::status::{Forwarded, Outcome, Reason};
use crate::store::Lookup;

/// What a fetch can fall back on, and why the request goes forward.
pub(crate) enum Fallback {
    Nothing(Forwarded, Reason),
    /// A stored response that may be validated, or served if the fetch fails.
    Entry(Arc<Entry>, Forwarded, Reason),
    /// The stored response has been served stale, and this fetch refreshes it in the background.
    Refreshing(Arc<Entry>),
}

impl Fallback {
    pub(crate) fn of(entry: Option<Arc<Entry>>, decision: Decision, lookup: &Lookup) -> Self {
        match (entry, decision) {
            (Some(entry), Decision::Revalidate(why, detail)) => Self::Entry(entry, why, detail),
            (None, Decision::Useless(detail)) if lookup.marker.is_some() => {
                Self::Nothing(Forwarded::VaryMiss, detail)
            }
            (_, Decision::Useless(detail)) => Self::Nothing(Forwarded::UriMiss, detail),
            (_, _) => Self::Nothing(Forwarded::UriMiss, Reason::NotFound),
        }
    }

    /// What is left to fall back on now: the stored response may have been purged while the request
    /// waited.
    pub(super) fn judged_again(self, judge: impl FnOnce(&Head) -> Decision) -> Self {
        let (Self::Entry(entry, ..) | Self::Refreshing(entry)) = &self else {
            return self;
        };
        match judge(&entry.head) {
            Decision::Useless(reason) => Self::Nothing(Forwarded::UriMiss, reason),
            _ => self,
        }
    }

    /// What is left when the handler's 304 is about another response than the stored one.
    pub(super) const fn contradicted(&self) -> Self {
        let why = match self {
            Self::Nothing(why, _) | Self::Entry(_, why, _) => *why,
            Self::Refreshing(_) => Forwarded::Stale,
        };
        Self::Nothing(why, Reason::ValidatorMismatch)
    }

    /// The stored response whose validators the fetch sends.
    pub(crate) fn to_validate(&self) -> Option<&Arc<Entry>> {
        self.entry()
            .filter(|entry| entry.head.lifetimes.flags.contains(Flags::VALIDATOR))
    }

    pub(crate) fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Nothing(..) => None,
            Self::Entry(entry, ..) | Self::Refreshing(entry) => Some(entry),
        }
    }

    /// Why the request goes forward.
    pub(crate) const fn outcome(&self) -> Outcome {
        match self {
            Self::Nothing(why, detail) | Self::Entry(_, why, detail) => {
                Outcome::forward(*why, Some(*detail))
            }
            Self::Refreshing(_) => Outcome::forward(Forwarded::Stale, Some(Reason::Refresh)),
        }
    }
}
