//! The URIs that a request with an unsafe method makes stale (RFC 9111, section 4.4).

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};

use super::exchange::MethodClass;
use super::fields::single;
use super::syntax::tokens::trim_ows;

/// The URIs whose stored responses are invalid now, without duplicates: the target, and the
/// `Location` and `Content-Location` of a 2xx if they are of the same origin.
///
/// RFC 9111, section 4.4: "A cache MUST invalidate the target URI … when it receives a
/// non-error status code in response to an unsafe request method (including methods whose
/// safety is unknown). A cache MAY invalidate other URIs …. However, a cache MUST NOT trigger
/// an invalidation under these conditions if the origin … of the URI to be invalidated
/// differs from that of the target URI. This helps prevent denial-of-service attacks." And:
/// "a 'non-error response' is one with a 2xx (Successful) or 3xx (Redirection) status code".
pub(crate) fn invalidated(
    method: &Method,
    status: StatusCode,
    target: &Uri,
    headers: &HeaderMap,
) -> Vec<Uri> {
    let unsafe_method = MethodClass::of(method) == MethodClass::Unsafe;
    if !unsafe_method || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut uris = vec![target.clone()];
    // A redirection only says where to look next, such as the page after a posted form.
    if !status.is_success() {
        return uris;
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        if let Some(uri) = reference(headers, name, target)
            && !uris.contains(&uri)
        {
            uris.push(uri);
        }
    }
    uris
}

/// The URI that a field refers to, if it is of the target's origin.
fn reference(headers: &HeaderMap, name: HeaderName, target: &Uri) -> Option<Uri> {
    let text = std::str::from_utf8(trim_ows(single(headers, name)?.as_bytes())).ok()?;
    // No stored response has a URI with a fragment.
    let text = text.split('#').next()?;
    let path_and_query = match Reference::parse(text)? {
        Reference::Absolute { scheme, rest } => {
            let same_scheme = target.scheme_str()?.eq_ignore_ascii_case(scheme);
            path_of_same_authority(rest, scheme, target).filter(|_| same_scheme)?
        }
        Reference::Network(rest) => path_of_same_authority(rest, target.scheme_str()?, target)?,
        Reference::Path(path) => resolve(path, target)?,
    };
    let mut parts = target.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

/// A URI reference without its fragment (RFC 3986, section 4).
enum Reference<'a> {
    /// `rest` follows `//`.
    Absolute { scheme: &'a str, rest: &'a str },
    /// The text after `//`.
    Network(&'a str),
    /// A path, which may be relative or empty, and may have a query.
    Path(&'a str),
}

impl<'a> Reference<'a> {
    /// Reads a reference. `None` for a URI without authority, such as `mailto:`.
    fn parse(text: &'a str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("//") {
            return Some(Self::Network(rest));
        }
        match text.split_once(':') {
            // RFC 3986, section 4.2: a colon in the first segment of a relative path would end a
            // scheme.
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => Some(Self::Absolute {
                scheme,
                rest: rest.strip_prefix("//")?,
            }),
            _ => Some(Self::Path(text)),
        }
    }
}

/// The path and query of `rest`, which starts with an authority, if it is the target's.
fn path_of_same_authority(rest: &str, scheme: &str, target: &Uri) -> Option<String> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let authority = authority.parse::<Authority>().ok()?;
    let same = same_authority(&authority, target.authority()?, scheme);
    same.then(|| absolute(path))
}

fn same_authority(one: &Authority, other: &Authority, scheme: &str) -> bool {
    let port = |authority: &Authority| authority.port_u16().or_else(|| default_port(scheme));
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

fn default_port(scheme: &str) -> Option<u16> {
    let is = |known: &Scheme| scheme.eq_ignore_ascii_case(known.as_str());
    if is(&Scheme::HTTP) {
        Some(80)
    } else if is(&Scheme::HTTPS) {
        Some(443)
    } else {
        None
    }
}

/// Resolves a reference without scheme and authority (RFC 3986, section 5.2.2).
fn resolve(reference: &str, target: &Uri) -> Option<String> {
    if reference.is_empty() {
        return Some(target.path_and_query()?.as_str().to_owned());
    }
    if reference.starts_with('?') {
        return Some(format!("{}{reference}", target.path()));
    }
    if reference.starts_with('/') {
        return Some(absolute(reference));
    }
    // Section 5.2.3: the base path up to its last slash.
    let (directory, _) = target.path().rsplit_once('/')?;
    Some(absolute(&format!("{directory}/{reference}")))
}

/// A path that starts with a slash and has no dot segments, and its query.
fn absolute(path_and_query: &str) -> String {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut out = without_dot_segments(path);
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    out
}

/// Removes dot segments (RFC 3986, section 5.2.4).
fn without_dot_segments(path: &str) -> String {
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut segments = Vec::new();
    let mut directory = false;
    for segment in path.split('/') {
        directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len() + 2);
    for segment in segments {
        out.push('/');
        out.push_str(segment);
    }
    if directory || out.is_empty() {
        out.push('/');
    }
    out
}
