//! The keys of a request during the look-up in memory.

use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::fields::write_variant;
use super::frame::frame;
use super::target::{Host, original_uri, write_rewritten};
use super::{Key, KeyRef, KeyRules, Kind, Target, Unkeyable};

/// The base key of a request, and the key of its variant if the resource turns out to vary.
///
/// Both are written into one allocation, the key of the variant as a continuation of the base key.
/// Each gets memory of its own only when memory cannot answer.
pub(crate) struct KeyBuilder {
    bytes: Vec<u8>,
    base_length: usize,
    base_hash: u128,
    /// The variant's key follows the base key in `bytes`.
    varies: bool,
    names_requester: bool,
}

impl KeyBuilder {
    /// The base key of a GET or HEAD request at a layer with so many of the same cache around it,
    /// or why it can have none.
    pub(crate) fn of_request(
        parts: &Parts,
        rules: &KeyRules,
        depth: u8,
    ) -> Result<Self, Unkeyable> {
        let uri = original_uri(parts);
        let host = Host::of(uri, &parts.headers)?;
        let target = Target::of(uri, &host, rules.scheme)?;
        let mut bytes = Vec::with_capacity(USUAL);
        write_kind(&mut bytes, depth);
        target.write(&mut bytes, &rules.namespace);
        host.write_spellings(&mut bytes, &target);
        write_rewritten(&mut bytes, uri, &parts.uri);
        rules.write_headers(&parts.headers, &mut bytes);
        let names_requester = rules.write_own(parts, &mut bytes);
        Ok(Self {
            names_requester,
            ..Self::of_base(bytes)
        })
    }

    /// Begins with a base key that is known already.
    pub(crate) fn of_key(base: &Key) -> Self {
        Self::of_base(base.canonical().to_vec())
    }

    /// Whether the application has put into the key who asks.
    pub(crate) const fn names_requester(&self) -> bool {
        self.names_requester
    }

    pub(crate) fn base(&self) -> KeyRef<'_> {
        KeyRef {
            hash: self.base_hash,
            canonical: self.bytes.get(..self.base_length).unwrap_or_default(),
        }
    }

    /// The canonical form of the variant that `headers` selects among those that vary on `fields`.
    pub(crate) fn vary(&mut self, fields: &[HeaderName], headers: &HeaderMap) -> &[u8] {
        self.bytes.truncate(self.base_length);
        write_variant(&mut self.bytes, fields, headers);
        self.varies = true;
        &self.bytes
    }

    /// The variant's key, if the resource is known to vary.
    pub(crate) fn variant(&self) -> Option<KeyRef<'_>> {
        self.varies.then(|| KeyRef::of(&self.bytes))
    }

    fn of_base(bytes: Vec<u8>) -> Self {
        let base_hash = KeyRef::of(&bytes).hash;
        Self {
            base_length: bytes.len(),
            bytes,
            base_hash,
            varies: false,
            names_requester: false,
        }
    }
}

/// What one layer stores, another does not find: a layer between them may decide who sees it.
fn write_kind(out: &mut Vec<u8>, depth: u8) {
    let kind = Kind::Response as u8;
    match depth {
        0 => frame(out, &[kind]),
        _ => frame(out, &[kind, depth]),
    }
}

/// Most keys are shorter, variant included, in bytes.
const USUAL: usize = 256;
