//! The parts of a request and of its response that a cache needs.

use http::{HeaderMap, Method, StatusCode, header};

use super::options::CacheOptions;
use super::syntax::directives::{RequestDirectives, ResponseDirectives, pragma_no_cache};
use super::syntax::seconds::Delta;
use super::upgrade::{is_nominated, leads_away};
use crate::base::clock::Timestamp;

/// A request and the head of its response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) facts: &'a RequestFacts,
    pub(crate) status: StatusCode,
    /// The response's fields.
    pub(crate) headers: &'a HeaderMap,
    /// The handler's instructions.
    pub(crate) options: Option<&'a CacheOptions>,
    /// When the request was passed to the handler.
    pub(crate) request_time: Timestamp,
    /// When the response's head arrived.
    pub(crate) response_time: Timestamp,
}

/// The parts of a request head that caching depends on, read in one pass. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    pub(crate) method: MethodClass,
    /// `Authorization` is present.
    pub(crate) authorization: bool,
    /// `Cookie` is present.
    pub(crate) cookie: bool,
    /// The policy knows of credentials that are in no field.
    pub(crate) declared: bool,
    /// `If-None-Match` or `If-Modified-Since` is present: a cache may answer these itself.
    pub(crate) conditional: bool,
    /// `If-Match` or `If-Unmodified-Since` is present. RFC 9111, section 4.3.2: they "are
    /// not applicable to a cache", so the request goes to the handler.
    pub(crate) origin_precondition: bool,
    /// `Range` is present and the method defines it (RFC 9110, section 14.2: only `GET`).
    pub(crate) range: bool,
    /// `Upgrade` asks, by the grammar, for a protocol that leads away from HTTP. In HTTP/1.1 it is
    /// to be obeyed.
    pub(crate) upgrade: bool,
    /// The head announces content. In HTTP/2 content may come unannounced: ask the body too.
    pub(crate) body: bool,
    pub(crate) directives: RequestDirectives,
}

/// What a method means to a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodClass {
    Get,
    Head,
    /// A safe method other than GET and HEAD. Its responses are not stored, invalidate nothing, and
    /// pass.
    Safe,
    /// Everything else. RFC 9111, section 4.4: invalidation follows an unsafe method
    /// "(including methods whose safety is unknown)".
    Unsafe,
}

impl Exchange<'_> {
    /// Whether the response itself permits sharing it although the request had credentials.
    ///
    /// RFC 9111, section 3.5, names `must-revalidate`, `public` and `s-maxage`. The first is about
    /// `Authorization` only and not asked here. A targeted field is addressed to shared caches, so
    /// a lifetime in it says as much as `s-maxage`.
    pub(crate) fn permits_sharing(&self, directives: &ResponseDirectives, targeted: bool) -> bool {
        let valid = |delta: Delta| delta.seconds().is_some();
        directives.public
            || valid(directives.s_maxage)
            || (targeted && valid(directives.max_age))
            || self.options.is_some_and(|options| options.public)
    }
}

impl MethodClass {
    pub(crate) fn of(method: &Method) -> Self {
        match method.as_str() {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            // The methods that the IANA registry lists as safe, and QUERY.
            "OPTIONS" | "TRACE" | "PRI" | "PROPFIND" | "QUERY" | "REPORT" | "SEARCH" => Self::Safe,
            _ => Self::Unsafe,
        }
    }
}

impl RequestFacts {
    pub(crate) fn read(method: &Method, headers: &HeaderMap) -> Self {
        let method = MethodClass::of(method);
        let mut facts = Self {
            method,
            authorization: false,
            cookie: false,
            declared: false,
            conditional: false,
            origin_precondition: false,
            range: false,
            upgrade: false,
            body: false,
            directives: RequestDirectives::default(),
        };
        let mut cache_control = false;
        let mut pragma = false;
        for (name, value) in headers {
            match *name {
                header::AUTHORIZATION => facts.authorization = true,
                header::COOKIE => facts.cookie = true,
                header::IF_NONE_MATCH | header::IF_MODIFIED_SINCE => facts.conditional = true,
                header::IF_MATCH | header::IF_UNMODIFIED_SINCE => facts.origin_precondition = true,
                header::RANGE => facts.range = method == MethodClass::Get,
                header::UPGRADE => facts.upgrade |= leads_away(value),
                header::TRANSFER_ENCODING => facts.body = true,
                header::CONTENT_LENGTH => facts.body |= value.as_bytes() != b"0",
                header::PRAGMA => pragma |= pragma_no_cache(value),
                header::CACHE_CONTROL => {
                    cache_control = true;
                    facts.directives.add_line(value);
                }
                _ => {}
            }
        }
        // RFC 7234, section 5.4: `Pragma` counts only without `Cache-Control`.
        facts.directives.no_cache |= pragma && !cache_control;
        facts.upgrade = facts.upgrade && is_nominated(headers);
        facts
    }

    /// The key says who asks, so nothing else that says it is a credential any more: what is stored
    /// under this key is for this requester alone.
    ///
    /// RFC 9111, section 3.5, knows no such keys; the application has to ask for it.
    pub(crate) const fn requester_is_in_key(&mut self) {
        self.authorization = false;
        self.cookie = false;
        self.declared = false;
    }
}
