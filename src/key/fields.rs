//! Header fields as they are written to a key.

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_LOCATION,
    HOST, IF_RANGE, ORIGIN, RANGE, USER_AGENT,
};
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::forwarded::FORWARDED;
use super::frame::frame;
use crate::semantics;

/// Writes the request's values of the fields that a resource varies on (RFC 9111 4.1).
pub(super) fn write_variant(out: &mut Vec<u8>, fields: &[HeaderName], headers: &HeaderMap) {
    for name in fields {
        frame(out, name.as_str().as_bytes());
        if is_secret(name) {
            let mut value = Vec::new();
            semantics::variant_value(name, headers, &mut value);
            frame(out, &Sha256::digest(&value));
        } else {
            semantics::variant_value(name, headers, out);
        }
    }
}

/// Writes a header's value to a key. Credentials become a digest, since keys are stored.
pub(super) fn write_value(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    if is_secret(name) {
        frame(out, &Sha256::digest(value));
    } else {
        frame(out, value);
    }
}

/// Whether a header's values may be secret. Applications invent credentials of their own, so all
/// values may be secret, except for headers that negotiate content, name the client's software, or
/// say where a request was sent.
fn is_secret(name: &HeaderName) -> bool {
    !matches!(
        *name,
        ACCEPT
            | ACCEPT_CHARSET
            | ACCEPT_ENCODING
            | ACCEPT_LANGUAGE
            | CONTENT_LANGUAGE
            | CONTENT_LOCATION
            | HOST
            | IF_RANGE
            | ORIGIN
            | RANGE
            | USER_AGENT
    ) && !is_forwarding(name)
}

/// Whether a field is in the default list. Its values say where a request was sent, and are not
/// secret.
fn is_forwarding(name: &HeaderName) -> bool {
    FORWARDED.contains(&name.as_str())
}
