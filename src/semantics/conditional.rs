//! Conditional requests answered from a stored response (RFC 9110, section 13; RFC 9111,
//! section 4.3.2).

use http::{HeaderMap, StatusCode, header};

use super::fields::{is_coding, is_for_one_client, single};
use super::freshness::{Lifetimes, sent_date};
use super::syntax::dates::{date_field, parse_date};
use super::syntax::tokens::trim_ows;
use crate::base::clock::Timestamp;

/// The result of a request's preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Serve the response, or the requested range.
    Proceed,
    /// Serve 304, since the client has the response already.
    NotModified,
}

/// Evaluates `If-None-Match`, or else `If-Modified-Since`, of a `GET` or `HEAD` request.
///
/// RFC 9110, section 13.2.1: a server "MUST ignore all received preconditions if its
/// response to the same request without those conditions … would have been a status code
/// other than a 2xx (Successful) or 412". Here only 200 counts. A condition that cannot be
/// parsed is ignored, since a whole response is never wrong.
pub(crate) fn evaluate(
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
    lifetimes: &Lifetimes,
) -> Precondition {
    if status != StatusCode::OK {
        return Precondition::Proceed;
    }
    // RFC 9110, section 13.1.3: "A recipient MUST ignore If-Modified-Since if the request
    // contains an If-None-Match header field".
    let not_modified = if request.contains_key(header::IF_NONE_MATCH) {
        none_match_fails(request, stored)
    } else {
        not_modified_since(request, stored, lifetimes)
    };
    if not_modified {
        Precondition::NotModified
    } else {
        Precondition::Proceed
    }
}

/// The fields of a 304 made from a stored response.
///
/// RFC 9110, section 15.4.5: a 304 must have "Content-Location, Date, ETag, and Vary" and
/// "Cache-Control and Expires" as the 200 would, and "SHOULD NOT generate representation
/// metadata other than the above listed fields", except for `Last-Modified` if there is no
/// `ETag`. Fields that describe no representation stay.
pub(crate) fn not_modified_headers(stored: &HeaderMap) -> HeaderMap {
    let mut headers = stored.clone();
    let has_etag = stored.contains_key(header::ETAG);
    for name in stored.keys() {
        let left_out = is_coding(name)
            || is_for_one_client(name)
            || match *name {
                header::CONTENT_LANGUAGE | header::ACCEPT_RANGES => true,
                header::LAST_MODIFIED => has_etag,
                ref other => matches!(
                    other.as_str(),
                    "content-md5" | "content-digest" | "repr-digest" | "digest"
                ),
            };
        if left_out {
            headers.remove(name);
        }
    }
    headers
}

/// Whether `If-Range` lets a `Range` be applied to the stored response.
///
/// RFC 9110, section 13.1.5: with an entity tag, "the strong comparison function"; with a
/// date, an exact match of a `Last-Modified` that is a strong validator. Anything else fails, and
/// the whole response is served.
pub(crate) fn if_range_passes(request: &HeaderMap, stored: &HeaderMap, now: Timestamp) -> bool {
    if !request.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(line) = single(request, header::IF_RANGE) else {
        return false;
    };
    let value = trim_ows(line.as_bytes());
    if let Some((given, rest)) = EntityTag::parse(value) {
        let stored = stored_etag(stored);
        return rest.is_empty() && stored.is_some_and(|stored| given.strongly_equals(&stored));
    }
    let given = parse_date(value, now);
    let modified = date_field(stored, header::LAST_MODIFIED, now);
    let made = sent_date(stored, now);
    match (given, modified, made) {
        // Section 8.8.2.2: strong if the `Date` is "at least one second after the
        // Last-Modified value".
        (Some(given), Some(modified), Some(made)) => given == modified && made > modified,
        _ => false,
    }
}

/// RFC 9110, section 13.1.2: the condition is false if "the field value is '*'" and there is
/// a current representation, or if one of the tags matches by "the weak comparison function".
fn none_match_fails(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let stored = stored_etag(stored);
    let mut any = false;
    let mut matched = false;
    let mut tags = 0_usize;
    for line in request.get_all(header::IF_NONE_MATCH) {
        let mut rest = trim_ows(line.as_bytes());
        if rest == b"*" {
            any = true;
            continue;
        }
        while let Some(next) = next_element(rest) {
            let Some((tag, after)) = EntityTag::parse(next) else {
                return false;
            };
            tags += 1;
            matched |= stored
                .as_ref()
                .is_some_and(|stored| tag.weakly_equals(stored));
            rest = trim_ows(after);
            if !matches!(rest.first(), None | Some(b',')) {
                return false;
            }
        }
    }
    if any { tags == 0 } else { matched }
}

/// RFC 9111, section 4.3.2: "If a request contains an If-Modified-Since header field and the
/// Last-Modified header field is not present in a stored response, a cache SHOULD use the
/// stored response's Date field value (or, if no Date field is present, the time that the
/// stored response was received) to evaluate the conditional."
fn not_modified_since(request: &HeaderMap, stored: &HeaderMap, lifetimes: &Lifetimes) -> bool {
    let now = lifetimes.stored;
    // RFC 9110, section 13.1.3: ignored if "the field value is not a valid HTTP-date, the
    // field value has more than one member".
    let mut lines = request.get_all(header::IF_MODIFIED_SINCE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let Some(since) = parse_date(line.as_bytes(), now) else {
        return false;
    };
    let changed = if stored.contains_key(header::LAST_MODIFIED) {
        date_field(stored, header::LAST_MODIFIED, now)
    } else {
        Some(sent_date(stored, now).unwrap_or(now))
    };
    changed.is_some_and(|changed| changed <= since)
}

/// Skips commas and white space to the next element. `None` at the end.
fn next_element(mut rest: &[u8]) -> Option<&[u8]> {
    while let [b',' | b' ' | b'\t', after @ ..] = rest {
        rest = after;
    }
    (!rest.is_empty()).then_some(rest)
}

/// The one, well-formed entity tag of a stored response.
pub(crate) fn stored_etag(stored: &HeaderMap) -> Option<EntityTag<'_>> {
    let value = single(stored, header::ETAG)?;
    let (tag, rest) = EntityTag::parse(trim_ows(value.as_bytes()))?;
    rest.is_empty().then_some(tag)
}

/// An entity tag (RFC 9110, section 8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag<'a> {
    pub(crate) weak: bool,
    /// The bytes between the quotes. There are no escapes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Takes a tag off the front of `text`, and returns it with the rest.
    fn parse(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, quoted) = match text {
            [b'W', b'/', b'"', rest @ ..] => (true, rest),
            [b'"', rest @ ..] => (false, rest),
            _ => return None,
        };
        let end = quoted.iter().position(|&byte| byte == b'"')?;
        let (opaque, rest) = quoted.split_at(end);
        let valid = opaque.iter().all(|&byte| byte > b' ' && byte != 0x7f);
        let (_quote, rest) = rest.split_first()?;
        valid.then_some((Self { weak, opaque }, rest))
    }

    /// "two entity tags are equivalent if their opaque-tags match character-by-character,
    /// regardless of either or both being tagged as 'weak'."
    pub(crate) fn weakly_equals(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }

    /// "two entity tags are equivalent if both are not weak and their opaque-tags match
    /// character-by-character."
    pub(crate) fn strongly_equals(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }
}
