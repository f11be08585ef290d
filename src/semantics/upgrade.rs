//! Requests for another protocol.

use http::{HeaderMap, HeaderValue, header};

use super::syntax::tokens::trim_ows;

/// Whether a line of `Upgrade` names a protocol that leads away from HTTP. `h2c` and its like do
/// not: who goes on as before is understood as well.
pub(super) fn leads_away(line: &HeaderValue) -> bool {
    members(line).any(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next();
        name.is_some_and(|name| {
            !name.is_empty() && !STILL_HTTP.iter().any(|it| name.eq_ignore_ascii_case(it))
        })
    })
}

/// RFC 9110, section 7.8: "A sender of Upgrade MUST also send an 'Upgrade' connection option in the
/// Connection header field".
pub(super) fn is_nominated(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines
        .flat_map(members)
        .any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

fn members(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b',').map(trim_ows)
}

/// HTTP, and HTTP over TLS (RFC 2817).
const STILL_HTTP: [&[u8]; 3] = [b"http", b"h2c", b"tls"];
