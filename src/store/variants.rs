//! Where the variants of a resource are kept in memory (RFC 9111 4.1).
//!
//! A marker stands under the resource's own key and names the request's fields that matter. Every
//! response is stored under its request's values of all of them. Most resources have one variant,
//! which stands with the marker; further ones stand under their own keys.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::Memory;
use crate::base::clock::Timestamp;
use crate::base::sync::Striped;
use crate::entry::{Entry, Head, Known, Marker, Names, Record, Variants};
use crate::key::{Key, KeyRef};

/// Changes the markers in memory, one change at a time for each resource.
#[derive(Debug)]
pub(super) struct VariantIndex {
    most: usize,
    changing: Striped<()>,
}

/// A complete response that is about to be stored.
pub(crate) struct NewResponse<'a> {
    /// The key of the resource.
    pub(crate) base: &'a Key,
    /// What its own `Vary` names.
    pub(crate) vary: &'a [HeaderName],
    /// The fields of its key.
    pub(crate) fields: Arc<[HeaderName]>,
    /// Those of its request.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

/// A response that memory has, and what the shared store has to be told.
pub(crate) struct Placed {
    pub(crate) entry: Arc<Entry>,
    /// The fields of its key.
    pub(crate) fields: Arc<[HeaderName]>,
    /// The marker, if others have to know of it.
    pub(super) marker: Option<Arc<Marker>>,
    /// The key of a variant that has given way to it.
    pub(super) displaced: Option<Key>,
}

/// Whether a stored response may be used, as far as the purges say.
pub(crate) type IsUsable<'a> = &'a dyn Fn(&Head) -> bool;

impl VariantIndex {
    /// An index that allows `most` variants of a resource.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            changing: Striped::default(),
        }
    }

    /// Keeps a response in memory under its request's values of all the names that count for the
    /// resource, and what leads to it.
    pub(super) fn place(
        &self,
        memory: &Memory,
        new: NewResponse<'_>,
        is_usable: IsUsable<'_>,
        now: Timestamp,
    ) -> Placed {
        let NewResponse {
            base,
            vary,
            fields,
            headers,
            mut head,
            body,
        } = new;
        let _one_at_a_time = self.changing.lock(base.hash());
        let standing = standing(memory, base, now);
        let names = match &standing {
            None => Names::default(),
            Some(marker) => marker.names.clone(),
        };
        let names = names.with_response(vary, head.lifetimes.kept_until, now);
        if *names.fields() != fields {
            head.key = base.variant(names.fields(), headers);
        }
        let entry = Arc::new(Entry { head, body });
        if names.is_empty() {
            memory.insert(Record::Response(Arc::clone(&entry)));
            return Placed {
                entry,
                fields: Arc::default(),
                marker: None,
                displaced: None,
            };
        }
        let is_known = standing.as_ref().is_some_and(|it| it.names == names);
        let variants = still_led_to(memory, standing.as_deref(), &names);
        let (variants, displaced) = self.add(memory, variants, &entry, is_usable, now);
        let marker = settle(memory, base, standing, names, variants);
        Placed {
            entry,
            fields: Arc::clone(marker.fields()),
            marker: (!is_known).then_some(marker),
            displaced,
        }
    }

    /// Keeps a response of the shared store in memory as well, unless memory has a newer one, or
    /// knows by now of other names than it was found by.
    pub(super) fn promote(
        &self,
        memory: &Memory,
        base: &Key,
        fields: &[HeaderName],
        entry: &Arc<Entry>,
        is_usable: IsUsable<'_>,
        now: Timestamp,
    ) {
        let _one_at_a_time = self.changing.lock(base.hash());
        let canonical = entry.head.key.canonical();
        let (known, marker) = match memory.peek(base.borrow(), now) {
            Some(Record::Marker(marker)) => (find(memory, &marker, canonical, now), Some(marker)),
            Some(Record::Response(known)) => (Some(known), None),
            Some(Record::Value(_)) | None => (None, None),
        };
        let by = marker.as_ref().map_or(&[][..], |marker| marker.fields());
        if by != fields || known.is_some_and(|known| known.is_newer_than(entry)) {
            return;
        }
        let Some(marker) = marker else {
            return memory.insert(Record::Response(Arc::clone(entry)));
        };
        if !memory.is_off() {
            let variants = marker.variants.clone();
            let (variants, _stays_in_the_store) = self.add(memory, variants, entry, is_usable, now);
            let names = marker.names.clone();
            settle(memory, base, Some(marker), names, variants);
        }
    }

    /// Unites a marker with the one in memory, if there is one, and keeps it there.
    pub(super) fn learn(
        &self,
        memory: &Memory,
        base: &Key,
        learnt: &Arc<Marker>,
        now: Timestamp,
    ) -> Arc<Marker> {
        let _one_at_a_time = self.changing.lock(base.hash());
        let standing = standing(memory, base, now);
        let Some(marker) = &standing else {
            memory.insert(Record::Marker(Arc::clone(learnt)));
            return Arc::clone(learnt);
        };
        let names = marker.names.united(&learnt.names, now);
        let variants = still_led_to(memory, Some(marker), &names);
        settle(memory, base, standing, names, variants)
    }

    /// Removes the response under `key` from memory. It may be a variant of the resource under
    /// `base`.
    pub(super) fn forget(&self, memory: &Memory, base: &Key, key: &Key, now: Timestamp) {
        let _one_at_a_time = self.changing.lock(base.hash());
        memory.remove(key.hash());
        if let Some(marker) = standing(memory, base, now)
            && marker.only().is_some_and(|only| only.head.key == *key)
        {
            let names = marker.names.clone();
            settle(memory, base, Some(marker), names, Variants::default());
        }
    }

    /// Adds a variant to those of a resource, and keeps it in memory. The key of the variant that
    /// gives way.
    fn add(
        &self,
        memory: &Memory,
        variants: Variants,
        entry: &Arc<Entry>,
        is_usable: IsUsable<'_>,
        now: Timestamp,
    ) -> (Variants, Option<Key>) {
        let is_live = |it: &Entry| now < it.head.lifetimes.kept_until && is_usable(&it.head);
        let known = match variants {
            Variants::Several(known) => known,
            Variants::Only(only) if only.head.key != entry.head.key && is_live(&only) => {
                let known = Known::default();
                known.add(only.head.key.hash(), self.most, |_| ());
                memory.insert(Record::Response(only));
                known
            }
            Variants::Only(_) => Known::default(),
        };
        if known.is_empty() && !memory.is_off() {
            return (Variants::Only(Arc::clone(entry)), None);
        }
        let live = |hash| memory.response_of(hash).filter(|entry| is_live(entry));
        // What is not there, past its time or purged has no rank, and so it gives way first.
        let rank = |hash| live(hash).map(|entry| entry.head.lifetimes.stored);
        let lowest = known.add(entry.head.key.hash(), self.most, rank);
        let displaced = lowest.and_then(live).map(|entry| entry.head.key.clone());
        if let Some(hash) = lowest {
            memory.remove(hash);
        }
        memory.insert(Record::Response(Arc::clone(entry)));
        (Variants::Several(known), displaced)
    }
}

