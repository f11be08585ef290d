//! Where the variants of a resource are kept in memory (RFC 9111 4.1).
//!
//! A marker stands under the resource's own key and names the request's fields that matter. Most
//! resources have one variant, which stands there as well; further ones stand under their own keys.

use std::sync::Arc;

use http::HeaderName;

use super::Memory;
use crate::base::clock::Timestamp;
use crate::base::sync::Striped;
use crate::entry::{Entry, Known, Marker, Record, Variants};
use crate::key::{Key, KeyRef};

/// Changes the markers in memory, one change at a time for each resource.
#[derive(Debug)]
pub(super) struct VariantIndex {
    most: usize,
    changing: Striped<()>,
}

/// What leads to a variant, unless a marker stands already.
pub(super) struct NewMarker<'a> {
    pub(super) base: &'a Key,
    /// What the resource's responses vary on.
    pub(super) fields: &'a Arc<[HeaderName]>,
    pub(super) kept_until: Timestamp,
}

/// What became of a variant.
pub(super) enum Inserted {
    /// It stands in memory; the marker, if there is a new one for others to know of.
    Here(Option<Arc<Marker>>),
    /// The resource has as many variants as it may.
    TooMany,
}

impl VariantIndex {
    /// An index that allows `most` variants of a resource.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            changing: Striped::default(),
        }
    }

    /// Keeps a variant in memory, and what leads to it.
    pub(super) fn place(
        &self,
        memory: &Memory,
        lead: NewMarker<'_>,
        entry: &Arc<Entry>,
        now: Timestamp,
    ) -> Inserted {
        let _one_at_a_time = self.changing.lock(lead.base.hash());
        let standing = match memory.peek(lead.base.borrow(), now) {
            Some(Record::Marker(marker)) if marker.fields == *lead.fields => Some(marker),
            _ => None,
        };
        let Some(variants) = self.joined(memory, standing.as_deref(), entry, now) else {
            return Inserted::TooMany;
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
        Inserted::Here(marker.filter(|_| !lasts))
    }

    /// Removes the response under `key` from memory. It may be a variant of the resource under
    /// `base`.
    pub(super) fn forget(&self, memory: &Memory, base: &Key, key: &Key, now: Timestamp) {
        let _one_at_a_time = self.changing.lock(base.hash());
        memory.remove(key);
        if let Some(Record::Marker(marker)) = memory.peek(base.borrow(), now)
            && marker.only().is_some_and(|only| only.head.key == *key)
        {
            memory.insert(Record::Marker(Arc::new(Marker {
                key: base.clone(),
                fields: Arc::clone(&marker.fields),
                kept_until: marker.kept_until,
                variants: Variants::default(),
            })));
        }
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

impl NewMarker<'_> {
    /// The marker that follows the one that stands, or the first.
    fn marker(self, standing: Option<&Marker>, variants: Variants) -> Marker {
        Marker {
            key: match &variants {
                Variants::Only(entry) => self.base.within(&entry.head.key),
                Variants::Several(_) => self.base.clone(),
            },
            fields: Arc::clone(self.fields),
            kept_until: standing.map_or(self.kept_until, |marker| {
                marker.kept_until.max(self.kept_until)
            }),
            variants,
        }
    }
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
mod tests {
    use bytes::Bytes;
    use http::header::ACCEPT_LANGUAGE;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::base::lines::Lines;
    use crate::base::position::Moment;
    use crate::base::tags::Tags;
    use crate::entry::{Head, StoredHeaders, Verified};
    use crate::key::KeyBuilder;
    use crate::semantics::{Flags, Lifetimes};
    use crate::store::{MemoryLookup, Reach, Stored, Tiers};

    #[test]
    fn the_only_variant_is_one_record_until_there_is_another() {
        let tiers = tiers();
        let table = [
            (0, "de", 1),
            (1, "de", 1),
            (2, "en", 3),
            (3, "de", 3),
            (4, "fr", 4),
        ];
        for (second, language, records) in table {
            store(&tiers, language, second);
            assert_eq!(tiers.memory().len(), records, "{second}");
        }
        let stored = |language| look(&tiers, language, 9).map(|it| it.head.lifetimes.stored);
        assert_eq!(stored("de"), Some(at(3)), "the newest of each");
        assert_eq!(stored("en"), Some(at(2)));
        assert_eq!(stored("fr"), Some(at(4)));
        assert_eq!(stored("es"), None);
    }

    #[test]
    fn no_more_variants_are_kept_than_may_be() {
        let tiers = Tiers::new(1 << 20, None, 1);
        assert_eq!(store(&tiers, "de", 1), Stored::Yes);
        assert_eq!(store(&tiers, "en", 2), Stored::TooManyVariants);
        assert!(look(&tiers, "en", 3).is_none());
        assert!(look(&tiers, "de", 3).is_some());
        // The first one's time is over.
        assert_eq!(store(&tiers, "en", 1 + LIFETIME), Stored::Yes);
        assert!(look(&tiers, "en", 2 + LIFETIME).is_some());
    }

    #[test]
    fn a_variant_is_forgotten_and_how_the_resource_varies_is_not() {
        let tiers = tiers();
        let variant = |language| base().variant(&FIELDS, &headers(language));
        store(&tiers, "de", 1);
        tiers.forget(&base(), &variant("en"), at(2));
        assert!(look(&tiers, "de", 3).is_some(), "another was forgotten");
        tiers.forget(&base(), &variant("de"), at(2));
        let found = find(&tiers, "de", 3);
        assert!(found.entry.is_none() && found.marker.is_some());
        store(&tiers, "de", 4);
        store(&tiers, "en", 5);
        tiers.forget(&base(), &variant("de"), at(6));
        assert!(look(&tiers, "de", 7).is_none());
        assert!(look(&tiers, "en", 7).is_some());
    }

    #[test]
    fn without_memory_only_the_marker_is_kept() {
        let tiers = Tiers::new(0, None, 10);
        for language in ["de", "en"] {
            store(&tiers, language, 1);
            let found = find(&tiers, language, 2);
            assert!(found.entry.is_none() && found.marker.is_some());
        }
        assert_eq!(tiers.memory().len(), 1);
    }

    #[test]
    fn two_variants_stored_at_once_are_both_there() {
        for _ in 0..200 {
            let tiers = tiers();
            std::thread::scope(|threads| {
                for language in ["de", "en"] {
                    threads.spawn(|| store(&tiers, language, 1));
                }
            });
            assert!(look(&tiers, "de", 2).is_some() && look(&tiers, "en", 2).is_some());
        }
    }

    fn tiers() -> Tiers {
        Tiers::new(1 << 20, None, 10)
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_secs(second)
    }

    fn store(tiers: &Tiers, language: &str, second: u64) -> Stored {
        let until = at(second + LIFETIME);
        let head = Head {
            key: base().variant(&FIELDS, &headers(language)),
            status: StatusCode::OK,
            headers: StoredHeaders::new(Lines::default(), None),
            lifetimes: Lifetimes {
                born: at(second),
                stored: at(second),
                fresh_until: until,
                swr_until: until,
                sie_until: until,
                kept_until: until,
                flags: Flags::default(),
            },
            moment: Moment::default(),
            tags: Tags::default(),
            verified: Verified::never(),
        };
        let entry = Arc::new(Entry {
            head,
            body: Bytes::from_static(b"content"),
        });
        tiers.store_response(
            &base(),
            &FIELDS.into(),
            entry,
            at(second),
            Reach::BothTiers,
            (),
        )
    }

    fn look(tiers: &Tiers, language: &str, second: u64) -> Option<Arc<Entry>> {
        find(tiers, language, second).entry
    }

    fn find(tiers: &Tiers, language: &str, second: u64) -> MemoryLookup {
        let mut builder = KeyBuilder::of_key(&base());
        tiers.look_in_memory(&mut builder, &headers(language), at(second))
    }

    fn base() -> Key {
        Key::of_value("", "a resource")
    }

    fn headers(language: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_str(language).unwrap())])
    }

    const FIELDS: [HeaderName; 1] = [ACCEPT_LANGUAGE];
    const LIFETIME: u64 = 1000;
}
