//! The keys of one request while memory is looked through.

use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::{
    Key, KeyRef, KeyRules, Kind, Target, Unkeyable, frame, original_uri, write_rewritten,
    write_variant,
};

/// The base key of a request, and the key of its variant if the resource turns out to vary.
///
/// Both are written once, the one as the continuation of the other, into one allocation; they
/// get their own when it is known that memory cannot answer.
pub(crate) struct KeyBuilder {
    bytes: Vec<u8>,
    /// Where the target ends and further fields of the request begin, if any are part of the key.
    bare_length: usize,
    base_length: usize,
    base_hash: u128,
    /// The variant's key follows.
    varies: bool,
}

/// The keys of markers that say of a target that something is stored, or is being fetched, under
/// keys with further fields of requests. No field is named like their last component.
#[derive(Clone, Debug)]
pub(crate) struct Traces {
    /// In both tiers.
    pub(crate) stored: Key,
    /// In memory only.
    pub(crate) under_way: Key,
}

impl KeyBuilder {
    /// The base key of a GET or HEAD request, or why it can have none.
    pub(crate) fn of_request(parts: &Parts, rules: &KeyRules) -> Result<Self, Unkeyable> {
        Self::of(parts, rules, &[])
    }

    /// The base key that a GET of the same target would have, whatever the request's method is.
    pub(crate) fn of_target(parts: &Parts, rules: &KeyRules) -> Result<Self, Unkeyable> {
        if rules.keep_all() {
            return Self::of(parts, rules, &METHOD_OVERRIDES);
        }
        let mut kept = parts.clone();
        rules.strip_request(&mut kept);
        Self::of(&kept, rules, &METHOD_OVERRIDES)
    }

    fn of(parts: &Parts, rules: &KeyRules, ignored: &[&str]) -> Result<Self, Unkeyable> {
        let uri = original_uri(parts);
        let target = Target::of(uri, &parts.headers, rules.scheme)?;
        let mut bytes = Vec::with_capacity(USUAL);
        frame(&mut bytes, &[Kind::Response as u8]);
        target.write(&mut bytes, &rules.namespace);
        write_rewritten(&mut bytes, uri, &parts.uri);
        let bare_length = bytes.len();
        rules.write_headers(&parts.headers, ignored, &mut bytes);
        Ok(Self::of_base(bytes, bare_length))
    }

    /// A base key that is known already.
    pub(crate) fn of_key(base: &Key) -> Self {
        let bytes = base.canonical().to_vec();
        let length = bytes.len();
        Self::of_base(bytes, length)
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

    /// What tells of the target under whatever fields of requests it is stored.
    pub(crate) fn traces(&self) -> Traces {
        let target = self.bytes.get(..self.bare_length).unwrap_or_default();
        let key = |name: &[u8]| {
            let mut bytes = target.to_vec();
            frame(&mut bytes, name);
            KeyRef::of(&bytes).to_key()
        };
        Traces {
            stored: key(STORED),
            under_way: key(UNDER_WAY),
        }
    }

    /// The hashes of [`KeyBuilder::traces`], of a bare key, taking no memory.
    pub(crate) fn hashes_of_traces(&mut self) -> [u128; 2] {
        [STORED, UNDER_WAY].map(|name| {
            self.bytes.truncate(self.bare_length);
            frame(&mut self.bytes, name);
            KeyRef::of(&self.bytes).hash
        })
    }

    /// [`KeyBuilder::traces`] where fields of the request are part of the key: a change of the
    /// target need not have them.
    pub(crate) fn traces_by_fields(&self) -> Option<Traces> {
        self.has_fields().then(|| self.traces())
    }

    /// Whether fields of the request are part of its base key.
    fn has_fields(&self) -> bool {
        self.bare_length != self.base_length
    }

    /// The key of a request for the same target without any field that is part of the key.
    pub(crate) fn into_bare(mut self) -> Self {
        self.bytes.truncate(self.bare_length);
        Self::of_base(self.bytes, self.bare_length)
    }

    fn of_base(bytes: Vec<u8>, bare_length: usize) -> Self {
        let base_hash = KeyRef::of(&bytes).hash;
        Self {
            bare_length,
            base_length: bytes.len(),
            bytes,
            base_hash,
            varies: false,
        }
    }
}

/// No field is named like these.
const STORED: &[u8] = b"\0stored";
const UNDER_WAY: &[u8] = b"\0under-way";

/// Most keys are shorter, variant included, in bytes.
const USUAL: usize = 256;

/// Fields by which a POST says that it is another method. A GET has none, so they are no part
/// of the key that an unsafe request invalidates.
const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];
