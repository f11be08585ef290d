//! How long a stored response is good, as plain moments (RFC 9111, section 4.2).

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use super::exchange::Exchange;
use super::rules::StorageRules;
use super::syntax::dates::{date_field, parse_date};
use super::syntax::directives::{Qualified, ResponseDirectives};
use super::syntax::seconds::{Delta, parse_seconds};
use super::syntax::tokens::trim_ows;
use crate::base::clock::Timestamp;

/// When a stored response is fresh, when it may still be served stale, and when it is of no use any
/// more. All are resolved when it is stored, so that a hit only compares integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    /// When its age was zero.
    pub(crate) born: Timestamp,
    /// When it was received, or validated last.
    pub(crate) stored: Timestamp,
    /// From this moment on it is stale. The moment may lie before `stored`.
    pub(crate) fresh_until: Timestamp,
    /// Until here it may be served while it is fetched anew. Never before `fresh_until`.
    pub(crate) swr_until: Timestamp,
    /// Until here it may be served if fetching it anew fails. Never before `fresh_until`.
    pub(crate) sie_until: Timestamp,
    /// From here on it is not worth keeping.
    pub(crate) kept_until: Timestamp,
    pub(crate) flags: Flags,
}

impl Lifetimes {
    /// Seconds since the response was made or validated at its origin: the `Age` to send.
    pub(crate) const fn age(&self, now: Timestamp) -> u64 {
        now.since(self.born).as_secs()
    }

    /// Seconds until it is stale; negative once it is.
    pub(crate) fn remaining(&self, now: Timestamp) -> i64 {
        let secs = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        if now < self.fresh_until {
            secs(self.fresh_until.since(now))
        } else {
            -secs(now.since(self.fresh_until))
        }
    }
}

/// What else reuse depends on. The bits are part of the stored form: do not renumber them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flags(u16);

impl Flags {
    /// Unqualified `no-cache`: validate before each reuse.
    pub(crate) const NO_CACHE: Self = Self(1);
    /// `must-revalidate`, `proxy-revalidate` or an applicable `s-maxage`: never serve stale.
    pub(crate) const MUST_REVALIDATE: Self = Self(1 << 1);
    /// The response itself permits sharing it, with and after requests that have credentials.
    pub(crate) const CREDENTIALS_OK: Self = Self(1 << 2);
    /// It has an `ETag` or `Last-Modified`, so that it can be validated.
    pub(crate) const VALIDATOR: Self = Self(1 << 3);
    /// RFC 8246: while fresh, a reload need not validate it.
    pub(crate) const IMMUTABLE: Self = Self(1 << 4);
    /// The lifetime is the policy's own or a heuristic; the response names none. Such
    /// lifetimes may be jittered.
    pub(crate) const ASSIGNED: Self = Self(1 << 5);
    /// The entry was stored under a policy that changes queries, so other queries may ask for it.
    pub(crate) const QUERY_RULE: Self = Self(1 << 6);
    /// `must-revalidate`: it permits sharing it with and after requests that have `Authorization`.
    pub(crate) const AUTHORIZATION_OK: Self = Self(1 << 7);

    /// The flags with these bits; unknown ones are kept.
    pub(crate) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    const fn with_if(self, condition: bool, other: Self) -> Self {
        if condition { self.with(other) } else { self }
    }
}

/// The lifetimes of a response that may be stored. `None` if it has no lifetime at all, or
/// if it could be served neither now, nor stale, nor after validation.
pub(crate) fn lifetimes(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    targeted: bool,
    flags: Flags,
    rules: &StorageRules,
) -> Option<Lifetimes> {
    let lifetime = Lifetime::of(exchange, directives, targeted, rules)?;
    let flags = flags.with_if(lifetime.assigned, Flags::ASSIGNED);
    let stored = exchange.response_time;
    let born = born(exchange);
    let fresh_until = born.saturating_add(lifetime.length.min(rules.max_ttl));
    let windows = StaleWindows::of(exchange, directives, rules, flags);
    let swr_until = fresh_until.saturating_add(windows.while_revalidate);
    let sie_until = fresh_until.saturating_add(windows.if_error);
    let servable_until = if flags.contains(Flags::NO_CACHE) {
        stored
    } else {
        swr_until.max(sie_until)
    };
    let kept_until = if worth_keeping(flags, rules, servable_until > stored) {
        servable_until.max(fresh_until.max(stored).saturating_add(rules.keep))
    } else {
        servable_until
    };
    (kept_until > stored).then_some(Lifetimes {
        born,
        stored,
        fresh_until,
        swr_until,
        sie_until,
        kept_until,
        flags,
    })
}

