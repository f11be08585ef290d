//! What a cache needs to know of a request, read in one pass over its fields.

use http::{HeaderMap, Method, header};

use super::syntax::directives::{RequestDirectives, pragma_no_cache};

/// A request head, as far as caching cares. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    pub(crate) method: MethodClass,
    /// `Authorization` is present.
    pub(crate) authorization: bool,
    /// `Cookie` is present.
    pub(crate) cookie: bool,
    /// `If-None-Match` or `If-Modified-Since` is present: a cache may answer these itself.
    pub(crate) conditional: bool,
    /// `If-Match` or `If-Unmodified-Since` is present. RFC 9111, section 4.3.2: they "are
    /// not applicable to a cache", so the request goes to the handler.
    pub(crate) origin_precondition: bool,
    /// `Range` is present and the method defines it (RFC 9110, section 14.2: only `GET`).
    pub(crate) range: bool,
    /// `Upgrade` is present.
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
    /// Registered as safe, but neither stored nor invalidating: passed on.
    Safe,
    /// Everything else. RFC 9111, section 4.4: invalidation follows an unsafe method
    /// "(including methods whose safety is unknown)".
    Unsafe,
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
                header::UPGRADE => facts.upgrade = true,
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
        facts
    }
}
