use super::*;
use crate::key::{KeyBuilder, KeyRules};

const BOUND: Duration = Duration::from_secs(5);
const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn judged(index: &PurgeIndex, position: LogPosition, stored: Timestamp) -> Validity {
    let key = Key::of_value("n", "k");
    let check = PurgeCheck {
        key: &key,
        tags: &["tag"].iter().collect(),
        has_query_rule: false,
        moment: Moment::stored(position),
        stored,
        verified: &Verified::never(),
    };
    index.judge(&check, NOW, BOUND)
}

fn purge_own(index: &PurgeIndex, position: LogPosition, known: LogPosition) {
    let purge = Purge::tag("tag");
    let pending = index.apply_pending(&purge);
    index.settle(&pending, &purge, position, known);
}

fn marks(purge: &Purge) -> Vec<Mark> {
    purge.marks().collect()
}

fn in_sight() -> PurgeIndex {
    let index = PurgeIndex::new();
    index.advance(LogPosition::new(10, 0));
    index.seen_to_the_end(NOW, BOUND);
    index
}

#[test]
fn an_entry_from_beyond_what_was_read_is_not_valid() {
    let index = in_sight();
    let at = |ms| judged(&index, LogPosition::new(ms, 0), NOW);
    assert_eq!((at(10), at(11)), (Validity::Valid, Validity::Purged));
}

#[test]
fn an_own_purge_at_a_position_that_was_there_before_counts_all_the_same() {
    let index = in_sight();
    let known = LogPosition::new(10, 0);
    purge_own(&index, LogPosition::new(3, 0), known);
    assert_eq!(judged(&index, known, NOW), Validity::Purged);
}

#[test]
fn an_own_purge_counts_until_it_is_read_back_and_after() {
    let index = in_sight();
    let (known, own) = (LogPosition::new(10, 0), LogPosition::new(12, 0));
    purge_own(&index, own, known);
    assert_eq!(index.appended(), own);
    assert_eq!(judged(&index, known, NOW), Validity::Purged);
    index.apply(own, &marks(&Purge::tag("tag")));
    index.advance(own);
    assert_eq!(judged(&index, known, NOW), Validity::Purged);
    assert_eq!(judged(&index, own, NOW), Validity::Valid);
    assert_eq!(index.len(), 1, "noted once");
}

#[test]
fn out_of_sight_only_what_is_recent_by_this_clock_is_valid() {
    let index = in_sight();
    index.lost_sight();
    let stored = |stored| judged(&index, LogPosition::new(10, 0), stored);
    assert_eq!(stored(NOW.saturating_sub(BOUND)), Validity::Valid);
    assert_eq!(stored(NOW.saturating_add(BOUND)), Validity::Valid);
    assert_eq!(stored(NOW.saturating_sub(BOUND * 2)), Validity::Unknown);
    assert_eq!(stored(NOW.saturating_add(BOUND * 2)), Validity::Unknown);
}

#[test]
fn an_own_purge_that_a_new_log_took_at_once_survives_the_restart() {
    let index = in_sight();
    let (restart, own) = (LogPosition::new(11, 0), LogPosition::new(12, 0));
    purge_own(&index, own, LogPosition::new(10, 0));
    index.restart(restart);
    assert_eq!(judged(&index, restart, NOW), Validity::Purged);
    assert_eq!(index.appended(), own);
    index.apply(own, &marks(&Purge::tag("tag")));
    index.advance(own);
    assert_eq!(judged(&index, own, NOW), Validity::Valid);
    assert_eq!(index.len(), 1, "noted once");
}

/// A tag that is purged again and again, and as many records as there may be, are about themselves
/// alone.
#[test]
fn what_is_not_purged_stays_valid_whatever_else_is() {
    let index = in_sight();
    let old = LogPosition::new(10, 0);
    for ms in 11..=20_000 {
        index.apply(LogPosition::new(ms, 0), &marks(&Purge::tag("again")));
        let other = Purge::tag(ms.to_string());
        index.apply(LogPosition::new(ms, 1), &marks(&other));
    }
    assert_eq!(judged(&index, old, NOW), Validity::Valid);
    assert_eq!(index.len(), 19_991);
    index.apply(
        LogPosition::new(20_001, 0),
        &marks(&Purge::tag("tag").soft()),
    );
    assert_eq!(judged(&index, old, NOW), Validity::Soft);
    index.apply(LogPosition::new(20_001, 1), &marks(&Purge::tag("tag")));
    assert_eq!(judged(&index, old, NOW), Validity::Purged);
}