/// Whether a response is of use once its own rules forbid serving it: it can be validated, or a
/// client may accept it stale.
fn worth_keeping(flags: Flags, rules: &StorageRules, servable: bool) -> bool {
    let never_stale = Flags::NO_CACHE.with(Flags::MUST_REVALIDATE);
    flags.contains(Flags::VALIDATOR)
        || (rules.client_directives && servable && !flags.intersects(never_stale))
}

/// A freshness lifetime, counted from birth.
struct Lifetime {
    length: Duration,
    /// It comes from the policy or a heuristic, not from the response.
    assigned: bool,
}

impl Lifetime {
    /// In order of precedence: the handler's options, the policy's forced lifetime, what the
    /// response says, the policy's default, the heuristic.
    fn of(
        exchange: &Exchange<'_>,
        directives: &ResponseDirectives,
        targeted: bool,
        rules: &StorageRules,
    ) -> Option<Self> {
        if let Some(length) = exchange.options.and_then(|options| options.max_age) {
            return Some(Self {
                length,
                assigned: false,
            });
        }
        let explicit = explicit(exchange, directives, targeted);
        if let Some(length) = rules.forced_ttl
            && (explicit.is_some() || may_assign(exchange.status, directives))
        {
            return Some(Self {
                length,
                assigned: explicit.is_none(),
            });
        }
        if let Some(length) = explicit {
            return Some(Self {
                length,
                assigned: false,
            });
        }
        if !may_assign(exchange.status, directives) {
            return None;
        }
        let length = rules.default_ttl.or_else(|| heuristic(exchange, rules))?;
        Some(Self {
            length,
            assigned: true,
        })
    }
}

/// RFC 9111, section 4.2.1: "If the cache is shared and the s-maxage response directive is
/// present, use its value, or if the max-age response directive is present, use its value,
/// or if the Expires response header field is present, use its value minus the value of the
/// Date response header field".
///
/// "Caches are encouraged to consider responses that have invalid freshness information …
/// to be stale": invalid is zero. `no-cache` is as explicit as zero.
fn explicit(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    targeted: bool,
) -> Option<Duration> {
    for delta in [directives.s_maxage, directives.max_age] {
        match delta {
            Delta::Seconds(secs) => return Some(Duration::from_secs(secs.into())),
            Delta::Invalid => return Some(Duration::ZERO),
            Delta::Absent => {}
        }
    }
    if !targeted && exchange.headers.contains_key(header::EXPIRES) {
        let expires = date_field(exchange.headers, header::EXPIRES, exchange.response_time);
        return Some(expires.map_or(Duration::ZERO, |expires| expires.since(date(exchange))));
    }
    (directives.no_cache == Qualified::Whole).then_some(Duration::ZERO)
}

/// Whether a lifetime may be made up. RFC 9111, section 4.2.2: "A cache MUST NOT use
/// heuristics to determine freshness when an explicit expiration time is present"; it may
/// for statuses that are "heuristically cacheable" (RFC 9110, section 15.1) and for
/// responses "that have been marked as explicitly cacheable (e.g., with a public response
/// directive)".
fn may_assign(status: StatusCode, directives: &ResponseDirectives) -> bool {
    directives.public
        || matches!(
            status.as_u16(),
            200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
        )
}

/// RFC 9111, section 4.2.2: "If the response has a Last-Modified header field …, caches are
/// encouraged to use a heuristic expiration value that is no more than some fraction of the
/// interval since that time."
fn heuristic(exchange: &Exchange<'_>, rules: &StorageRules) -> Option<Duration> {
    let percent = u32::from(rules.heuristic_percent?.min(100));
    let now = exchange.response_time;
    let modified = date_field(exchange.headers, header::LAST_MODIFIED, now)?;
    let interval = date(exchange).since(modified);
    Some(interval.checked_mul(percent)? / 100)
}

