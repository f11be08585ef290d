//! The result of looking a request up.

use std::sync::Arc;

use http::HeaderName;

use crate::entry::{Entry, Marker};
use crate::key::{Key, KeyBuilder, KeyRef};

/// The result of looking a request up so far.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) base: Key,
    /// The fields that the resource varies on, if they are known.
    pub(crate) marker: Option<Arc<Marker>>,
    /// The key of this request's variant, if the resource is known to vary.
    pub(crate) variant: Option<Key>,
    pub(crate) entry: Option<Arc<Entry>>,
}

/// The result of looking a request up in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryLookup {
    pub(crate) marker: Option<Arc<Marker>>,
    pub(crate) entry: Option<Arc<Entry>>,
}

impl Lookup {
    /// The look-up after memory was asked.
    pub(crate) fn new(builder: &KeyBuilder, found: MemoryLookup) -> Self {
        let MemoryLookup { marker, entry } = found;
        Self {
            base: builder.base().to_key(),
            marker,
            variant: builder.variant().map(KeyRef::to_key),
            entry,
        }
    }

    /// The fields that the entry varies on.
    pub(crate) fn fields(&self) -> Arc<[HeaderName]> {
        let marker = self.marker.as_ref();
        marker.map_or_else(Arc::default, |marker| Arc::clone(&marker.fields))
    }

    /// The most specific key that is known. Requests with the same key share one flight.
    pub(crate) fn key(&self) -> &Key {
        self.variant.as_ref().unwrap_or(&self.base)
    }
}
