//! What a policy adds to or takes from the key.

use http::header::COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::fields::{FORWARDED, write_value};
use super::frame::{frame, frame_option};
use super::{QueryRule, query};

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
pub(crate) struct KeyRules {
    /// Keeps the entries of one policy apart from those of others. Default: empty.
    pub(crate) namespace: String,
    /// The scheme of requests that name none.
    pub(crate) scheme: Scheme,
    /// Which parts of the query count. Default: all of it, as it was sent.
    pub(crate) query: QueryRule,
    /// Request headers that always belong to the key.
    pub(crate) headers: Vec<HeaderName>,
    /// Cookies that always belong to the key (as a digest of their value).
    pub(crate) cookies: Vec<String>,
    /// Headers by which many handlers choose their answer. They are part of the key when a request
    /// has them.
    pub(crate) forwarded: Watched,
    /// Headers that were removed from the default list. The handler does not see them.
    pub(crate) dropped: Vec<HeaderName>,
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
        for name in &self.cookies {
            frame(out, b"cookie");
            frame(out, name.as_bytes());
            let digest = cookie(headers, name).map(Sha256::digest);
            frame_option(out, digest.as_deref());
        }
    }
}

/// Names of fields that few requests have, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    names: Vec<HeaderName>,
    /// A bit for each first letter of the names. Few other fields begin with one of them.
    initials: u32,
}

impl Watched {
    pub(crate) fn add(&mut self, name: HeaderName) {
        self.initials |= initial(&name);
        self.names.push(name);
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        self.names.retain(|kept| kept != name);
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, HeaderName> {
        self.names.iter()
    }

    /// The names that the request has. One pass over its fields nearly always finds none.
    fn present_in<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a HeaderName> {
        let mut suspects = headers
            .keys()
            .filter(|name| self.initials & initial(name) != 0);
        let any = suspects.any(|name| self.names.contains(name));
        let names = if any { self.names.as_slice() } else { &[] };
        names.iter().filter(|name| headers.contains_key(*name))
    }
}

impl FromIterator<HeaderName> for Watched {
    fn from_iter<I: IntoIterator<Item = HeaderName>>(names: I) -> Self {
        let mut watched = Self::default();
        names.into_iter().for_each(|name| watched.add(name));
        watched
    }
}

fn initial(name: &HeaderName) -> u32 {
    let first = name.as_str().as_bytes().first();
    first.map_or(0, |letter| 1 << (letter & 31))
}

/// The value of a cookie. The first of that name counts, as in most frameworks.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
