//! The fields that an intermediary removes, adds and counts down.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};

/// Removes the fields that belong to one connection.
///
/// RFC 9110, 7.6.1: intermediaries MUST parse a received Connection header field before a
/// message is forwarded and, for each connection-option in this field, remove any header
/// or trailer field(s) from the message with the same name as the connection-option.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in connection_options(headers) {
        if !END_TO_END.contains(&name) {
            headers.remove(name);
        }
    }
    // RFC 9112, 6.3: Transfer-Encoding overrides the Content-Length, which is then removed
    // prior to forwarding.
    if headers.remove(header::TRANSFER_ENCODING).is_some() {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The protocols of an `Upgrade` that may be tunnelled.
///
/// Another version of HTTP may not: its requests would pass the cache unseen.
pub(crate) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(header::UPGRADE)?;
    let protocols = value.to_str().ok()?.to_ascii_lowercase();
    let http = protocols.split(',').any(|protocol| {
        let protocol = protocol.trim();
        protocol == "h2c" || protocol.starts_with("http/") || protocol.starts_with("tls/")
    });
    let asked =
        version == Version::HTTP_11 && connection_options(headers).contains(&header::UPGRADE);
    (asked && !http).then(|| value.clone())
}

/// Whether the sender of a request takes trailers, gRPC above all.
pub(crate) fn accepts_trailers(headers: &HeaderMap) -> bool {
    list(headers, &header::TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

/// Whether the body has no transfer coding but the one that hyper undoes.
pub(crate) fn only_chunked(headers: &HeaderMap) -> bool {
    list(headers, &header::TRANSFER_ENCODING).all(|coding| coding.eq_ignore_ascii_case("chunked"))
}

/// Whether the body has a transfer coding that the receiver could not know once the field is
/// removed. A coding that is not registered cannot be undone by anyone, so such a body passes as it
/// is.
pub(crate) fn compressed(headers: &HeaderMap) -> bool {
    list(headers, &header::TRANSFER_ENCODING).any(|coding| {
        COMPRESSIONS
            .iter()
            .any(|compression| coding.eq_ignore_ascii_case(compression))
    })
}

/// How often a request may still be forwarded.
pub(crate) fn max_forwards(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::MAX_FORWARDS)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// RFC 9110, 7.6.2: each intermediary that receives a TRACE or OPTIONS request containing
/// a Max-Forwards header field MUST generate an updated field with the value decremented.
pub(crate) fn count_down(method: &Method, headers: &mut HeaderMap) {
    if let (&Method::OPTIONS | &Method::TRACE, Some(left)) = (method, max_forwards(headers)) {
        headers.insert(header::MAX_FORWARDS, left.saturating_sub(1).into());
    }
}

/// Adds `Via`.
pub(crate) fn add_via(version: Version, headers: &mut HeaderMap) {
    headers.append(
        header::VIA,
        HeaderValue::from_static(match version {
            Version::HTTP_2 => "2 tower-response-cache",
            Version::HTTP_10 => "1.0 tower-response-cache",
            _ => "1.1 tower-response-cache",
        }),
    );
}

/// RFC 9113, 8.2.3: if there are multiple Cookie header fields after decompression, these
/// MUST be concatenated into a single octet string using "; " before being passed into a
/// non-HTTP/2 context.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<_> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if lines.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    list(headers, &header::CONNECTION)
        .filter_map(|option| option.parse().ok())
        .collect()
}

fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.to_str().unwrap_or_default().split(','))
        .map(str::trim)
}

/// RFC 9112, 7.2: the compression codings, and their aliases.
const COMPRESSIONS: [&str; 5] = ["compress", "deflate", "gzip", "x-compress", "x-gzip"];

const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::UPGRADE,
];

/// Fields that `Connection` cannot remove. Without them the message would mean something else: a
/// private response would look public.
///
/// RFC 9110, 7.6.1: a sender MUST NOT send a connection option corresponding to a field
/// that is intended for all recipients of the content.
const END_TO_END: [HeaderName; 16] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::HOST,
    header::LAST_MODIFIED,
    header::SET_COOKIE,
    header::TRANSFER_ENCODING,
    header::VARY,
];
