//! The identity of what is stored.
//!
//! The canonical form is a sequence of length-framed components, so that no byte can
//! move from one component to the next. Labels of components that are not always there begin with a
//! colon, as no field name does. The 128-bit hash of it names the key in maps and
//! in the shared store, and the canonical form itself is compared on every read.

mod builder;
mod cookies;
mod fields;
mod forwarded;
mod frame;
mod own;
mod query;
mod rules;
mod target;

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName};
use twox_hash::XxHash3_128;

pub(crate) use builder::KeyBuilder;
pub use own::CacheKey;
pub(crate) use own::KeyWith;
pub use query::QueryRule;
pub(crate) use rules::KeyRules;
pub use rules::Scheme;
pub(crate) use target::{Target, Unkeyable};

use crate::semantics;
use fields::write_variant;
use frame::{Frames, frame};
use target::{Host, original_uri};

/// The identity of a stored response or value. Clones share memory: a look-up, its flight and the
/// stored record have the same key.
#[derive(Clone)]
pub(crate) struct Key {
    hash: u128,
    /// The canonical form, which may be followed by more: the key of a resource may share the
    /// memory of a variant's key, which begins with it.
    bytes: Arc<[u8]>,
    length: usize,
}

/// A key whose canonical form is borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRef<'a> {
    hash: u128,
    canonical: &'a [u8],
}

impl Key {
    /// The key of a plain request for the same target, whatever the method of this request is.
    /// Purges name the target by it.
    pub(crate) fn of_target(parts: &Parts, rules: &KeyRules) -> Result<Self, Unkeyable> {
        let mut canonical = Vec::new();
        frame(&mut canonical, &[Kind::Response as u8]);
        let uri = original_uri(parts);
        let host = Host::of(uri, &parts.headers)?;
        let target = Target::of(uri, &host, rules.scheme)?;
        target.write(&mut canonical, &rules.namespace);
        Ok(KeyRef::of(&canonical).to_key())
    }

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

    /// A key that was read from the store.
    pub(crate) fn from_canonical(canonical: &[u8]) -> Self {
        KeyRef::of(canonical).to_key()
    }

    /// A copy of this key that shares the memory of one of its variants.
    pub(crate) fn within(&self, variant: &Self) -> Self {
        if variant.canonical().starts_with(self.canonical()) {
            Self {
                bytes: Arc::clone(&variant.bytes),
                ..*self
            }
        } else {
            self.clone()
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

    /// The target URI, by which purges by URL and by path select. `None` for a value of the
    /// application.
    pub(crate) fn target(&self) -> Option<Target<'_>> {
        let mut frames = Frames(self.canonical());
        if frames.next()??.first() != Some(&(Kind::Response as u8)) {
            return None;
        }
        let _namespace = frames.next()?;
        Target::read(&mut frames)
    }

    /// The tags of these groups within this key's origin (RFC 9875).
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

/// Shows the hash only, since keys hold query strings and header values.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:032x})", self.hash)
    }
}

/// The first component of a canonical form.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Response = b'r',
    Value = b'v',
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
