//! Revalidation: the request it takes, and what its answer does to a stored response
//! (RFC 9111, sections 3.2, 4.3.1, 4.3.4 and 4.3.5).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::admit::{Admitted, assess};
use super::conditional::{EntityTag, stored_etag};
use super::exchange::Exchange;
use super::fields::{Exclusions, is_coding, is_for_one_client, is_hop_by_hop, single};
use super::rules::StorageRules;
use super::syntax::dates::date_field;
use super::syntax::tokens::trim_ows;
use super::tags::strip_tags;
use super::vary::adds_member;
use crate::base::clock::Timestamp;
use crate::status::Reason;

/// What a 304 does to the stored response that it validates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Freshened {
    /// Store the updated response, and serve it.
    Updated(Box<Admitted>),
    /// Serve the stored content with these fields, once. It may not be kept, unless the reason lies
    /// in the request.
    Refused { refusal: Reason, headers: HeaderMap },
    /// The 304 is about another response than the stored one, which must not be updated by it. Fetch
    /// anew, unconditionally.
    Mismatch,
}

/// What the response to a `HEAD` request does to a response stored for `GET`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HeadOutcome {
    /// Store the updated response.
    Freshened(Box<Admitted>),
    /// The stored response is out of date.
    Invalidate,
    /// The stored response stays as it is.
    Nothing,
}

/// Makes a request conditional on the stored response having changed.
///
/// The client's own preconditions and range are removed: the answer is for the cache, which
/// evaluates them itself. RFC 9111, section 4.3.1: a cache "MUST send the relevant entity
/// tags (using If-Match, If-None-Match, or If-Range) if the entity tags were provided" and
/// "SHOULD send the Last-Modified value (using If-Modified-Since)".
pub(crate) fn make_conditional(request: &mut HeaderMap, stored: &HeaderMap) {
    for name in PRECONDITIONS {
        request.remove(name);
    }
    if let Some(etag) = single(stored, header::ETAG) {
        request.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = single(stored, header::LAST_MODIFIED) {
        request.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Applies a 304 to the stored response whose validators were sent. `exchange` is that
/// validation: its headers are the 304's.
pub(crate) fn freshen(
    stored_status: StatusCode,
    stored: &HeaderMap,
    exchange: &Exchange<'_>,
    rules: &StorageRules,
) -> Freshened {
    if is_about_another(stored, exchange.headers, exchange.response_time) {
        return Freshened::Mismatch;
    }
    let merged = merge(stored, exchange.headers);
    match assess(&updated(stored_status, &merged, exchange), rules) {
        Ok(admitted) => Freshened::Updated(Box::new(admitted)),
        Err(refusal) => Freshened::Refused {
            refusal,
            headers: sendable(merged, rules),
        },
    }
}

/// Whether a 304 with these fields, at this moment, is about another response than the stored one
/// whose validators were sent.
pub(crate) fn is_about_another(stored: &HeaderMap, new: &HeaderMap, now: Timestamp) -> bool {
    validators(stored, new, now) == Validators::Differ
}

/// Applies the response to a `HEAD` request to what is stored for `GET`, `len` bytes long.
///
/// RFC 9111, section 4.3.5: "if the stored response and HEAD response have matching values for any received validator
/// fields (ETag and Last-Modified) and, if the HEAD response has a Content-Length header
/// field, the value of Content-Length matches that of the stored response, the cache SHOULD
/// update the stored response …; otherwise, the cache SHOULD consider the stored response to
/// be stale."
///
/// A `HEAD` response without validators proves nothing and updates nothing.
pub(crate) fn head_updates(
    stored_status: StatusCode,
    stored: &HeaderMap,
    len: u64,
    exchange: &Exchange<'_>,
    rules: &StorageRules,
) -> HeadOutcome {
    if exchange.status != StatusCode::OK || stored_status != StatusCode::OK {
        return HeadOutcome::Nothing;
    }
    let validators = validators(stored, exchange.headers, exchange.response_time);
    if validators == Validators::Differ || !length_matches(exchange.headers, len) {
        return HeadOutcome::Invalidate;
    }
    if validators == Validators::NoneReceived {
        return HeadOutcome::Nothing;
    }
    let merged = merge(stored, exchange.headers);
    match assess(&updated(stored_status, &merged, exchange), rules) {
        Ok(admitted) => HeadOutcome::Freshened(Box::new(admitted)),
        Err(refusal) if refusal.is_about_requester() => HeadOutcome::Nothing,
        Err(_) => HeadOutcome::Invalidate,
    }
}

/// The exchange as if the handler had sent the updated response as a whole.
fn updated<'a>(
    status: StatusCode,
    headers: &'a HeaderMap,
    exchange: &Exchange<'a>,
) -> Exchange<'a> {
    Exchange {
        status,
        headers,
        ..*exchange
    }
}

/// How the validators received compare with those stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validators {
    Match,
    Differ,
    NoneReceived,
}

