//! Header fields by what a cache does with them.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::syntax::tokens::trim_ows;

/// The one line of a field. `None` if there is no line, or if lines differ.
pub(crate) fn single(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.all(|line| line == first).then_some(first)
}

/// Field names to leave out, for look-ups among many fields.
#[derive(Debug, Default)]
pub(crate) struct Exclusions(Vec<HeaderName>);

impl Exclusions {
    /// The fields that `Connection` nominates, and `listed`, those that qualified
    /// directives forbid to store.
    ///
    /// RFC 9111, section 3.1: "The Connection header field and fields whose names are listed
    /// in it are required … to be removed before forwarding the message. This MAY be
    /// implemented by doing so before storage."
    pub(crate) fn of(headers: &HeaderMap, listed: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut names: Vec<HeaderName> = listed.into_iter().collect();
        for line in headers.get_all(header::CONNECTION) {
            names.extend(
                line.as_bytes()
                    .split(|&byte| byte == b',')
                    .filter_map(|name| HeaderName::from_bytes(trim_ows(name)).ok())
                    .filter(|name| !is_critical(name)),
            );
        }
        // Sorted, so that many nominated names times many fields stay cheap.
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        Self(names)
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        !self.0.is_empty()
            && self
                .0
                .binary_search_by(|excluded| excluded.as_str().cmp(name.as_str()))
                .is_ok()
    }
}

/// Fields of one connection, which are never stored or updated.
///
/// RFC 9110, section 7.6.1, and RFC 9111, section 3.1: "Header fields that are specific to
/// the proxy that a cache uses when forwarding a request MUST NOT be stored", which are
/// `Proxy-Authenticate`, `Proxy-Authentication-Info` and `Proxy-Authorization`.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::UPGRADE => true,
        ref other => matches!(
            other.as_str(),
            "keep-alive" | "proxy-connection" | "proxy-authentication-info"
        ),
    }
}

/// Fields that one client alone is meant to get: they set a cookie, or clear what its browser has.
pub(crate) fn is_for_one_client(name: &HeaderName) -> bool {
    *name == header::SET_COOKIE || matches!(name.as_str(), "set-cookie2" | "clear-site-data")
}

/// Fields that say how to read the content, which means something else without them.
pub(crate) fn is_coding(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONTENT_ENCODING
            | header::CONTENT_TYPE
            | header::CONTENT_LENGTH
            | header::CONTENT_RANGE
    )
}

/// Fields that a sender cannot mean to nominate in `Connection`.
///
/// Removing one would change what the response means, or lift a restriction: a known way
/// to attack caches. RFC 9110, section 7.6.1: "A sender MUST NOT send a connection option
/// corresponding to a field that is intended for all recipients of the content. For
/// example, Cache-Control is never appropriate as a connection option".
pub(crate) fn is_critical(name: &HeaderName) -> bool {
    match *name {
        header::CACHE_CONTROL
        | header::PRAGMA
        | header::VARY
        | header::EXPIRES
        | header::DATE
        | header::AGE
        | header::ETAG
        | header::LAST_MODIFIED
        | header::LOCATION
        | header::CONTENT_LOCATION
        | header::CONTENT_TYPE
        | header::CONTENT_ENCODING
        | header::CONTENT_LENGTH
        | header::CONTENT_RANGE
        | header::CONTENT_LANGUAGE
        | header::CONTENT_DISPOSITION
        | header::CONTENT_SECURITY_POLICY
        | header::CONTENT_SECURITY_POLICY_REPORT_ONLY
        | header::STRICT_TRANSPORT_SECURITY
        | header::X_CONTENT_TYPE_OPTIONS
        | header::X_FRAME_OPTIONS
        | header::REFERRER_POLICY
        | header::SET_COOKIE
        | header::WWW_AUTHENTICATE => true,
        ref other => {
            let name = other.as_str();
            name.ends_with("cache-control")
                || name.starts_with("access-control-")
                || name.starts_with("cross-origin-")
                || matches!(
                    name,
                    "set-cookie2"
                        | "clear-site-data"
                        | "surrogate-control"
                        | "surrogate-key"
                        | "cache-tag"
                        | "cache-groups"
                        | "cache-status"
                        | "permissions-policy"
                        | "authentication-info"
                )
        }
    }
}

/// Response fields that tell of one request and mean nothing to those who get the stored response:
/// for [`PolicyBuilder::unstored_fields`](crate::PolicyBuilder::unstored_fields).
pub const FIELDS_OF_ONE_REQUEST: [HeaderName; 34] = [
    // How much one client may still ask: to another it is wrong, and tells of the first.
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("x-rate-limit-limit"),
    HeaderName::from_static("x-rate-limit-remaining"),
    HeaderName::from_static("x-rate-limit-reset"),
    HeaderName::from_static("x-ratelimit-after"),
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("x-ratelimit-used"),
    HeaderName::from_static("x-ratelimit-whitelisted"),
    // Ids: replayed, they lead from a thousand requests to the logs of one.
    HeaderName::from_static("correlation-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-amz-request-id"),
    HeaderName::from_static("x-amzn-requestid"),
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("x-ms-request-id"),
    HeaderName::from_static("x-request-id"),
    // Traces: replayed, they join requests to a trace that ended long ago.
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("traceresponse"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-amzn-trace-id"),
    HeaderName::from_static("x-b3-sampled"),
    HeaderName::from_static("x-b3-spanid"),
    HeaderName::from_static("x-b3-traceid"),
    HeaderName::from_static("x-cloud-trace-context"),
    HeaderName::from_static("x-trace-id"),
    // How long one request took.
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("x-envoy-upstream-service-time"),
    HeaderName::from_static("x-process-time"),
    HeaderName::from_static("x-response-time"),
    HeaderName::from_static("x-runtime"),
];
