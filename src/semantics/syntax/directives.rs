//! `Cache-Control`, of requests and of responses.
//!
//! A directive that does not follow the grammar may forbid, but never permit. So what forbids is
//! found in quotes too, and with signs around it, and what permits has to be spelt as it should be.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::seconds::Delta;
use super::tokens::{Member, Members, trim_ows};

/// A request's directives (RFC 9111, section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) no_store: bool,
    /// `no-cache`, or `Pragma: no-cache` without any `Cache-Control`.
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    /// Seconds. An unparsable value counts as 0.
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
    /// `must-revalidate` by the grammar, which is a permission as well (RFC 9111, section 3.5).
    pub(crate) permits_authorization: bool,
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

    /// What one line forbids, whatever grammar it should follow.
    pub(super) fn forbid_in(&mut self, line: &HeaderValue) {
        for member in Members::of(line.as_bytes()) {
            self.forbid(&member);
        }
    }

    fn add(&mut self, member: &Member<'_>) {
        self.forbid(member);
        if member.is("max-age") {
            self.max_age = self.max_age.stricter(member.delta());
        } else if member.is("s-maxage") {
            self.s_maxage = self.s_maxage.stricter(member.delta());
        } else if member.is("stale-while-revalidate") {
            self.stale_while_revalidate = self.stale_while_revalidate.stricter(member.delta());
        } else if member.is("stale-if-error") {
            self.stale_if_error = self.stale_if_error.stricter(member.delta());
        } else if member.clean && member.value.is_none() {
            self.permit(member);
        }
    }

    fn forbid(&mut self, member: &Member<'_>) {
        if let Some(text) = member.text() {
            for mut inner in Members::of(text) {
                inner.clean = false;
                self.forbid(&inner);
            }
        } else if member.is_like("no-store") {
            self.no_store = true;
        } else if member.is_like("private") {
            self.private.add(member, "private");
        } else if member.is_like("no-cache") {
            self.no_cache.add(member, "no-cache");
        } else if member.is_like("must-revalidate") {
            self.must_revalidate = true;
        } else if member.is_like("proxy-revalidate") {
            self.proxy_revalidate = true;
        }
    }

    /// `must-understand` lifts `no-store`, so it is a permission too.
    fn permit(&mut self, member: &Member<'_>) {
        if member.is("public") {
            self.public = true;
        } else if member.is("immutable") {
            self.immutable = true;
        } else if member.is("must-understand") {
            self.must_understand = true;
        } else if member.is("must-revalidate") {
            self.permits_authorization = true;
        }
    }
}

/// Whether an argument says that the directive is meant, rather than for which fields.
fn is_truth(argument: &[u8]) -> bool {
    let words: [&[u8]; 6] = [b"1", b"0", b"true", b"false", b"yes", b"no"];
    words.iter().any(|word| argument.eq_ignore_ascii_case(word))
}

impl Qualified {
    fn add(&mut self, member: &Member<'_>, name: &str) {
        let other = match &member.value {
            Some(list) if member.clean && member.is(name) && !is_truth(list) => Self::fields(list),
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
