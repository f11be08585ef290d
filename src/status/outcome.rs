//! What the cache did with one request, as a member of `Cache-Status`.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::reason::Reason;
use crate::base::decimal::decimal;

/// What the cache did with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The store answered; `ttl` is the remaining freshness, in seconds (RFC 9211 2.4).
    Hit { ttl: i64, detail: Option<Reason> },
    Forward {
        why: Forwarded,
        /// The status of the handler's response (RFC 9211 2.3).
        status: Option<u16>,
        stored: bool,
        collapsed: bool,
        detail: Option<Reason>,
    },
    /// The cache answered by itself: 504 to `only-if-cached`.
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

    /// The stored response is not this requester's to have. RFC 9211 2.2: "The cache was able to
    /// select a fresh response for the request, but the request's semantics … did not allow its use".
    pub(crate) const fn not_shared(reason: Reason) -> Self {
        Self::forward(Forwarded::Request, Some(reason))
    }

    /// Adds the status of the handler's response.
    pub(crate) fn with_status(mut self, of: StatusCode) -> Self {
        if let Self::Forward { status, .. } = &mut self {
            *status = Some(of.as_u16());
        }
        self
    }

    /// Notes that the response was stored.
    pub(crate) fn and_stored(mut self) -> Self {
        if let Self::Forward { stored, .. } = &mut self {
            *stored = true;
        }
        self
    }

    /// Notes that the response to another request answers this one.
    pub(crate) fn collapsed(mut self) -> Self {
        if let Self::Forward { collapsed, .. } = &mut self {
            *collapsed = true;
        }
        self
    }

    /// Names the reason, mostly why the response was not stored.
    pub(crate) fn because(mut self, reason: Reason) -> Self {
        if let Self::Forward { detail, .. } = &mut self {
            *detail = Some(reason);
        }
        self
    }

    /// This cache's member of the field. `None` if `name` cannot stand in a field.
    pub(super) fn value(self, name: &str) -> Option<HeaderValue> {
        let member = match self {
            Self::Hit { ttl, detail } => {
                let sign: &[u8] = if ttl < 0 { b"-" } else { b"" };
                let (digits, start) = decimal(ttl.unsigned_abs());
                let ttl = digits.get(start..).unwrap_or_default();
                let [key, detail] = detail_parameter(detail);
                [name.as_bytes(), b"; hit; ttl=", sign, ttl, key, detail].concat()
            }
            Self::Forward {
                why,
                status,
                stored,
                collapsed,
                detail,
            } => {
                let (digits, start) = decimal(status.unwrap_or_default().into());
                let [status_key, status]: [&[u8]; 2] = match status {
                    Some(_) => [b"; fwd-status=", digits.get(start..).unwrap_or_default()],
                    None => [b"", b""],
                };
                let stored: &[u8] = if stored { b"; stored" } else { b"" };
                let collapsed: &[u8] = if collapsed { b"; collapsed" } else { b"" };
                let [key, detail] = detail_parameter(detail);
                let why = why.as_str().as_bytes();
                [
                    name.as_bytes(),
                    b"; fwd=",
                    why,
                    status_key,
                    status,
                    stored,
                    collapsed,
                    key,
                    detail,
                ]
                .concat()
            }
            Self::Generated { detail } => {
                let [key, detail] = detail_parameter(Some(detail));
                [name.as_bytes(), key, detail].concat()
            }
        };
        // The bytes are as long as their memory, so the value takes them without a copy.
        HeaderValue::from_maybe_shared(Bytes::from(member)).ok()
    }
}

fn detail_parameter(detail: Option<Reason>) -> [&'static [u8]; 2] {
    match detail {
        Some(detail) => [b"; detail=", detail.as_str().as_bytes()],
        None => [b"", b""],
    }
}

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
    /// The request's own directives or credentials asked for it.
    Request,
    /// The stored response was stale.
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
            assert_eq!(outcome.value("c").unwrap(), expected);
        }
    }
}
