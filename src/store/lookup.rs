//! What is known of a request's resource.

use std::sync::Arc;

use http::HeaderName;

use crate::entry::{Entry, Marker};
use crate::key::{Key, KeyBuilder, KeyRef};

/// What is known of a request's resource so far.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) base: Key,
    /// What the resource's responses vary on, if that is known.
    pub(crate) marker: Option<Arc<Marker>>,
    /// The key of this request's variant, if the resource is known to vary.
    pub(crate) variant: Option<Key>,
    pub(crate) entry: Option<Arc<Entry>>,
}

/// What memory has for a request.
#[derive(Debug, Default)]
pub(crate) struct MemoryLookup {
    pub(crate) marker: Option<Arc<Marker>>,
    pub(crate) entry: Option<Arc<Entry>>,
}

impl Lookup {
    /// What is known after a look into memory.
    pub(crate) fn new(builder: &KeyBuilder, found: MemoryLookup) -> Self {
        let MemoryLookup { marker, entry } = found;
        Self {
            base: builder.base().to_key(),
            marker,
            variant: builder.variant().map(KeyRef::to_key),
            entry,
        }
    }

    /// What the entry found varies on.
    pub(crate) fn fields(&self) -> Arc<[HeaderName]> {
        let marker = self.marker.as_ref();
        marker.map_or_else(Arc::default, |marker| Arc::clone(&marker.fields))
    }

    /// The most specific key known: what work for this request is coordinated on.
    pub(crate) fn key(&self) -> &Key {
        self.variant.as_ref().unwrap_or(&self.base)
    }
}
