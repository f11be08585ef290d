//! `Cache-Status` (RFC 9211), and the outcome names that logs and metrics share with it.

use std::cell::RefCell;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::base::decimal::decimal;

#[cfg(feature = "metrics")]
mod counts;
mod reason;
#[cfg(feature = "metrics")]
pub use counts::Responses;
pub(crate) use reason::Reason;

/// The name of the field.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went forward (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Forwarded {
    /// The cache was configured, or had reason, not to handle the request.
    Bypass,
    /// The request method's semantics require it to be forwarded.
    Method,
    /// Nothing was stored for the request's URI.
    UriMiss,
    /// Responses were stored, but none that this request's fields select.
    VaryMiss,
    /// The request's own directives asked for it.
    Request,
    /// What was stored was stale.
    Stale,
}

impl Forwarded {
    /// The parameter's value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// A cache's name, and a count of what was told under it.
#[derive(Debug)]
pub(crate) struct StatusName {
    name: String,
    #[cfg(feature = "metrics")]
    counts: counts::Counts,
}

impl StatusName {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            #[cfg(feature = "metrics")]
            counts: counts::Counts::default(),
        }
    }

    /// For labels.
    #[cfg(feature = "metrics")]
    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn responses(&self) -> Responses {
        self.counts.responses()
    }

    #[cfg(feature = "metrics")]
    fn count(&self, outcome: &Outcome) {
        self.counts.count(outcome);
    }

    /// Nothing is counted that nobody reads.
    #[cfg(not(feature = "metrics"))]
    fn count(&self, _outcome: &Outcome) {}
}

/// What the cache did with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered from what was stored, with so many seconds of freshness left (RFC 9211 2.4).
    Hit { ttl: i64, detail: Option<Reason> },
    Forward {
        why: Forwarded,
        /// The status of the handler's response (RFC 9211 2.3).
        status: Option<u16>,
        stored: bool,
        collapsed: bool,
        detail: Option<Reason>,
    },
    /// Answered by the cache itself: 504 to `only-if-cached`.
    Generated { detail: Reason },
}

impl Outcome {
    pub(crate) const fn hit(ttl: i64) -> Self {
        Self::Hit { ttl, detail: None }
    }

    pub(crate) const fn stale(ttl: i64, detail: Reason) -> Self {
        Self::Hit {
            ttl,
            detail: Some(detail),
        }
    }

    pub(crate) const fn forward(why: Forwarded, detail: Option<Reason>) -> Self {
        Self::Forward {
            why,
            status: None,
            stored: false,
            collapsed: false,
            detail,
        }
    }

    /// With the status of the handler's response.
    pub(crate) fn with_status(mut self, of: StatusCode) -> Self {
        if let Self::Forward { status, .. } = &mut self {
            *status = Some(of.as_u16());
        }
        self
    }

    /// Stored on the way.
    pub(crate) fn and_stored(mut self) -> Self {
        if let Self::Forward { stored, .. } = &mut self {
            *stored = true;
        }
        self
    }

    /// Answered by the response to another's request.
    pub(crate) fn collapsed(mut self) -> Self {
        if let Self::Forward { collapsed, .. } = &mut self {
            *collapsed = true;
        }
        self
    }

    /// Not stored, and why.
    pub(crate) fn because(mut self, reason: Reason) -> Self {
        if let Self::Forward { detail, .. } = &mut self {
            *detail = Some(reason);
        }
        self
    }

    /// Appends this cache's member to the list that caches nearer the origin have begun.
    pub(crate) fn append_to(self, headers: &mut HeaderMap, status_name: &StatusName) {
        status_name.count(&self);
        if let Some(value) = self.repeated(&status_name.name) {
            headers.append(CACHE_STATUS, value);
        }
    }

    /// As [`Outcome::append_to`], in an answer from the store, which keeps a place for it.
    pub(crate) fn set_in(self, headers: &mut HeaderMap, status_name: &StatusName) {
        status_name.count(&self);
        let Some(value) = self.value(&status_name.name) else {
            return;
        };
        match headers.get_mut(CACHE_STATUS) {
            Some(place) if place.is_empty() => *place = value,
            _ => {
                headers.append(CACHE_STATUS, value);
            }
        }
    }

