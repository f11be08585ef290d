//! The switches of the store. `tests/it` tests what every store promises.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::base::clock::TestClock;

#[tokio::test(start_paused = true)]
async fn an_instance_is_cut_off_alone_in_three_ways() {
    let (here, there) = two_instances();
    set(&here, "k", "v").await.unwrap();
    for (outage, error, waits) in [
        (Outage::Refused, StoreError::Unavailable, false),
        (Outage::Silent, StoreError::TimedOut, true),
        (Outage::RepliesLost, StoreError::TimedOut, true),
    ] {
        here.cut_off(outage);
        let began = Instant::now();
        assert_eq!(get(&here, "k").await, Err(error.clone()));
        assert_eq!(began.elapsed(), if waits { BUDGET } else { Duration::ZERO });
        assert_eq!(set(&here, "lost", outage_name(outage)).await, Err(error));
        assert_eq!(here.health().state, StoreState::Unreachable);
        assert_eq!(here.is_away(), outage == Outage::Refused);

        assert_eq!(get(&there, "k").await, Ok(Some("v".into())));
        assert_eq!(there.health().state, StoreState::Ready);
    }
    // Only the replies were lost.
    assert_eq!(here.value("lost").as_deref(), Some(&b"RepliesLost"[..]));
    here.reconnect();
    assert_eq!(get(&here, "k").await, Ok(Some("v".into())));
    assert_eq!(here.health().state, StoreState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_reader_notices_what_becomes_of_its_connection() {
    let (here, there) = two_instances();
    for (outage, error, within) in [
        (Outage::Refused, StoreError::Unavailable, Duration::ZERO),
        (Outage::Silent, StoreError::TimedOut, 2 * SECOND),
    ] {
        let read = here.log_read(LogPosition::ZERO, SECOND);
        let cut = async {
            tokio::task::yield_now().await;
            here.cut_off(outage);
            Instant::now()
        };
        let (read, began) = tokio::join!(read, cut);
        assert_eq!(read, Err(error));
        assert!(began.elapsed() <= within, "{:?}", began.elapsed());
        here.reconnect();
    }
    let read = here.log_read(LogPosition::ZERO, SECOND);
    let restart = async {
        tokio::task::yield_now().await;
        there.restart_empty();
    };
    let (read, ()) = tokio::join!(read, restart);
    assert_eq!(read, Err(StoreError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn a_reader_without_a_connection_does_not_spin() {
    let store = InProcessStore::new();
    store.cut_off(Outage::Refused);
    let began = Instant::now();
    for _ in 0..10 {
        let read = store.log_read(LogPosition::ZERO, SECOND).await;
        assert_eq!(read, Err(StoreError::Unavailable));
    }
    assert!(began.elapsed() >= 5 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_takes_its_time_and_obeys_all_the_same() {
    let store = InProcessStore::new();
    store.set_latency(BUDGET / 2);
    let began = Instant::now();
    set(&store, "k", "v").await.unwrap();
    assert_eq!(began.elapsed(), BUDGET / 2);

    store.set_latency(2 * BUDGET);
    let began = Instant::now();
    assert_eq!(set(&store, "k", "w").await, Err(StoreError::TimedOut));
    assert_eq!(began.elapsed(), BUDGET);
    assert_eq!(store.value("k"), Some("v".into()));
    sleep(BUDGET).await;
    assert_eq!(store.value("k"), Some("w".into()));
}

#[tokio::test(start_paused = true)]
async fn an_operation_given_up_is_obeyed_all_the_same() {
    let (here, there) = two_instances();
    here.set_latency(BUDGET / 2);
    let given_up = timeout(BUDGET / 10, append(&here, "r")).await;
    assert!(given_up.is_err());
    assert_eq!(here.records(), []);
    // A command that its caller has given up still wakes the reader.
    let read = there.log_read(LogPosition::ZERO, SECOND).await.unwrap();
    assert_eq!(read, here.records());
    assert_eq!(read.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_held_back_overtake_one_another() {
    let store = InProcessStore::new();
    store.seed(1);
    store.delay_writes(SECOND);
    let (mut in_order, mut overtaken) = (0, 0);
    for _ in 0..32 {
        let began = Instant::now();
        set(&store, "k", "earlier").await.unwrap();
        set(&store, "k", "later").await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(store.value("k"), None);
        sleep(SECOND).await;
        match store.value("k").as_deref() {
            Some(b"earlier") => overtaken += 1,
            Some(b"later") => in_order += 1,
            other => panic!("{other:?}"),
        }
        assert!(store.evict("k"));
    }
    assert!(in_order > 0 && overtaken > 0, "{in_order} {overtaken}");
    store.delay_writes(Duration::ZERO);
    set(&store, "k", "v").await.unwrap();
    assert_eq!(store.value("k"), Some("v".into()));
}

#[tokio::test(start_paused = true)]
async fn lost_writes_are_acknowledged() {
    let store = InProcessStore::new();
    set(&store, "k", "v").await.unwrap();
    store.lose_writes(2);
    assert_eq!(set(&store, "k", "w").await, Ok(()));
    assert_eq!(store.remove(&["k".to_owned()], soon()).await, Ok(0));
    assert_eq!(store.value("k"), Some("v".into()));
    assert_eq!(set(&store, "k", "w").await, Ok(()));
    assert_eq!(store.value("k"), Some("w".into()));
}

#[tokio::test(start_paused = true)]
async fn any_key_can_be_evicted() {
    let store = InProcessStore::new();
    assert_eq!(store.evict_any(0), None);
    for key in ["a", "b", "c"] {
        set(&store, key, "v").await.unwrap();
    }
    assert_eq!(store.evict_any(4).as_deref(), Some("b"));
    assert!(store.evict("c") && !store.evict("c"));
    assert_eq!(store.keys(), ["a"]);
    assert_eq!(get(&store, "c").await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn one_read_is_answered_with_the_value_of_another_key() {
    let store = InProcessStore::new();
    store.cross_next_read();
    set(&store, "a", "1").await.unwrap();
    // There is no other value yet.
    assert_eq!(get(&store, "a").await, Ok(Some("1".into())));
    set(&store, "b", "2").await.unwrap();
    assert_eq!(get(&store, "none").await, Ok(None));
    assert_eq!(get(&store, "a").await, Ok(Some("2".into())));
    store.note_mismatch("a");
    assert_eq!(store.health().mismatches, 1);
    assert_eq!(get(&store, "a").await, Ok(Some("1".into())));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_takes_over_lacks_the_last_records_and_gives_their_positions_again() {
    let store = InProcessStore::new();
    let mut positions = Vec::new();
    for record in ["a", "b", "c"] {
        positions.push(append(&store, record).await.unwrap());
    }
    store.lose_records(2);
    let held = store.records();
    assert_eq!(held, [(positions[0], Bytes::from("a"))]);
    let bounds = store.log_bounds(soon()).await.unwrap();
    assert_eq!(bounds.last_generated(), positions[0]);
    assert_eq!(bounds.added(), Some(1));
    assert_eq!(append(&store, "d").await, Ok(positions[1]));
    store.lose_records(2);
    assert_eq!(store.log_bounds(soon()).await, Ok(LogBounds::Missing));
    store.trim_log(0);
    append(&store, "e").await.unwrap();
    store.lose_log();
    assert_eq!(store.log_bounds(soon()).await, Ok(LogBounds::Missing));
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_trimmed_log_remembers_what_was_trimmed() {
    let store = InProcessStore::new();
    let first = append(&store, "a").await.unwrap();
    append(&store, "b").await.unwrap();
    store.trim_log(1);
    store.lose_records(1);
    let empty = LogBounds::Empty {
        last_generated: first,
        added: Some(1),
    };
    assert_eq!(store.log_bounds(soon()).await, Ok(empty));
}

#[tokio::test]
async fn values_expire_by_the_clock_that_was_handed_in() {
    let clock = TestClock::default();
    let store = InProcessStore::with_clock(Arc::new(clock.clone()));
    set(&store, "k", "v").await.unwrap();
    clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(get(&store, "k").await, Ok(Some("v".into())));
    clock.advance(Duration::from_millis(1));
    assert_eq!(get(&store, "k").await, Ok(None));
    let position = append(&store, "r").await.unwrap();
    assert_eq!(position.ms(), clock.now().as_millis());
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_who_runs_first() {
    let mut orders = Vec::new();
    for seed in (0..16).chain(0..16) {
        let store = InProcessStore::new();
        store.seed(seed);
        let (a, b) = (store.instance(), store.instance());
        let both = tokio::join!(append(&a, "a"), append(&b, "b"));
        assert!(both.0.is_ok() && both.1.is_ok());
        orders.push(store.records().first().unwrap().1.clone());
    }
    let (first, again) = orders.split_at(16);
    assert_eq!(first, again);
    assert!(first.contains(&"a".into()) && first.contains(&"b".into()));
}

fn two_instances() -> (InProcessStore, InProcessStore) {
    let server = InProcessStore::new();
    (server.instance(), server.instance())
}

fn outage_name(outage: Outage) -> &'static str {
    match outage {
        Outage::Refused => "Refused",
        Outage::Silent => "Silent",
        Outage::RepliesLost => "RepliesLost",
    }
}

async fn get(store: &InProcessStore, key: &str) -> Result<Option<Bytes>, StoreError> {
    store.get(key, soon()).await
}

async fn set(store: &InProcessStore, key: &str, value: &'static str) -> Result<(), StoreError> {
    store.set(key, value.into(), MINUTE, soon()).await
}

async fn append(store: &InProcessStore, record: &str) -> Result<LogPosition, StoreError> {
    let appended = store.log_append(record.as_bytes(), AppendOptions::new(), soon());
    appended.await.map(|appended| appended.position)
}

fn soon() -> Instant {
    Instant::now() + BUDGET
}

const BUDGET: Duration = Duration::from_millis(50);

const SECOND: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_secs(60);