/// What a response says of its reuse, besides its lifetime.
pub(crate) fn flags(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    targeted: bool,
) -> Flags {
    let options = exchange.options;
    let own_lifetime = options.is_some_and(|options| options.max_age.is_some());
    // RFC 9111, section 5.2.2.10: s-maxage "incorporates the semantics of the
    // proxy-revalidate response directive"; section 4.2.4 speaks of an "applicable" one,
    // which it is not where the handler's options overrule it.
    let s_maxage = directives.s_maxage != Delta::Absent && !own_lifetime;
    Flags::default()
        .with_if(directives.no_cache == Qualified::Whole, Flags::NO_CACHE)
        .with_if(
            directives.must_revalidate || directives.proxy_revalidate || s_maxage,
            Flags::MUST_REVALIDATE,
        )
        .with_if(
            exchange.permits_sharing(directives, targeted),
            Flags::CREDENTIALS_OK,
        )
        .with_if(directives.permits_authorization, Flags::AUTHORIZATION_OK)
        .with_if(has_validator(exchange.headers), Flags::VALIDATOR)
        .with_if(directives.immutable, Flags::IMMUTABLE)
}

fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED)
}

/// How long a response may be served stale (RFC 5861).
#[derive(Default)]
struct StaleWindows {
    while_revalidate: Duration,
    if_error: Duration,
}

impl StaleWindows {
    /// RFC 9111, section 4.2.4: "A cache MUST NOT generate a stale response if it is
    /// prohibited by an explicit in-protocol directive (e.g., by a no-cache response
    /// directive, a must-revalidate response directive, or an applicable s-maxage or
    /// proxy-revalidate response directive)".
    fn of(
        exchange: &Exchange<'_>,
        directives: &ResponseDirectives,
        rules: &StorageRules,
        flags: Flags,
    ) -> Self {
        if flags.intersects(Flags::NO_CACHE.with(Flags::MUST_REVALIDATE)) {
            return Self::default();
        }
        let options = exchange.options;
        Self {
            while_revalidate: window(
                options.and_then(|options| options.stale_while_revalidate),
                directives.stale_while_revalidate,
                rules.stale_while_revalidate,
            ),
            if_error: window(
                options.and_then(|options| options.stale_if_error),
                directives.stale_if_error,
                rules.stale_if_error,
            ),
        }
    }
}

/// The handler's window, or else the response's, or else the policy's.
fn window(option: Option<Duration>, directive: Delta, default: Option<Duration>) -> Duration {
    let said = match directive {
        Delta::Absent => default,
        Delta::Invalid => None,
        Delta::Seconds(secs) => Some(Duration::from_secs(secs.into())),
    };
    option.or(said).unwrap_or_default()
}

/// When the response's age was zero, by RFC 9111, section 4.2.3:
///
/// ```text
/// apparent_age = max(0, response_time - date_value);
/// response_delay = response_time - request_time;
/// corrected_age_value = age_value + response_delay;
/// corrected_initial_age = max(apparent_age, corrected_age_value);
/// ```
fn born(exchange: &Exchange<'_>) -> Timestamp {
    let now = exchange.response_time;
    // `Date` tells whole seconds, so the difference is taken in whole seconds.
    let whole_secs = Timestamp::from_secs(now.as_millis() / 1000);
    let apparent_age = whole_secs.since(date(exchange));
    let response_delay = now.since(exchange.request_time);
    let age_value = Duration::from_secs(age_field(exchange.headers).unwrap_or(0).into());
    now.saturating_sub(apparent_age.max(age_value.saturating_add(response_delay)))
}

/// The response's `Date`; when it was received, if that is absent or invalid.
///
/// RFC 9110, section 6.6.1: "A recipient with a clock that receives a response with an
/// invalid Date header field value MAY replace that value with the time that response was
/// received."
fn date(exchange: &Exchange<'_>) -> Timestamp {
    sent_date(exchange.headers, exchange.response_time).unwrap_or(exchange.response_time)
}

/// The first line of `Date`, if it is valid.
pub(crate) fn sent_date(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    parse_date(headers.get(header::DATE)?.as_bytes(), now)
}

/// RFC 9111, section 5.1: "a cache encountering a message with a list-based Age field value
/// SHOULD use the first member of the field value, discarding subsequent ones. If the field
/// value … is invalid (e.g., it contains something other than a non-negative integer), a
/// cache SHOULD ignore the field." A parameter is skipped rather
/// than invalid, since the greater age is the safer one.
fn age_field(headers: &HeaderMap) -> Option<u32> {
    let line = headers.get(header::AGE)?.as_bytes();
    let first = line.split(|&byte| matches!(byte, b',' | b';')).next()?;
    parse_seconds(trim_ows(first))
}
