//! Whether a stored response may answer a request (RFC 9111, section 4).
//!
//! Whether it was stored for the same key and variant is settled before.

use std::time::Duration;

use http::StatusCode;

use super::credentials::check_reuse;
use super::exchange::RequestFacts;
use super::freshness::{Flags, Lifetimes};
use super::rules::StorageRules;
use super::syntax::directives::MaxStale;
use crate::base::clock::Timestamp;
use crate::status::Reason;

/// What may be done with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Serve it.
    Fresh,
    /// Serve it: the client accepts it stale, and the policy lets clients say so.
    StaleAllowed,
    /// Serve it, and fetch it anew in the background.
    StaleWhileRevalidate,
    /// Validate it, or fetch it anew, before serving.
    Revalidate(Reason),
    /// The request has credentials, and nothing permits sharing the response: it stays for others,
    /// and the request passes by.
    NotShared(Reason),
    /// It is of no use any more.
    Dead,
}

/// Judges a stored response for a request, at `now`.
pub(crate) fn reuse(
    facts: &RequestFacts,
    lifetimes: &Lifetimes,
    rules: &StorageRules,
    now: Timestamp,
) -> Reuse {
    if now >= lifetimes.kept_until {
        return Reuse::Dead;
    }
    if let Err(reason) = check_reuse(facts, lifetimes.flags, rules) {
        return Reuse::NotShared(reason);
    }
    // RFC 9111, section 5.2.2.4: no-cache "MUST NOT be used to satisfy any other request
    // without forwarding it for validation and receiving a successful response".
    if lifetimes.flags.contains(Flags::NO_CACHE) {
        return Reuse::Revalidate(Reason::NoCache);
    }
    if rules.client_directives
        && let Some(staleness) = refused_by_client(facts, lifetimes, now)
    {
        return Reuse::Revalidate(staleness);
    }
    if now < lifetimes.fresh_until {
        Reuse::Fresh
    } else if lifetimes.flags.contains(Flags::MUST_REVALIDATE) {
        Reuse::Revalidate(Reason::Expired)
    } else if rules.client_directives && taken_stale(facts, lifetimes, now) {
        Reuse::StaleAllowed
    } else if now < lifetimes.swr_until {
        Reuse::StaleWhileRevalidate
    } else {
        Reuse::Revalidate(Reason::Expired)
    }
}

/// RFC 5861, section 4: an error is "any situation that would result in a 500, 502, 503, or 504
/// HTTP response status code being returned".
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504)
}

/// Whether a stored response may be served because fetching it anew failed.
///
/// RFC 5861, section 4: "when an error is encountered, a cached stale response MAY be used to
/// satisfy the request, regardless of other freshness information", within its time. What
/// forbids serving stale (RFC 9111, section 4.2.4) forbids this; a client's `no-cache` too.
pub(crate) fn may_serve_on_error(
    facts: &RequestFacts,
    lifetimes: &Lifetimes,
    rules: &StorageRules,
    now: Timestamp,
) -> bool {
    let client = rules.client_directives.then_some(&facts.directives);
    if check_reuse(facts, lifetimes.flags, rules).is_err() {
        return false;
    }
    if lifetimes.flags.contains(Flags::NO_CACHE) || client.is_some_and(|client| client.no_cache) {
        return false;
    }
    if now < lifetimes.fresh_until {
        return true;
    }
    if lifetimes.flags.contains(Flags::MUST_REVALIDATE) {
        return false;
    }
    let asked = client.and_then(|client| client.stale_if_error);
    now < lifetimes.sie_until.max(lifetimes.swr_until)
        || asked.is_some_and(|secs| now < after(lifetimes.fresh_until, secs))
}

/// RFC 9111, section 5.2.1: what the client asks for beyond freshness.
fn refused_by_client(
    facts: &RequestFacts,
    lifetimes: &Lifetimes,
    now: Timestamp,
) -> Option<Reason> {
    let asked = &facts.directives;
    if asked.no_cache {
        return Some(Reason::RequestNoCache);
    }
    // RFC 8246, section 2: "Proxies SHOULD skip conditionally revalidating fresh responses
    // containing the immutable extension unless there is a signal from the client that a
    // validation is necessary (e.g., a no-cache Cache-Control request directive".
    let immutable = lifetimes.flags.contains(Flags::IMMUTABLE) && now < lifetimes.fresh_until;
    if let Some(secs) = asked.max_age
        && !immutable
        && (secs == 0 || now > after(lifetimes.born, secs))
    {
        return Some(Reason::RequestMaxAge);
    }
    if let Some(secs) = asked.min_fresh
        && after(now, secs) > lifetimes.fresh_until
    {
        return Some(Reason::RequestMinFresh);
    }
    None
}

fn taken_stale(facts: &RequestFacts, lifetimes: &Lifetimes, now: Timestamp) -> bool {
    match facts.directives.max_stale {
        MaxStale::Absent => false,
        MaxStale::Any => true,
        MaxStale::Limit(secs) => now <= after(lifetimes.fresh_until, secs),
    }
}

fn after(moment: Timestamp, secs: u32) -> Timestamp {
    moment.saturating_add(Duration::from_secs(secs.into()))
}
