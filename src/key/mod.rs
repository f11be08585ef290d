//! From request parts to a [`Key`].
//!
//! The canonical form is a sequence of length-framed components, so that no byte can
//! move from one component to the next; the 128-bit hash of it names the key in maps and
//! in the shared store, and the canonical form itself is compared on every read.

mod builder;
mod query;
mod rules;

use std::fmt;
use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_LOCATION,
    HOST, IF_RANGE, ORIGIN, RANGE, USER_AGENT,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Uri};
use sha2::{Digest, Sha256};
use twox_hash::XxHash3_128;

pub(crate) use builder::{KeyBuilder, Traces};
pub use query::QueryRule;
pub(crate) use rules::KeyRules;
pub use rules::Scheme;

use crate::semantics;

/// The identity of a stored response or value. A clone is cheap: a look-up, its flight and what is
/// stored share one.
#[derive(Clone)]
pub(crate) struct Key {
    hash: u128,
    /// Begins with the canonical form, and may go on: a variant's begins with its resource's.
    bytes: Arc<[u8]>,
    length: usize,
}

/// A key that is kept elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRef<'a> {
    hash: u128,
    canonical: &'a [u8],
}

impl Key {
    /// The key of one of the application's own values.
    pub(crate) fn of_value(namespace: &str, name: &str) -> Self {
        let mut canonical = Vec::with_capacity(namespace.len() + name.len() + 16);
        frame(&mut canonical, &[Kind::Value as u8]);
        frame(&mut canonical, namespace.as_bytes());
        frame(&mut canonical, name.as_bytes());
        KeyRef::of(&canonical).to_key()
    }

    /// The key of the variant that `headers` selects among those that vary on `fields`
    /// (RFC 9111 4.1).
    pub(crate) fn variant(&self, fields: &[HeaderName], headers: &HeaderMap) -> Self {
        let mut canonical = Vec::with_capacity(self.length + 64 * fields.len());
        canonical.extend_from_slice(self.canonical());
        write_variant(&mut canonical, fields, headers);
        KeyRef::of(&canonical).to_key()
    }

    /// A key as it was read from the store.
    pub(crate) fn from_canonical(canonical: &[u8]) -> Self {
        KeyRef::of(canonical).to_key()
    }

    /// This key of a resource, in the memory that one of its variants takes anyway.
    pub(crate) fn within(&self, variant: &Self) -> Self {
        match variant.canonical().starts_with(self.canonical()) {
            true => Self {
                bytes: Arc::clone(&variant.bytes),
                ..*self
            },
            false => self.clone(),
        }
    }

    pub(crate) fn borrow(&self) -> KeyRef<'_> {
        KeyRef {
            hash: self.hash,
            canonical: self.canonical(),
        }
    }

    pub(crate) const fn hash(&self) -> u128 {
        self.hash
    }

    pub(crate) fn canonical(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The components that a purge by URL or path selects on.
    pub(crate) fn target(&self) -> Option<Target<'_>> {
        let mut frames = Frames(self.canonical());
        if frames.next()?? != [Kind::Response as u8] {
            return None;
        }
        let _namespace = frames.next()?;
        Target::read(&mut frames)
    }

    /// The tags of these groups of the origin that this key is of (RFC 9875).
    pub(crate) fn group_tags(&self, groups: &[String]) -> Vec<String> {
        if groups.is_empty() {
            return Vec::new();
        }
        self.target().map_or_else(Vec::new, |target| {
            let authority = target.authority.as_deref().unwrap_or_default();
            let tag = |group: &String| semantics::group_tag(target.scheme, authority, group);
            groups.iter().map(tag).collect()
        })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.borrow() == other.borrow()
    }
}

impl Eq for Key {}

impl<'a> KeyRef<'a> {
    pub(crate) fn of(canonical: &'a [u8]) -> Self {
        let hash = XxHash3_128::oneshot(canonical);
        Self { hash, canonical }
    }

    pub(crate) const fn hash(self) -> u128 {
        self.hash
    }

    pub(crate) fn to_key(self) -> Key {
        Key {
            hash: self.hash,
            bytes: self.canonical.into(),
            length: self.canonical.len(),
        }
    }
}

/// Keys hold query strings and header values: only their hash is shown.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:032x})", self.hash)
    }
}

/// Why a request cannot be keyed, so that it goes past the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unkeyable {
    /// The request target's authority and `Host` disagree, or there are several `Host` lines.
    ConflictingHost,
    /// The authority is not one: user information, or bytes outside a host name.
    InvalidHost,
}

