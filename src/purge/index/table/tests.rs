use std::collections::HashMap;

use super::*;

fn at(ms: u64) -> Compact {
    Compact::of(LogPosition::new(ms, 0))
}

/// Fingerprints that are spread as those of selectors are.
fn fingerprints(seed: u64) -> impl Iterator<Item = Fingerprint> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || random.u64(..) | 1)
}

#[test]
fn a_bucket_is_as_long_as_two_lines_of_a_cache() {
    assert_eq!(size_of::<Bucket>(), 128);
}

#[test]
fn compact_positions_sort_and_saturated_ones_follow_their_equals() {
    let compact = |ms, seq| Compact::of(LogPosition::new(ms, seq));
    let ordered = [
        compact(0, 0),
        compact(0, 1),
        compact(0, 0xfffe),
        compact(0, 0xffff),
        compact(1, 0),
        compact(MOST_MS, 7),
        compact(MOST_MS + 1, 0),
    ];
    assert!(ordered.is_sorted_by(|one, other| one < other));
    assert!(!compact(1, 7).may_follow(compact(1, 7)));
    assert!(compact(1, 0xffff).may_follow(compact(1, 0x1_0000)));
    assert!(!compact(1, 0xffff).may_follow(compact(2, 0)));
    assert!(compact(u64::MAX, 0).may_follow(compact(u64::MAX, 1)));
}

#[test]
fn while_it_may_grow_it_knows_every_selector_exactly() {
    // One that need not be full before it has twice as many places.
    let mut table = Table::new(1 << 13);
    let mut model = HashMap::new();
    for (fingerprint, ms) in fingerprints(1).zip(1..=20_000) {
        table.note(fingerprint, at(ms));
        model.insert(fingerprint, at(ms));
    }
    for (&fingerprint, &position) in &model {
        assert_eq!(table.last(fingerprint), position);
    }
    assert_eq!(table.len(), model.len());
    let strangers = fingerprints(2).take(1000);
    let purged = strangers.filter(|it| table.last(*it) != Compact::default());
    assert_eq!(purged.count(), 0);
    let filled = model.len() as f64 / (table.buckets.len() * PLACES) as f64;
    assert!(filled > 0.3, "{filled}");
}

/// A thousand changes a second, each of another URL, for ten minutes.
#[test]
fn many_changes_of_others_void_nothing_else() {
    let mut table = Table::new(crate::purge::index::state::MOST_HARD_BUCKETS);
    for (fingerprint, ms) in fingerprints(6).zip(1..=600_000) {
        table.note(fingerprint, at(ms));
    }
    assert!(table.buckets.len() * size_of::<Bucket>() <= 16 << 20);
    let strangers = fingerprints(7).take(10_000);
    let voided = strangers.filter(|it| table.last(*it) != Compact::default());
    // A few buckets were full: each voids what could stand in it.
    assert!(voided.count() <= 10);
}

#[test]
fn a_selector_purged_again_moves() {
    let mut table = Table::new(1);
    for ms in 1..=1000 {
        table.note(17, at(ms));
        table.note(17, at(ms / 2));
    }
    assert_eq!((table.len(), table.last(17)), (1, at(1000)));
    assert_eq!(table.last(33), Compact::default());
}

#[test]
fn at_its_bound_it_forgets_the_oldest_and_never_a_purge() {
    let mut table = Table::new(64);
    let mut model = HashMap::new();
    let count = 64 * PLACES as u64 * 4;
    for (fingerprint, ms) in fingerprints(3).zip(1..=count) {
        table.note(fingerprint, at(ms));
        model.insert(fingerprint, at(ms));
    }
    assert_eq!(table.buckets.len(), 64);
    for (&fingerprint, &position) in &model {
        assert!(table.last(fingerprint) >= position, "a purge was lost");
    }
    // An entry from after the horizons is not taken for purged.
    let strangers = fingerprints(4).take(1000);
    let latest = strangers.map(|it| table.last(it)).max().unwrap();
    assert!(latest < at(count), "{latest:?}");
}

#[test]
fn what_is_forgotten_leaves_what_came_later() {
    let mut table = Table::new(16);
    for (fingerprint, ms) in fingerprints(5).zip(1..=50) {
        table.note(fingerprint, at(ms));
    }
    table.forget_up_to(at(20));
    assert_eq!(table.len(), 30);
    for (fingerprint, ms) in fingerprints(5).zip(1..=50) {
        let expected = if ms > 20 { at(ms) } else { Compact::default() };
        assert_eq!(table.last(fingerprint), expected);
    }
}
