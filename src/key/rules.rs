//! What a policy adds to or takes from the key.

use http::header::COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::{QueryRule, frame, frame_option, query, write_value};

/// The scheme of requests whose target names none (HTTP/1.1 in origin form).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `http`, the default.
    #[default]
    Http,
    /// `https`: choose it where this server itself terminates TLS, so that HTTP/1.1 and
    /// HTTP/2 share their entries.
    Https,
}

impl Scheme {
    /// The scheme as it stands in a URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What belongs to the key besides scheme, authority, path and query. Plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRules {
    /// Keeps the entries of one policy apart from those of others. Default: empty.
    pub namespace: String,
    /// The scheme of requests that name none.
    pub scheme: Scheme,
    /// Which parts of the query count. Default: all of it, as it was sent.
    pub query: QueryRule,
    /// Request headers that always belong to the key.
    pub headers: Vec<HeaderName>,
    /// Cookies that always belong to the key (as a digest of their value).
    pub cookies: Vec<String>,
    /// Headers that change what many handlers answer, part of the key when present.
    pub forwarded: Vec<HeaderName>,
    /// Members of the default list that were taken out of it: the handler does not see them.
    pub dropped: Vec<HeaderName>,
}

impl Default for KeyRules {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            scheme: Scheme::default(),
            query: QueryRule::default(),
            headers: Vec::new(),
            cookies: Vec::new(),
            forwarded: FORWARDED.map(HeaderName::from_static).to_vec(),
            dropped: Vec::new(),
        }
    }
}

impl KeyRules {
    /// Takes from the request what the key leaves out, so that key and handler cannot disagree.
    pub(crate) fn strip_request(&self, parts: &mut Parts) {
        for name in &self.dropped {
            parts.headers.remove(name);
        }
        if self.query != QueryRule::Exact {
            query::rewrite(parts, &self.query);
        }
    }

    /// Appends the headers and cookies that count.
    pub(super) fn write_headers(&self, headers: &HeaderMap, out: &mut Vec<u8>) {
        for name in self.forwarded_in(headers).iter().chain(&self.headers) {
            frame(out, name.as_str().as_bytes());
            let mut lines = headers.get_all(name).iter().peekable();
            if lines.peek().is_none() {
                frame_option(out, None);
            }
            for line in lines {
                write_value(out, name, line.as_bytes());
            }
            frame(out, b"");
        }
        for name in &self.cookies {
            frame(out, b"cookie");
            frame(out, name.as_bytes());
            let digest = cookie(headers, name).map(Sha256::digest);
            frame_option(out, digest.as_deref());
        }
    }

    /// The forwarding headers that the request has, in the order of the list: one pass over
    /// the request's headers, which nearly always finds none.
    fn forwarded_in(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        let odd = self.forwarded.iter().any(|name| !is_suspicious(name));
        let mut suspects = headers.keys().filter(|name| odd || is_suspicious(name));
        if !suspects.any(|name| self.forwarded.contains(name)) {
            return Vec::new();
        }
        let present = |name: &&HeaderName| headers.contains_key(*name);
        self.forwarded.iter().filter(present).cloned().collect()
    }
}

/// Whether a name begins as those of the default list do, which few others do.
fn is_suspicious(name: &HeaderName) -> bool {
    name.as_str().starts_with(['x', 'f'])
}

/// The value of a cookie; the first one of that name counts, as it does in most frameworks.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Headers that frameworks take a host, a scheme, a path or a method from, so that they can
/// change the response: unkeyed, each is a way to poison a cache.
const FORWARDED: [&str; 14] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];