/// What a key is of; the first component of its canonical form.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Response = b'r',
    Value = b'v',
}

/// Scheme, authority, path and query: what RFC 9110 7.1 calls the target URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) scheme: &'a [u8],
    /// Lower case, without the scheme's default port. `None` if the request names none.
    pub(crate) authority: Option<std::borrow::Cow<'a, [u8]>>,
    pub(crate) path: &'a [u8],
    /// `None` and empty are different resources.
    pub(crate) query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// The target of a request, whether it came over HTTP/1.1 (`Host`) or HTTP/2 (`:authority`).
    fn of(uri: &'a Uri, headers: &'a HeaderMap, default: Scheme) -> Result<Self, Unkeyable> {
        let scheme = uri.scheme_str().unwrap_or(default.as_str());
        let named = uri.authority().map(|authority| authority.as_str());
        let authority = match (named, host(headers)?) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(canonical_authority(one, scheme)?),
            (Some(uri), Some(host)) => {
                let uri = canonical_authority(uri, scheme)?;
                if uri != canonical_authority(host, scheme)? {
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

    fn write(&self, out: &mut Vec<u8>, namespace: &str) {
        frame(out, namespace.as_bytes());
        frame(out, self.scheme);
        frame_option(out, self.authority.as_deref());
        frame(out, self.path);
        frame_option(out, self.query);
    }

    fn read(frames: &mut Frames<'a>) -> Option<Self> {
        Some(Self {
            scheme: frames.next()??,
            authority: frames.next()?.map(std::borrow::Cow::Borrowed),
            path: frames.next()??,
            query: frames.next()?,
        })
    }
}

/// The URI as the client sent it: under axum's `Router::nest` the handler's own is shorter.
fn original_uri(parts: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(uri)) = parts.extensions.get() {
        return uri;
    }
    &parts.uri
}

/// What the handler sees belongs to the key as well where it is not what the client sent: a
/// router has taken a prefix off, or a middleware has rewritten it, to a tenant's path perhaps.
fn write_rewritten(out: &mut Vec<u8>, original: &Uri, seen: &Uri) {
    if std::ptr::eq(original, seen) {
        return;
    }
    if original.path() != seen.path() || original.query() != seen.query() {
        frame(out, b"uri");
        frame(out, seen.path().as_bytes());
        frame_option(out, seen.query().map(str::as_bytes));
    }
}

/// RFC 9112 3.2: "A server MUST respond with a 400 … to any request message that contains
/// more than one Host header field line": such a request is the application's to refuse.
fn host(headers: &HeaderMap) -> Result<Option<&str>, Unkeyable> {
    let mut lines = headers.get_all(HOST).iter();
    let Some(first) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(Unkeyable::ConflictingHost);
    }
    let host = first
        .to_str()
        .map_err(|_not_ascii| Unkeyable::InvalidHost)?;
    Ok((!host.is_empty()).then_some(host))
}

/// RFC 9110 4.2.3: host names are case-insensitive, and a default port is as good as none.
fn canonical_authority<'a>(
    authority: &'a str,
    scheme: &str,
) -> Result<std::borrow::Cow<'a, [u8]>, Unkeyable> {
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
    // An IPv6 address stands in brackets (RFC 3986, 3.2.2): of one that does not, no port can be
    // told.
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

/// Writes what the request has of the fields that a resource varies on (RFC 9111 4.1).
fn write_variant(out: &mut Vec<u8>, fields: &[HeaderName], headers: &HeaderMap) {
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
fn write_value(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    if is_secret(name) {
        frame(out, &Sha256::digest(value));
    } else {
        frame(out, value);
    }
}

/// Whether a header's values may be secret. Any may that does not negotiate content, or tell of
/// the client's software or the way of the request: applications have credentials of their own.
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
    ) && !rules::is_forwarding(name)
}

/// Appends one component: its length, then its bytes.
fn frame(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(ABSENT - 1);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a component that may be missing, which is not the same as empty.
fn frame_option(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => frame(out, bytes),
        None => out.extend_from_slice(&ABSENT.to_le_bytes()),
    }
}

/// The components of a canonical form, in order; `Some(None)` is a missing one.
struct Frames<'a>(&'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        if length == ABSENT {
            self.0 = rest;
            return Some(None);
        }
        let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(Some(bytes))
    }
}

/// The length that says "there is none".
const ABSENT: u32 = u32::MAX;

#[cfg(test)]
mod tests;