/// RFC 9111, section 4.3.4: "If the new response contains one or more strong validators …,
/// then each of those strong validators identifies a selected representation for update";
/// with weak ones, those that correspond. Without any, the answer to our own conditional
/// request can only be about what we asked about, so it is taken for a match by the caller,
/// though the RFC would have it only for stored responses without validators: handlers that
/// leave the `ETag` out of a 304 are common.
///
/// A tag decides where both have one; `Last-Modified` only where not, as it is the weaker.
fn validators(stored: &HeaderMap, new: &HeaderMap, now: Timestamp) -> Validators {
    if new.contains_key(header::ETAG) && stored.contains_key(header::ETAG) {
        return outcome(same_etag(stored, new));
    }
    if new.contains_key(header::LAST_MODIFIED) && stored.contains_key(header::LAST_MODIFIED) {
        let date = |headers| date_field(headers, header::LAST_MODIFIED, now);
        let same = single(new, header::LAST_MODIFIED) == single(stored, header::LAST_MODIFIED);
        return outcome(same || date(new).is_some_and(|new| date(stored) == Some(new)));
    }
    if new.contains_key(header::ETAG) {
        return outcome(strong_tag(new).is_none());
    }
    Validators::NoneReceived
}

const fn outcome(same: bool) -> Validators {
    if same {
        Validators::Match
    } else {
        Validators::Differ
    }
}

/// Weak comparison: a 304 may weaken a tag. Malformed tags are compared literally.
fn same_etag(stored: &HeaderMap, new: &HeaderMap) -> bool {
    match (stored_etag(stored), stored_etag(new)) {
        (Some(stored), Some(new)) => stored.weakly_equals(&new),
        _ => match (single(stored, header::ETAG), single(new, header::ETAG)) {
            (Some(stored), Some(new)) => trim_ows(stored.as_bytes()) == trim_ows(new.as_bytes()),
            _ => false,
        },
    }
}

/// A strong tag that the stored response lacks names another representation.
fn strong_tag(new: &HeaderMap) -> Option<EntityTag<'_>> {
    stored_etag(new).filter(|tag| !tag.weak)
}

fn length_matches(headers: &HeaderMap, len: u64) -> bool {
    if !headers.contains_key(header::CONTENT_LENGTH) {
        return true;
    }
    single(headers, header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
        == Some(len)
}

/// RFC 9111, section 3.2: "the cache MUST add each header field in the provided response to
/// the stored response, replacing field values that are already present", except for fields
/// not stored, "the Content-Length header field", and those that the stored content depends
/// on. Here those are all that say how to read the content, `Content-Type` as well, since many
/// frameworks give one to a response without content. `Vary` is united: who may have the content
/// does not get wider by an answer that has none.
///
/// The age restarts from the new response's `Age` and `Date`, so the stored `Date` is dropped even if
/// there is no new one.
fn merge(stored: &HeaderMap, new: &HeaderMap) -> HeaderMap {
    let nominated = Exclusions::of(new, []);
    let kept_as_is = |name: &HeaderName| {
        is_hop_by_hop(name)
            || nominated.contains(name)
            || is_for_one_client(name)
            || is_coding(name)
    };
    let replaced = |name: &HeaderName| {
        *name == header::DATE
            || (*name != header::VARY && new.contains_key(name) && !kept_as_is(name))
    };
    let added = |(name, value): &(&HeaderName, &HeaderValue)| match **name {
        header::VARY => adds_member(stored, value),
        _ => !kept_as_is(name),
    };
    let capacity = stored.keys_len().saturating_add(new.keys_len());
    let mut merged = HeaderMap::try_with_capacity(capacity).unwrap_or_default();
    let stays = stored.iter().filter(|(name, _)| !replaced(name));
    for (name, value) in stays.chain(new.iter().filter(added)) {
        // Of too many fields, the first are kept.
        let _ = merged.try_append(name.clone(), value.clone());
    }
    merged
}

/// The fields as a client gets them.
fn sendable(mut headers: HeaderMap, rules: &StorageRules) -> HeaderMap {
    headers.remove(header::AGE);
    if rules.strip_tags {
        strip_tags(&mut headers);
    }
    headers
}

const PRECONDITIONS: [HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];