#[test]
fn verdicts_of_every_kind_are_remembered_until_the_next_purge() {
    let index = in_sight();
    let key = Key::of_value("n", "k");
    let (tags, verified) = (["tag"].iter().collect(), Verified::never());
    let check = PurgeCheck {
        key: &key,
        tags: &tags,
        has_query_rule: false,
        moment: Moment::stored(LogPosition::new(10, 0)),
        stored: NOW,
        verified: &verified,
    };
    let purges = [
        (Purge::tag("other"), Validity::Valid, Verdict::Valid),
        (Purge::tag("tag").soft(), Validity::Soft, Verdict::Soft),
        (Purge::tag("tag"), Validity::Purged, Verdict::Purged),
    ];
    for (ms, (purge, validity, verdict)) in (11..).zip(purges) {
        index.apply(LogPosition::new(ms, 0), &marks(&purge));
        assert_eq!(verified.at(index.version()), None);
        assert_eq!(index.judge(&check, NOW, BOUND), validity);
        assert_eq!(verified.at(index.version()), Some(verdict));
    }
}

/// Beyond the depth that is hashed once and kept, too.
#[test]
fn a_subtree_is_purged_however_deep_it_is() {
    let path = "/a".repeat(40);
    let stored = response_key(&path);
    for depth in [0, 1, 15, 16, 17, 39, 40] {
        let index = in_sight();
        let purged = "/a".repeat(depth);
        let verified = Verified::never();
        let judge = || {
            let check = PurgeCheck {
                key: &stored,
                tags: &Tags::default(),
                has_query_rule: false,
                moment: Moment::stored(LogPosition::new(10, 0)),
                stored: NOW,
                verified: &verified,
            };
            index.judge(&check, NOW, BOUND)
        };
        index.apply(LogPosition::new(11, 0), &marks(&Purge::path("/a/b")));
        assert_eq!(judge(), Validity::Valid);
        index.apply(LogPosition::new(12, 0), &marks(&Purge::path(&purged)));
        assert_eq!(judge(), Validity::Purged, "{depth}");
    }
}

fn response_key(path: &str) -> Key {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.uri = path.parse().unwrap();
    let key = KeyBuilder::of_request(&parts, &KeyRules::default(), 0).unwrap();
    key.base().to_key()
}

fn at(ms: u64) -> LogPosition {
    LogPosition::new(ms, 0)
}

fn is_outdated(index: &PurgeIndex, tag: &str, position: LogPosition) -> bool {
    let check = PurgeCheck {
        key: &Key::of_value("n", "k"),
        tags: &[tag].iter().collect::<Tags>(),
        has_query_rule: false,
        moment: Moment::stored(position),
        stored: crate::base::clock::Timestamp::from_secs(1),
        verified: &Verified::never(),
    };
    index.is_outdated(&check)
}

fn known(purges: impl IntoIterator<Item = (u64, Purge)>) -> PurgeIndex {
    let index = PurgeIndex::new();
    for (ms, purge) in purges {
        index.apply(at(ms), &purge.marks().collect::<Vec<_>>());
        index.advance(at(ms));
    }
    index
}

/// Each by its own secret.
#[test]
fn who_inherits_knows_what_the_other_knew() {
    let tags = (1..=5000).map(|ms| (ms, Purge::tag(format!("tag {ms}"))));
    let soft = [
        (5001, Purge::tag("soft").soft()),
        (5002, Purge::path("/a/b/c")),
    ];
    let snapshot = known(tags.chain(soft)).snapshot();
    let heir = PurgeIndex::new();
    heir.inherit(std::slice::from_ref(&snapshot), snapshot.known);
    assert_eq!(heir.tail(), at(5002));
    for ms in [1, 2, 77, 5000] {
        let tag = format!("tag {ms}");
        assert!(is_outdated(&heir, &tag, at(ms - 1)), "{tag}");
        assert!(!is_outdated(&heir, &tag, at(ms)), "{tag}");
    }
    assert!(is_outdated(&heir, "soft", at(5000)));
    assert!(!is_outdated(&heir, "other", at(0)));
    let again = heir.snapshot();
    assert_eq!(again.known, snapshot.known);
    assert_eq!(again.hard.len(), snapshot.hard.len());
}

#[test]
fn who_inherits_from_a_full_index_knows_no_less() {
    let index = known([]);
    let most = 1_000_000;
    for ms in 1..=most {
        index.apply(
            at(ms),
            &[crate::purge::record::Mark {
                selector: crate::purge::Selector::tag(&ms.to_string()),
                soft: false,
            }],
        );
    }
    index.advance(at(most));
    let snapshot = index.snapshot();
    assert!(snapshot.known.hard > LogPosition::ZERO, "it has forgotten");
    let heir = PurgeIndex::new();
    heir.inherit(std::slice::from_ref(&snapshot), snapshot.known);
    for ms in (1..=most).step_by(997) {
        assert!(is_outdated(&heir, &ms.to_string(), at(ms - 1)), "{ms}");
    }
    assert!(!is_outdated(&heir, "other", at(most)));
}
