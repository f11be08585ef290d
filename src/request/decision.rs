//! What is to be done about a stored response.

use crate::base::clock::Timestamp;
use crate::entry::Head;
use crate::purge::Validity;
use crate::semantics::{self, Flags, RequestFacts, Reuse};
use crate::service::layer::Settings;
use crate::status::{Forwarded, Outcome, Reason};

/// What is to be done about a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Serve it.
    Serve(Outcome),
    /// Serve it stale, and fetch it anew in the background (RFC 5861 3).
    ServeAndRefresh(Outcome),
    /// Not without asking the handler; it may be validated.
    Revalidate(Forwarded, Reason),
    /// As if it were not there.
    Useless(Reason),
}

impl Settings {
    /// Judges a stored response by the purges, its lifetimes and the request.
    pub(crate) fn judge(&self, head: &Head, facts: &RequestFacts, now: Timestamp) -> Decision {
        let soft = match self.cache.validity(head, now) {
            Validity::Valid => false,
            Validity::Soft => true,
            Validity::Purged => return Decision::Useless(Reason::Purged),
            Validity::Unknown => return Decision::Useless(Reason::PurgesUnknown),
        };
        let ttl = head.lifetimes.remaining(now);
        match semantics::reuse(facts, &head.lifetimes, &self.policy.rules, now) {
            Reuse::Fresh if soft => soft_purged(head),
            Reuse::Fresh => Decision::Serve(Outcome::hit(ttl)),
            Reuse::StaleAllowed => Decision::Serve(Outcome::stale(ttl, Reason::MaxStale)),
            Reuse::StaleWhileRevalidate => {
                Decision::ServeAndRefresh(Outcome::stale(ttl, Reason::StaleWhileRevalidate))
            }
            Reuse::Revalidate(why) if why.is_of_request() => {
                Decision::Revalidate(Forwarded::Request, why)
            }
            Reuse::Revalidate(why) => Decision::Revalidate(Forwarded::Stale, why),
            Reuse::Dead => Decision::Useless(Reason::Expired),
        }
    }

    /// Whether a stored response may be served because fetching it anew failed. What was softly
    /// purged is as stale as if its lifetime had ended.
    pub(crate) fn may_stand_in(&self, head: &Head, facts: &RequestFacts, now: Timestamp) -> bool {
        let in_time =
            || semantics::may_serve_on_error(facts, &head.lifetimes, &self.policy.rules, now);
        match self.cache.validity(head, now) {
            Validity::Valid => in_time(),
            Validity::Soft => !head.lifetimes.flags.contains(Flags::MUST_REVALIDATE) && in_time(),
            Validity::Purged | Validity::Unknown => false,
        }
    }

    /// Whether a fresh response is refreshed early (XFetch): at the earlier a moment, the longer
    /// its handler took, and by chance, so that instances do not do it all at once.
    pub(crate) fn freshness(&self, head: &Head, now: Timestamp) -> Freshness {
        let Some(eagerness) = self.policy.early_refresh else {
            return Freshness::Enough;
        };
        let Some(cost) = self.cache.flights().cost(&head.key) else {
            return Freshness::Enough;
        };
        let lead = cost.as_secs_f32() * eagerness * -(1.0 - fastrand::f32()).ln();
        if head.lifetimes.fresh_until.since(now).as_secs_f32() <= lead {
            Freshness::RunningOut
        } else {
            Freshness::Enough
        }
    }
}

/// A soft purge makes stale: what may be served stale is, and what may not is validated.
fn soft_purged(head: &Head) -> Decision {
    if head.lifetimes.flags.contains(Flags::MUST_REVALIDATE) {
        Decision::Revalidate(Forwarded::Stale, Reason::SoftPurged)
    } else {
        Decision::ServeAndRefresh(Outcome::stale(0, Reason::SoftPurged))
    }
}

/// Whether what memory has, and is fresh, is to be refreshed nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Enough,
    /// The policy has entries refreshed early, and it is this one's turn.
    RunningOut,
}
