//! Which variants memory keeps, and which of them look-ups find.
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
use crate::store::{MemoryLookup, Tiers};

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
    let stored = |language| stored(&tiers, language, 9);
    assert_eq!(stored("de"), Some(at(3)), "the newest of each");
    assert_eq!(stored("en"), Some(at(2)));
    assert_eq!(stored("fr"), Some(at(4)));
    assert_eq!(stored("es"), None);
}

#[test]
fn at_the_cap_the_variant_stored_longest_ago_gives_way_and_dead_ones_before_it() {
    let tiers = Tiers::new(Memory::new(1 << 20, 1 << 10), None, 3);
    let there = |second| {
        let all = ["de", "en", "fr", "es", "it"].into_iter();
        let found = all.filter(|language| look(&tiers, language, second).is_some());
        found.collect::<Vec<_>>()
    };
    for (second, language) in [(1, "de"), (2, "en"), (3, "fr"), (4, "de")] {
        assert!(store(&tiers, language, second).displaced.is_none());
    }
    let gone = store(&tiers, "es", 5).displaced;
    assert!(gone.is_some_and(|key| key == variant("en")));
    assert_eq!(there(6), ["de", "fr", "es"]);
    // "fr" is purged, and so does not count, though it is newer than "de".
    let is_usable = |head: &Head| head.key != variant("fr");
    let gone = store_where(&tiers, "it", 7, &is_usable).displaced;
    assert!(gone.is_none(), "it may stand in the store in a newer form");
    assert_eq!(there(8), ["de", "es", "it"]);
    // All but one are past their time.
    assert!(store(&tiers, "en", 6 + LIFETIME).displaced.is_none());
    assert_eq!(there(6 + LIFETIME), ["en", "it"]);
}

#[test]
fn of_one_variant_that_may_be_kept_the_newest_stays() {
    let tiers = Tiers::new(Memory::new(1 << 20, 1 << 10), None, 1);
    for (second, language) in [(1, "de"), (2, "en"), (3, "de")] {
        let gone = store(&tiers, language, second).displaced;
        assert_eq!(gone.is_some(), second > 1);
        assert!(look(&tiers, language, 4).is_some());
    }
    assert!(look(&tiers, "en", 4).is_none());
}

/// RFC 9111, section 4.1: "Some resources mistakenly omit the Vary header field from their default
/// response … with the effect of choosing it for subsequent requests to that resource even when a
/// preferable response is available."
#[test]
fn a_response_that_names_nothing_hides_no_variant() {
    let tiers = tiers();
    store(&tiers, "de", 1);
    let plain = response(&[], &HeaderMap::new(), 2);
    place(&tiers, plain, &HeaderMap::new(), &[], 2);
    assert_eq!(stored(&tiers, "de", 3), Some(at(1)));
    let found = tiers.look_in_memory(&mut KeyBuilder::of_key(&base()), &HeaderMap::new(), at(3));
    assert_eq!(found.entry.map(|it| it.head.lifetimes.stored), Some(at(2)));
    assert!(look(&tiers, "en", 3).is_none());
}

#[test]
fn a_marker_of_another_instance_is_united_with_the_own() {
    let tiers = tiers();
    store(&tiers, "de", 1);
    let learn = |name: &'static str, end| {
        let names = [(HeaderName::from_static(name), at(end))]
            .into_iter()
            .collect();
        let marker = Arc::new(Marker::new(base(), names, Variants::default()));
        tiers.variants.learn(&tiers.memory, &base(), &marker, at(2))
    };
    learn("origin", 2);
    assert!(look(&tiers, "de", 3).is_some(), "that name has ended");
    learn("accept-language", 10_000);
    assert!(look(&tiers, "de", 3).is_some());
    let marker = learn("origin", 10_000);
    assert!(marker.fields().iter().eq(["accept-language", "origin"]));
    assert!(
        look(&tiers, "de", 3).is_none(),
        "nobody knows of which origin it was"
    );
    assert_eq!(tiers.memory().len(), 1);
    store(&tiers, "de", 4);
    assert!(look(&tiers, "de", 5).is_some());
}

#[test]
fn what_the_store_has_by_names_that_are_out_of_date_does_not_come_into_memory() {
    let tiers = tiers();
    let entry = Arc::new(Entry {
        head: response(&[], &HeaderMap::new(), 1),
        body: Bytes::new(),
    });
    let promote = |fields: &[HeaderName]| {
        let (index, memory) = (&tiers.variants, &tiers.memory);
        index.promote(memory, &base(), fields, &entry, &|_| true, at(2));
    };
    promote(&FIELDS);
    assert_eq!(tiers.memory().len(), 0);
    store(&tiers, "de", 1);
    promote(&[]);
    assert!(look(&tiers, "de", 3).is_some(), "the marker gave way");
}

#[test]
fn a_variant_is_forgotten_and_how_the_resource_varies_is_not() {
    let tiers = tiers();
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
    let tiers = Tiers::new(Memory::new(0, 1 << 10), None, 10);
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
    Tiers::new(Memory::new(1 << 20, 1 << 10), None, 10)
}

pub(super) fn at(second: u64) -> Timestamp {
    Timestamp::from_secs(second)
}

fn store(tiers: &Tiers, language: &str, second: u64) -> Placed {
    store_where(tiers, language, second, &|_| true)
}

fn store_where(tiers: &Tiers, language: &str, second: u64, is_usable: IsUsable<'_>) -> Placed {
    let headers = headers(language);
    let new = NewResponse {
        base: &base(),
        vary: &FIELDS,
        fields: FIELDS.into(),
        headers: &headers,
        head: response(&FIELDS, &headers, second),
        body: Bytes::from_static(b"content"),
    };
    tiers.place(new, is_usable, at(second))
}

/// Places a response whose key has fewer names than count.
fn place(tiers: &Tiers, head: Head, headers: &HeaderMap, vary: &[HeaderName], second: u64) {
    let new = NewResponse {
        base: &base(),
        vary,
        fields: vary.into(),
        headers,
        head,
        body: Bytes::from_static(b"content"),
    };
    tiers.place(new, &|_| true, at(second));
}

pub(super) fn response(fields: &[HeaderName], headers: &HeaderMap, second: u64) -> Head {
    let until = at(second + LIFETIME);
    Head {
        key: base().variant(fields, headers),
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
    }
}

fn stored(tiers: &Tiers, language: &str, second: u64) -> Option<Timestamp> {
    look(tiers, language, second).map(|it| it.head.lifetimes.stored)
}

fn variant(language: &str) -> Key {
    base().variant(&FIELDS, &headers(language))
}

fn look(tiers: &Tiers, language: &str, second: u64) -> Option<Arc<Entry>> {
    find(tiers, language, second).entry
}

fn find(tiers: &Tiers, language: &str, second: u64) -> MemoryLookup {
    let mut builder = KeyBuilder::of_key(&base());
    tiers.look_in_memory(&mut builder, &headers(language), at(second))
}

pub(super) fn base() -> Key {
    Key::of_value("", "a resource")
}

fn headers(language: &str) -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_str(language).unwrap())])
}

const FIELDS: [HeaderName; 1] = [ACCEPT_LANGUAGE];
const LIFETIME: u64 = 1000;
