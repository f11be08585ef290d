//! The result of looking a request up.

use std::sync::Arc;

use http::HeaderName;

use crate::entry::{Entry, Marker, Record};
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

    /// The fields of the request's key, as far as it is known how the resource varies.
    pub(crate) fn fields(&self) -> Arc<[HeaderName]> {
        let marker = self.marker.as_ref();
        marker.map_or_else(Arc::default, |marker| Arc::clone(marker.fields()))
    }

    /// These fields and those that a response names.
    pub(crate) fn fields_and(&self, vary: &Arc<[HeaderName]>) -> Arc<[HeaderName]> {
        let known = self.fields();
        let mut new = vary.iter().filter(|name| !known.contains(name)).peekable();
        if new.peek().is_none() {
            return known;
        }
        if known.is_empty() {
            return Arc::clone(vary);
        }
        let mut all: Vec<_> = known.iter().chain(new).cloned().collect();
        all.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        all.into()
    }

    /// Takes over a response of the shared store. Otherwise the entry of memory stays: a stale one is
    /// better than none.
    pub(super) fn found(&mut self, record: Record) {
        if let Record::Response(entry) = record {
            self.entry = Some(entry);
        }
    }

    /// The most specific key that is known. Requests with the same key share one flight.
    pub(crate) fn key(&self) -> &Key {
        self.variant.as_ref().unwrap_or(&self.base)
    }
}