/// The marker of a resource in memory.
fn standing(memory: &Memory, base: &Key, now: Timestamp) -> Option<Arc<Marker>> {
    match memory.peek(base.borrow(), now) {
        Some(Record::Marker(marker)) => Some(marker),
        _ => None,
    }
}

/// The variants that look-ups find by these names. What other names led to goes from memory.
fn still_led_to(memory: &Memory, standing: Option<&Marker>, names: &Names) -> Variants {
    match standing {
        Some(marker) if marker.fields() == names.fields() => marker.variants.clone(),
        Some(marker) => {
            if let Variants::Several(known) = &marker.variants {
                let gone = known.hashes().into_iter();
                gone.for_each(|hash| memory.remove(hash));
            }
            Variants::default()
        }
        None => Variants::default(),
    }
}

/// The marker with these names and variants, which stands in memory.
fn settle(
    memory: &Memory,
    base: &Key,
    standing: Option<Arc<Marker>>,
    names: Names,
    variants: Variants,
) -> Arc<Marker> {
    if let Some(marker) = standing
        && marker.names == names
        && marker.variants.are(&variants)
    {
        return marker;
    }
    let key = match &variants {
        Variants::Only(entry) => base.within(&entry.head.key),
        Variants::Several(_) => base.clone(),
    };
    let marker = Arc::new(Marker::new(key, names, variants));
    memory.insert(Record::Marker(Arc::clone(&marker)));
    marker
}

/// The variant with this canonical form of a key, if memory has it and it belongs to the marker.
pub(super) fn find(
    memory: &Memory,
    marker: &Marker,
    canonical: &[u8],
    now: Timestamp,
) -> Option<Arc<Entry>> {
    match marker.only() {
        Some(only) if only.head.key.canonical() == canonical => {
            (now < only.head.lifetimes.kept_until).then(|| Arc::clone(only))
        }
        _ => memory
            .get(KeyRef::of(canonical), now)
            .and_then(Record::into_response),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
