//! The target URI of a request: keys contain it, and purges select by it.

use std::borrow::Cow;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};

use super::Scheme;
use super::frame::{Frames, frame, frame_option};

/// Scheme, authority, path and query: what RFC 9110 7.1 calls the target URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) scheme: &'a [u8],
    /// Lower case, without the scheme's default port. `None` if the request names none.
    pub(crate) authority: Option<Cow<'a, [u8]>>,
    pub(crate) path: &'a [u8],
    /// `None` and empty are different resources.
    pub(crate) query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// The target of a request, whether it came over HTTP/1.1 (`Host`) or HTTP/2 (`:authority`).
    pub(super) fn of(uri: &'a Uri, host: &Host<'a>, default: Scheme) -> Result<Self, Unkeyable> {
        let scheme = uri.scheme_str().unwrap_or(default.as_str());
        let field = host.field.filter(|field| !field.is_empty());
        let authority = match (host.authority, field) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(canonical_authority(one, scheme)?),
            (Some(uri), Some(field)) => {
                let uri = canonical_authority(uri, scheme)?;
                if uri != canonical_authority(field, scheme)? {
                    return Err(Unkeyable::ConflictingHost);
                }
                Some(uri)
            }
        };
        Ok(Self {
            scheme: scheme.as_bytes(),
            authority,
            path: uri.path().as_bytes(),
            query: uri.query().map(str::as_bytes),
        })
    }

    /// The target that a URI names by itself; without an authority, of any host.
    pub(crate) fn of_uri(uri: &'a Uri, default: Scheme) -> Result<Self, Unkeyable> {
        let scheme = uri.scheme_str().unwrap_or(default.as_str());
        let authority = match uri.authority() {
            Some(authority) => Some(canonical_authority(authority.as_str(), scheme)?),
            None => None,
        };
        Ok(Self {
            scheme: scheme.as_bytes(),
            authority,
            path: uri.path().as_bytes(),
            query: uri.query().map(str::as_bytes),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, namespace: &str) {
        frame(out, namespace.as_bytes());
        frame(out, self.scheme);
        frame_option(out, self.authority.as_deref());
        frame(out, self.path);
        frame_option(out, self.query);
    }

    pub(super) fn read(frames: &mut Frames<'a>) -> Option<Self> {
        Some(Self {
            scheme: frames.next()??,
            authority: frames.next()?.map(Cow::Borrowed),
            path: frames.next()??,
            query: frames.next()?,
        })
    }
}

/// Why a request has no key. Such a request passes by the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unkeyable {
    /// The request target's authority and `Host` disagree, or there are several `Host` lines.
    ConflictingHost,
    /// The authority is not one: user information, or bytes outside a host name.
    InvalidHost,
}

/// The URI as the client sent it: under axum's `Router::nest` the handler's own is shorter.
pub(super) fn original_uri(parts: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(uri)) = parts.extensions.get() {
        return uri;
    }
    &parts.uri
}

/// Writes the URI that the handler sees, if it is not the one that the client sent: a router may have
/// taken a prefix off, or a middleware may have rewritten it, perhaps to a tenant's path or host.
pub(super) fn write_rewritten(out: &mut Vec<u8>, original: &Uri, seen: &Uri) {
    if std::ptr::eq(original, seen) {
        return;
    }
    if original.path() != seen.path() || original.query() != seen.query() {
        frame(out, b":uri");
        frame(out, seen.path().as_bytes());
        frame_option(out, seen.query().map(str::as_bytes));
    }
    if original.scheme_str() != seen.scheme_str() || authority(original) != authority(seen) {
        frame(out, b":origin");
        frame_option(out, seen.scheme_str().map(str::as_bytes));
        frame_option(out, authority(seen).map(str::as_bytes));
    }
}

fn authority(uri: &Uri) -> Option<&str> {
    uri.authority().map(|authority| authority.as_str())
}

/// How a request spells its host: in its URI, in `Host`, or in both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host<'a> {
    authority: Option<&'a str>,
    /// Perhaps empty, which names no host.
    field: Option<&'a str>,
}

impl<'a> Host<'a> {
    /// RFC 9112 3.2: "A server MUST respond with a 400 … to any request message that contains
    /// more than one Host header field line": such a request is the application's to refuse.
    pub(super) fn of(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Self, Unkeyable> {
        let mut lines = headers.get_all(HOST).iter();
        let first = lines.next();
        if lines.next().is_some() {
            return Err(Unkeyable::ConflictingHost);
        }
        let field = first.map(HeaderValue::to_str).transpose();
        Ok(Self {
            authority: authority(uri),
            field: field.map_err(|_not_ascii| Unkeyable::InvalidHost)?,
        })
    }

    /// Writes each spelling that differs from the target's: a handler sees it, and may put it into
    /// a link. `Host` and the URI's authority stand for each other where a request has only one.
    pub(super) fn write_spellings(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        let Self { authority, field } = *self;
        let spellings: [(&[u8], _); 2] = [
            (b":host", field.or(authority)),
            (b":authority", authority.or(field)),
        ];
        for (label, spelling) in spellings {
            if let Some(spelling) = spelling.map(str::as_bytes)
                && target.authority.as_deref() != Some(spelling)
            {
                frame(out, label);
                frame(out, spelling);
            }
        }
    }
}

/// RFC 9110 4.2.3: host names are case-insensitive, and a default port is as good as none.
fn canonical_authority<'a>(authority: &'a str, scheme: &str) -> Result<Cow<'a, [u8]>, Unkeyable> {
    // A name as clients send it, without a port.
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    if !authority.is_empty() && authority.bytes().all(plain) {
        return Ok(authority.as_bytes().into());
    }
    let legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'/' | b'?' | b'#');
    if authority.is_empty() || !authority.bytes().all(legal) {
        return Err(Unkeyable::InvalidHost);
    }
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    // An IPv6 address stands in brackets (RFC 3986, 3.2.2). Without them its end cannot be told from
    // a port.
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _port)| host);
    if host.contains(':') && !host.contains('[') {
        return Err(Unkeyable::InvalidHost);
    }
    let bare = authority
        .strip_suffix(default_port)
        .or_else(|| authority.strip_suffix(':'))
        .filter(|bare| !bare.is_empty())
        .unwrap_or(authority);
    if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(bare.to_ascii_lowercase().into_bytes().into());
    }
    Ok(bare.as_bytes().into())
}
