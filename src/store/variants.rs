//! Where the variants of a resource are kept in memory (RFC 9111 4.1).
//!
//! A marker stands under the resource's own key and names the request's fields that matter. Most
//! resources have one variant, which stands there as well; further ones stand under their own keys.

use std::sync::Arc;

use http::HeaderName;

use super::Memory;
use crate::clock::Timestamp;
use crate::entry::{Entry, Known, Marker, Record, Variants};
use crate::key::{Key, KeyRef};
use crate::sync::Mutex;

/// The markers in memory, changed by one at a time for each resource.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    changing: [Mutex<()>; STRIPES],
}

/// What leads to a variant, unless a marker stands already.
pub(super) struct Lead<'a> {
    pub(super) base: &'a Key,
    /// What the resource's responses vary on.
    pub(super) fields: &'a Arc<[HeaderName]>,
    pub(super) since: Timestamp,
    pub(super) kept_until: Timestamp,
}

/// What became of a variant.
pub(super) enum Placed {
    /// It stands in memory; the marker, if there is a new one for others to know of.
    Here(Option<Arc<Marker>>),
    /// The resource has as many variants as it may.
    TooMany,
}

impl Places {
    /// At `most` so many variants of a resource.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            changing: Default::default(),
        }
    }

    /// Keeps a variant in memory, and what leads to it.
    pub(super) fn place(
        &self,
        memory: &Memory,
        lead: Lead<'_>,
        entry: &Arc<Entry>,
        now: Timestamp,
    ) -> Placed {
        let stripe = self.changing.get(lead.base.hash() as usize % STRIPES);
        let _one_at_a_time = stripe.map(Mutex::lock);
        let standing = match memory.peek(lead.base.borrow(), now) {
            Some(Record::Marker(marker)) if marker.fields == *lead.fields => Some(marker),
            _ => None,
        };
        let Some(variants) = self.joined(memory, standing.as_deref(), entry, now) else {
            return Placed::TooMany;
        };
        let is_alone = matches!(variants, Variants::Only(_));
        let lasts = standing
            .as_ref()
            .is_some_and(|marker| marker.kept_until >= entry.head.lifetimes.kept_until);
        let stands = lasts && standing.as_ref().is_some_and(|it| it.only().is_none());
        let marker = (!stands).then(|| Arc::new(lead.marker(standing.as_deref(), variants)));
        if let Some(marker) = &marker {
            memory.insert(Record::Marker(Arc::clone(marker)));
        }
        if !is_alone {
            memory.insert(Record::Response(Arc::clone(entry)));
        }
        Placed::Here(marker.filter(|_| !lasts))
    }

    /// The variants of which `entry` is one; `None` if there are too many without it.
    fn joined(
        &self,
        memory: &Memory,
        standing: Option<&Marker>,
        entry: &Arc<Entry>,
        now: Timestamp,
    ) -> Option<Variants> {
        let hash = entry.head.key.hash();
        let known = match standing.map(|marker| &marker.variants) {
            Some(Variants::Several(known)) => known.clone(),
            Some(Variants::Only(only))
                if only.head.key != entry.head.key && now < only.head.lifetimes.kept_until =>
            {
                let known = Known::default();
                let mut both = [only.head.key.hash(), hash].into_iter();
                if !both.all(|hash| known.admit(hash, self.most, |_| true)) {
                    return None;
                }
                memory.insert(Record::Response(Arc::clone(only)));
                known
            }
            _ if memory.is_off() => Known::default(),
            _ => return Some(Variants::Only(Arc::clone(entry))),
        };
        known
            .admit(hash, self.most, |hash| memory.contains(hash))
            .then_some(Variants::Several(known))
    }
}

impl Lead<'_> {
    /// The marker that follows the one that stands, or the first.
    fn marker(self, standing: Option<&Marker>, variants: Variants) -> Marker {
        Marker {
            key: self.base.clone(),
            fields: Arc::clone(self.fields),
            since: standing.map_or(self.since, |marker| marker.since),
            kept_until: standing.map_or(self.kept_until, |marker| {
                marker.kept_until.max(self.kept_until)
            }),
            variants,
        }
    }
}

/// The variant under `key`, if memory has it and it belongs to the marker.
pub(super) fn find(
    memory: &Memory,
    marker: &Marker,
    key: KeyRef<'_>,
    now: Timestamp,
) -> Option<Arc<Entry>> {
    match marker.only() {
        Some(only) if only.head.key.borrow() == key => {
            (now < only.head.lifetimes.kept_until).then(|| Arc::clone(only))
        }
        _ => marker.admit(memory.get(key, now)),
    }
}

/// Takes what stands under `key` from memory, a variant of the resource under `base` perhaps.
pub(super) fn forget(memory: &Memory, base: &Key, key: &Key, now: Timestamp) {
    memory.remove(key);
    if let Some(Record::Marker(marker)) = memory.peek(base.borrow(), now)
        && marker.only().is_some_and(|only| only.head.key == *key)
    {
        memory.insert(Record::Marker(Arc::new(Marker {
            key: base.clone(),
            fields: Arc::clone(&marker.fields),
            since: marker.since,
            kept_until: marker.kept_until,
            variants: Variants::default(),
        })));
    }
}

const STRIPES: usize = 16;
