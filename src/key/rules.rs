//! What a policy adds to or takes from the key.

use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::cookies::write_cookies;
use super::fields::write_value;
use super::forwarded::{FORWARDED, Watched};
use super::frame::{frame, frame_option};
use super::own::{CacheKey, KeyWith};
use super::query::{self, QueryRule};

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
#[derive(Clone, Debug)]
pub(crate) struct KeyRules {
    /// Keeps the entries of one policy apart from those of others. Default: empty.
    pub(crate) namespace: String,
    /// The scheme of requests that name none.
    pub(crate) scheme: Scheme,
    /// Which parts of the query count. Default: all of it, as it was sent.
    pub(crate) query: QueryRule,
    /// Request headers that always belong to the key.
    pub(crate) headers: Vec<HeaderName>,
    /// Cookies that always belong to the key, as a digest.
    pub(crate) cookies: Vec<String>,
    /// Headers by which many handlers choose their answer. They are part of the key when a request
    /// has them.
    pub(crate) forwarded: Watched,
    /// Headers that were removed from the default list. The handler does not see them.
    pub(crate) dropped: Vec<HeaderName>,
    /// What the application makes of a request itself.
    pub(crate) own: Option<KeyWith>,
}

impl Default for KeyRules {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            scheme: Scheme::default(),
            query: QueryRule::default(),
            headers: Vec::new(),
            cookies: Vec::new(),
            forwarded: FORWARDED.map(HeaderName::from_static).into_iter().collect(),
            dropped: Vec::new(),
            own: None,
        }
    }
}

impl KeyRules {
    /// Whether requests with different queries may be for the same key.
    pub(crate) fn changes_queries(&self) -> bool {
        self.query != QueryRule::Exact
    }

    /// Removes from the request what the key leaves out, so that the handler cannot depend on it.
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
        let forwarded = self.forwarded.present_in(headers);
        for name in forwarded.chain(&self.headers) {
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
        write_cookies(out, &self.cookies, headers);
    }

    /// Appends the application's own keys. Returns whether one of them names who asks.
    pub(super) fn write_own(&self, parts: &Parts, out: &mut Vec<u8>) -> bool {
        let of_policy = self.own.as_ref().and_then(|own| own.of(parts));
        let keys: [(&[u8], _); 2] = [
            (b":key", parts.extensions.get::<CacheKey>()),
            (b":policy-key", of_policy.as_ref()),
        ];
        let mut names_requester = false;
        for (label, key) in keys {
            if let Some(key) = key {
                frame(out, label);
                key.write(out);
                names_requester |= key.names_requester();
            }
        }
        names_requester
    }
}
