//! What to do with a stored response.

use crate::base::clock::Timestamp;
use crate::entry::Head;
use crate::purge::Validity;
use crate::request::settings::Settings;
use crate::semantics::{self, Flags, RequestFacts, Reuse};
use crate::status::{Forwarded, Outcome, Reason};

/// What to do with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Serve it.
    Serve(Outcome),
    /// Serve it stale, and fetch it anew in the background (RFC 5861 3).
    ServeAndRefresh(Outcome),
    /// Ask the handler first, which may validate it.
    Revalidate(Forwarded, Reason),
    /// Leave it for others, and ask the handler for this requester alone.
    PassBy(Reason),
    /// Go on as if it were not there.
    Useless(Reason),
}

/// Whether a fresh stored response is refreshed before its lifetime ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EarlyRefresh {
    NotDue,
    Due,
}

impl Settings {
    /// Judges a stored response by the purges, its lifetimes and the request.
    pub(crate) fn judge(&self, head: &Head, facts: &RequestFacts, now: Timestamp) -> Decision {
        self.judge_valid(head, facts, now, self.cache.validity(head, now))
    }

    /// As [`Settings::judge`], where it is known what the purges say.
    pub(crate) fn judge_valid(
        &self,
        head: &Head,
        facts: &RequestFacts,
        now: Timestamp,
        validity: Validity,
    ) -> Decision {
        let soft = match validity {
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
            Reuse::NotShared(why) => Decision::PassBy(why),
            Reuse::Dead => Decision::Useless(Reason::Expired),
        }
    }

    /// Whether a stored response may be served because fetching it anew has failed. A soft purge
    /// makes a response as stale as the end of its lifetime does.
    pub(crate) fn may_serve_on_error(
        &self,
        head: &Head,
        facts: &RequestFacts,
        now: Timestamp,
    ) -> bool {
        // One failure does not stand in for another.
        if head.status.is_server_error() {
            return false;
        }
        let in_time =
            || semantics::may_serve_on_error(facts, &head.lifetimes, &self.policy.rules, now);
        match self.cache.validity(head, now) {
            Validity::Valid => in_time(),
            Validity::Soft => !head.lifetimes.flags.contains(Flags::MUST_REVALIDATE) && in_time(),
            Validity::Purged | Validity::Unknown => false,
        }
    }

    /// Whether to refresh a fresh response early (XFetch). The longer its handler took, the
    /// earlier that begins; and chance decides, so that instances do not all refresh at once.
    pub(crate) fn early_refresh(&self, head: &Head, now: Timestamp) -> EarlyRefresh {
        let Some(eagerness) = self.policy.early_refresh else {
            return EarlyRefresh::NotDue;
        };
        let Some(fetch_time) = self.cache.flights().fetch_time(&head.key) else {
            return EarlyRefresh::NotDue;
        };
        let lead = fetch_time.as_secs_f32() * eagerness * -(1.0 - fastrand::f32()).ln();
        if head.lifetimes.fresh_until.since(now).as_secs_f32() <= lead {
            EarlyRefresh::Due
        } else {
            EarlyRefresh::NotDue
        }
    }
}

/// The outcome of serving a stale response because fetching it anew has failed.
pub(crate) fn stale_if_error(head: &Head, now: Timestamp) -> Outcome {
    Outcome::stale(head.lifetimes.remaining(now), Reason::StaleIfError)
}

/// A soft purge makes a response stale: it is served stale if it may be, and validated if not.
fn soft_purged(head: &Head) -> Decision {
    if head.lifetimes.flags.contains(Flags::MUST_REVALIDATE) {
        Decision::Revalidate(Forwarded::Stale, Reason::SoftPurged)
    } else {
        Decision::ServeAndRefresh(Outcome::stale(0, Reason::SoftPurged))
    }
}
