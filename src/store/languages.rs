//! Variants by the language that they are in, where a policy lets a preferred language stand for
//! `Accept-Language`.

use http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::random;
use crate::key::{Key, KeyBuilder};
use crate::semantics;

/// By the hash of [`in_language`], the key of a variant in that language.
#[derive(Debug)]
pub(crate) struct Languages(quick_cache::sync::Cache<u128, Key>);

impl Default for Languages {
    fn default() -> Self {
        Self(random::bounded_map(MAX_LANGUAGES))
    }
}

impl Languages {
    /// Notes the language that a response to `request` is in, so that requests which prefer it
    /// may get that response.
    pub(crate) fn note(
        &self,
        base: &Key,
        fields: &[HeaderName],
        request: &HeaderMap,
        response: &HeaderMap,
        variant: &Key,
    ) {
        if fields.contains(&ACCEPT_LANGUAGE)
            && let Some(language) = semantics::content_language(response)
            && let Some(key) = in_language(base, fields, request, &language)
        {
            self.0.insert(key.hash(), variant.clone());
        }
    }

    /// The key of a variant in the language that the request prefers.
    pub(super) fn find(
        &self,
        builder: &KeyBuilder,
        fields: &[HeaderName],
        headers: &HeaderMap,
    ) -> Option<Key> {
        if self.0.is_empty() || !fields.contains(&ACCEPT_LANGUAGE) {
            return None;
        }
        let language = semantics::preferred_language(headers)?;
        let key = in_language(&builder.base().to_key(), fields, headers, &language)?;
        self.0.get(&key.hash())
    }
}

/// What a request's variants have in common if only the language of `Accept-Language` counts.
fn in_language(
    base: &Key,
    fields: &[HeaderName],
    headers: &HeaderMap,
    language: &[u8],
) -> Option<Key> {
    let others = fields.iter().filter(|name| **name != ACCEPT_LANGUAGE);
    let others: Vec<HeaderName> = others.cloned().collect();
    let language = HeaderValue::from_bytes(language).ok()?;
    let language = HeaderMap::from_iter([(CONTENT_LANGUAGE, language)]);
    let base = base.variant(&others, headers);
    Some(base.variant(&[CONTENT_LANGUAGE], &language))
}

/// Of how many variants the language is remembered.
const MAX_LANGUAGES: usize = 1024;
