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
pub(crate) struct Draft {
    bytes: Vec<u8>,
    base_length: usize,
    base_hash: u128,
    variant_hash: Option<u128>,
}

impl Draft {
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
        rules.write_headers(&parts.headers, ignored, &mut bytes);
        Ok(Self::of_base(bytes))
    }

    /// A base key that is known already.
    pub(crate) fn of_key(base: &Key) -> Self {
        Self {
            bytes: base.canonical().to_vec(),
            base_length: base.canonical().len(),
            base_hash: base.hash(),
            variant_hash: None,
        }
    }

    pub(crate) fn base(&self) -> KeyRef<'_> {
        KeyRef {
            hash: self.base_hash,
            canonical: self.bytes.get(..self.base_length).unwrap_or_default(),
        }
    }

    /// The key of the variant that `headers` selects among those that vary on `fields`.
    pub(crate) fn vary(&mut self, fields: &[HeaderName], headers: &HeaderMap) -> KeyRef<'_> {
        self.bytes.truncate(self.base_length);
        write_variant(&mut self.bytes, fields, headers);
        let variant = KeyRef::of(&self.bytes);
        self.variant_hash = Some(variant.hash);
        variant
    }

    /// The variant's key, if the resource is known to vary.
    pub(crate) fn variant(&self) -> Option<KeyRef<'_>> {
        self.variant_hash.map(|hash| KeyRef {
            hash,
            canonical: &self.bytes,
        })
    }

    fn of_base(bytes: Vec<u8>) -> Self {
        let base_hash = KeyRef::of(&bytes).hash;
        Self {
            base_length: bytes.len(),
            bytes,
            base_hash,
            variant_hash: None,
        }
    }
}

/// Most keys are shorter, variant included, in bytes.
const USUAL: usize = 256;

/// Fields by which a POST says that it is another method. A GET has none, so they are no part
/// of the key that an unsafe request invalidates.
const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];
