//! `Cache-Control`, of requests and of responses.
//!
//! Both lean to the safe side: what is written sloppily may forbid, but never permit.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::tokens::{Member, Members, trim_ows};

/// A request's directives (RFC 9111, section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) no_store: bool,
    /// `no-cache`, or `Pragma: no-cache` without any `Cache-Control`.
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    /// Seconds; an unparsable value is 0.
    pub(crate) max_age: Option<u32>,
    /// Seconds; an unparsable value is as none.
    pub(crate) min_fresh: Option<u32>,
    pub(crate) max_stale: MaxStale,
    /// Seconds (RFC 5861, section 4); an unparsable value is as none.
    pub(crate) stale_if_error: Option<u32>,
}

/// How stale a response the client would take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MaxStale {
    #[default]
    Absent,
    /// "If no value is assigned to max-stale, then the client will accept a stale response
    /// of any age." (RFC 9111, section 5.2.1.2)
    Any,
    /// At most this many seconds past the lifetime.
    Limit(u32),
}

/// A response's directives (RFC 9111, section 5.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseDirectives {
    pub(crate) no_store: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) immutable: bool,
    pub(crate) private: Qualified,
    pub(crate) no_cache: Qualified,
    pub(crate) max_age: Delta,
    pub(crate) s_maxage: Delta,
    pub(crate) stale_while_revalidate: Delta,
    pub(crate) stale_if_error: Delta,
    /// A quoted string never ends: what else the field forbids is unknown.
    pub(crate) malformed: bool,
}

/// A directive that holds for the whole response or for some of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Qualified {
    #[default]
    No,
    Whole,
    /// Never empty. A list that is odd, empty or unparsable is [`Qualified::Whole`].
    Fields(Vec<HeaderName>),
}

/// A directive that takes seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delta {
    #[default]
    Absent,
    Seconds(u32),
    /// "Caches are encouraged to consider responses that have invalid freshness information
    /// … to be stale." (RFC 9111, section 4.2.1)
    Invalid,
}

impl RequestDirectives {
    /// Reads one line of the field.
    pub(crate) fn add_line(&mut self, line: &HeaderValue) {
        for member in Members::of(line.as_bytes()) {
            self.add(&member);
        }
    }

    fn add(&mut self, member: &Member<'_>) {
        if member.is("no-store") {
            self.no_store = true;
        } else if member.is("no-cache") {
            self.no_cache = true;
        } else if member.is("only-if-cached") {
            self.only_if_cached = true;
        } else if member.is("max-age") {
            let secs = member.delta().seconds().unwrap_or(0);
            self.max_age = Some(self.max_age.map_or(secs, |other| other.min(secs)));
        } else if member.is("min-fresh") {
            self.min_fresh = self.min_fresh.max(member.delta().seconds());
        } else if member.is("max-stale") {
            self.max_stale = self.max_stale.stricter(MaxStale::of(member));
        } else if member.is("stale-if-error")
            && let Some(secs) = member.delta().seconds()
        {
            self.stale_if_error = Some(self.stale_if_error.map_or(secs, |other| other.min(secs)));
        }
    }
}

/// Whether one line of `Pragma` says `no-cache`.
pub(crate) fn pragma_no_cache(line: &HeaderValue) -> bool {
    Members::of(line.as_bytes()).any(|member| member.is("no-cache"))
}

impl MaxStale {
    fn of(member: &Member<'_>) -> Self {
        match (&member.value, member.delta()) {
            (None, _) if member.clean => Self::Any,
            (_, Delta::Seconds(secs)) => Self::Limit(secs),
            _ => Self::Absent,
        }
    }

    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Limit(a), Self::Limit(b)) => Self::Limit(a.min(b)),
            (limit @ Self::Limit(_), _) | (_, limit @ Self::Limit(_)) => limit,
            (Self::Absent, Self::Absent) => Self::Absent,
            _ => Self::Any,
        }
    }
}

impl ResponseDirectives {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            let mut members = Members::of(line.as_bytes());
            for member in members.by_ref() {
                found.add(&member);
            }
            found.malformed |= members.unterminated;
        }
        found
    }

    fn add(&mut self, member: &Member<'_>) {
        // Prohibitions hold even if sloppily written or given a value they should not have.
        if member.is("no-store") {
            self.no_store = true;
        } else if member.is("private") {
            self.private.add(member);
        } else if member.is("no-cache") {
            self.no_cache.add(member);
        } else if member.is("must-revalidate") {
            self.must_revalidate = true;
        } else if member.is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if member.is("max-age") {
            self.max_age = self.max_age.stricter(member.delta());
        } else if member.is("s-maxage") {
            self.s_maxage = self.s_maxage.stricter(member.delta());
        } else if member.is("stale-while-revalidate") {
            self.stale_while_revalidate = self.stale_while_revalidate.stricter(member.delta());
        } else if member.is("stale-if-error") {
            self.stale_if_error = self.stale_if_error.stricter(member.delta());
        } else if member.is("must-understand") {
            // It lifts `no-store`, so it has to be clean, as what follows.
            self.must_understand |= member.clean;
        } else if member.clean && member.is("public") {
            self.public = true;
        } else if member.clean && member.is("immutable") {
            self.immutable = true;
        }
    }
}

impl Qualified {
    fn add(&mut self, member: &Member<'_>) {
        let other = match &member.value {
            Some(list) if member.clean => Self::fields(list),
            _ => Self::Whole,
        };
        *self = std::mem::take(self).stricter(other);
    }

    /// The directive with the argument `list`, a list of field names.
    pub(crate) fn fields(list: &[u8]) -> Self {
        let mut names = Vec::new();
        for name in list.split(|&byte| byte == b',').map(trim_ows) {
            if name.is_empty() {
                continue;
            }
            match HeaderName::from_bytes(name) {
                Ok(name) => names.push(name),
                Err(_) => return Self::Whole,
            }
        }
        if names.is_empty() {
            Self::Whole
        } else {
            Self::Fields(names)
        }
    }

    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole, _) | (_, Self::Whole) => Self::Whole,
            (Self::Fields(mut names), Self::Fields(more)) => {
                names.extend(more);
                Self::Fields(names)
            }
            (Self::No, given) | (given, Self::No) => given,
        }
    }
}

impl Delta {
    /// RFC 9111, section 1.2.2: "If a cache receives a delta-seconds value greater than the
    /// greatest integer it can represent … the cache MUST consider the value to be
    /// 2147483648 (2^31) or the greatest positive integer it can conveniently represent."
    pub(crate) fn parse(digits: &[u8]) -> Self {
        parse_seconds(digits).map_or(Self::Invalid, Self::Seconds)
    }

    pub(crate) const fn seconds(self) -> Option<u32> {
        match self {
            Self::Seconds(secs) => Some(secs),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// RFC 9111, section 4.2.1: "If directives conflict …, the most restrictive directive
    /// should be honored."
    const fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Invalid, _) | (_, Self::Invalid) => Self::Invalid,
            (Self::Seconds(a), Self::Seconds(b)) => Self::Seconds(if a < b { a } else { b }),
            (Self::Absent, given) | (given, Self::Absent) => given,
        }
    }
}

/// Decimal digits as seconds, the largest number if too many; `None` if anything else.
pub(crate) fn parse_seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |secs, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        Some(secs.saturating_mul(10).saturating_add(digit))
    })
}