    /// The last value is kept, as what is said of requests that go forward is said again and again.
    fn repeated(self, name: &str) -> Option<HeaderValue> {
        let says = |value: &HeaderValue| {
            let after = value.as_bytes().strip_prefix(name.as_bytes());
            after.is_some_and(|rest| rest.starts_with(b";"))
        };
        LAST.with_borrow_mut(|last| match last {
            Some((outcome, value)) if *outcome == self && says(value) => Some(value.clone()),
            _ => Some(last.insert((self, self.value(name)?)).1.clone()),
        })
    }

    fn value(self, name: &str) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.render(name).as_bytes()).ok()
    }

    fn render(self, name: &str) -> Line {
        let mut out = Line::default();
        out.push(name.as_bytes());
        match self {
            Self::Hit { ttl, detail } => {
                out.push(b"; hit; ttl=");
                push_integer(&mut out, ttl);
                push_detail(&mut out, detail);
            }
            Self::Forward {
                why,
                status,
                stored,
                collapsed,
                detail,
            } => {
                out.push(b"; fwd=");
                out.push(why.as_str().as_bytes());
                if let Some(status) = status {
                    out.push(b"; fwd-status=");
                    push_integer(&mut out, status.into());
                }
                if stored {
                    out.push(b"; stored");
                }
                if collapsed {
                    out.push(b"; collapsed");
                }
                push_detail(&mut out, detail);
            }
            Self::Generated { detail } => push_detail(&mut out, Some(detail)),
        }
        out
    }
}

thread_local! {
    static LAST: RefCell<Option<(Outcome, HeaderValue)>> = const { RefCell::new(None) };
}

/// Forgets the last value.
#[cfg(feature = "test-util")]
pub(crate) fn forget_memo() {
    LAST.set(None);
}

/// A value as it is written, on the stack: this is on the hit path. It has room for the longest
/// name that the settings allow and every parameter there is.
struct Line {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; LONGEST],
            length: 0,
        }
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

const LONGEST: usize = 224;

fn push_detail(out: &mut Line, detail: Option<Reason>) {
    if let Some(detail) = detail {
        out.push(b"; detail=");
        out.push(detail.as_str().as_bytes());
    }
}

/// Appends a decimal number without the formatting machinery: this is on the hit path.
fn push_integer(out: &mut Line, number: i64) {
    let (digits, start) = decimal(number.unsigned_abs());
    if number < 0 {
        out.push(b"-");
    }
    out.push(digits.get(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_as_rfc_9211_has_it() {
        let table = [
            (Outcome::hit(60), "c; hit; ttl=60"),
            (
                Outcome::stale(-5, Reason::StaleWhileRevalidate),
                "c; hit; ttl=-5; detail=stale-while-revalidate",
            ),
            (
                Outcome::forward(Forwarded::Bypass, Some(Reason::Upgrade)),
                "c; fwd=bypass; detail=upgrade",
            ),
            (
                Outcome::Forward {
                    why: Forwarded::UriMiss,
                    status: Some(200),
                    stored: true,
                    collapsed: false,
                    detail: None,
                },
                "c; fwd=uri-miss; fwd-status=200; stored",
            ),
            (
                Outcome::Forward {
                    why: Forwarded::Stale,
                    status: None,
                    stored: false,
                    collapsed: true,
                    detail: None,
                },
                "c; fwd=stale; collapsed",
            ),
            (
                Outcome::Generated {
                    detail: Reason::OnlyIfCached,
                },
                "c; detail=only-if-cached",
            ),
            (Outcome::hit(i64::MIN), "c; hit; ttl=-9223372036854775808"),
        ];
        for (outcome, expected) in table {
            assert_eq!(outcome.render("c").as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn what_is_repeated_is_what_is_said_by_whom() {
        let outcomes = [
            Outcome::forward(Forwarded::UriMiss, None),
            Outcome::forward(Forwarded::UriMiss, Some(Reason::NotFound)),
            Outcome::forward(Forwarded::Stale, None),
            Outcome::hit(1),
        ];
        for outcome in outcomes.into_iter().flat_map(|outcome| [outcome; 2]) {
            for name in ["c", "cc", "cc", "c"] {
                assert_eq!(outcome.repeated(name), outcome.value(name), "{name}");
            }
        }
    }
}
