//! `Cache-Status` (RFC 9211), and the outcome names that logs and metrics share with it.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The name of the field.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went forward (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forwarded {
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
    /// What was stored is only a part of what was asked for.
    Partial,
}

impl Forwarded {
    /// The parameter's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// What the cache did with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered from what was stored, with so many seconds of freshness left (RFC 9211 2.4).
    Hit {
        ttl: i64,
        detail: Option<&'static str>,
    },
    Forward {
        why: Forwarded,
        /// The status of the handler's response (RFC 9211 2.3).
        status: Option<u16>,
        stored: bool,
        collapsed: bool,
        detail: Option<&'static str>,
    },
    /// Answered by the cache itself: 504 to `only-if-cached`.
    Generated { detail: &'static str },
}

impl Outcome {
    pub(crate) const fn hit(ttl: i64) -> Self {
        Self::Hit { ttl, detail: None }
    }

    pub(crate) const fn stale(ttl: i64, detail: &'static str) -> Self {
        Self::Hit {
            ttl,
            detail: Some(detail),
        }
    }

    pub(crate) const fn forward(why: Forwarded, detail: Option<&'static str>) -> Self {
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
    pub(crate) fn because(mut self, reason: &'static str) -> Self {
        if let Self::Forward { detail, .. } = &mut self {
            *detail = Some(reason);
        }
        self
    }

    /// Appends this cache's member to the list that caches nearer the origin have begun.
    pub(crate) fn append_to(self, headers: &mut HeaderMap, name: &str) {
        if let Ok(value) = HeaderValue::try_from(self.render(name)) {
            headers.append(CACHE_STATUS, value);
        }
    }

    fn render(self, name: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(name.len() + 64);
        out.extend_from_slice(name.as_bytes());
        match self {
            Self::Hit { ttl, detail } => {
                out.extend_from_slice(b"; hit; ttl=");
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
                out.extend_from_slice(b"; fwd=");
                out.extend_from_slice(why.as_str().as_bytes());
                if let Some(status) = status {
                    out.extend_from_slice(b"; fwd-status=");
                    push_integer(&mut out, status.into());
                }
                if stored {
                    out.extend_from_slice(b"; stored");
                }
                if collapsed {
                    out.extend_from_slice(b"; collapsed");
                }
                push_detail(&mut out, detail);
            }
            Self::Generated { detail } => push_detail(&mut out, Some(detail)),
        }
        out
    }
}

fn push_detail(out: &mut Vec<u8>, detail: Option<&'static str>) {
    if let Some(detail) = detail {
        out.extend_from_slice(b"; detail=");
        out.extend_from_slice(detail.as_bytes());
    }
}

/// Appends a decimal number without the formatting machinery: this is on the hit path.
fn push_integer(out: &mut Vec<u8>, number: i64) {
    let (digits, start) = decimal(number.unsigned_abs());
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// A number's digits, at the end of the array from the index on.
fn decimal(mut number: u64) -> ([u8; 20], usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        if let Some(digit) = digits.get_mut(start) {
            *digit = b'0' + (number % 10) as u8;
        }
        number /= 10;
        if number == 0 || start == 0 {
            return (digits, start);
        }
    }
}

/// An `Age` value (RFC 9111 5.1).
pub(crate) fn age_value(seconds: u64) -> HeaderValue {
    let (digits, start) = decimal(seconds);
    HeaderValue::from_bytes(digits.get(start..).unwrap_or(b"0"))
        .unwrap_or(const { HeaderValue::from_static("0") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_as_rfc_9211_has_it() {
        let table = [
            (Outcome::hit(60), "c; hit; ttl=60"),
            (
                Outcome::stale(-5, "stale-while-revalidate"),
                "c; hit; ttl=-5; detail=stale-while-revalidate",
            ),
            (
                Outcome::forward(Forwarded::Bypass, Some("upgrade")),
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
                    detail: "only-if-cached",
                },
                "c; detail=only-if-cached",
            ),
            (Outcome::hit(i64::MIN), "c; hit; ttl=-9223372036854775808"),
        ];
        for (outcome, expected) in table {
            assert_eq!(outcome.render("c"), expected.as_bytes());
        }
    }

    #[test]
    fn an_age_is_plain_digits() {
        for seconds in [0, 9, 10, 3600, u64::MAX] {
            assert_eq!(age_value(seconds), seconds.to_string());
        }
    }
}
