//! The contract of `SharedStore`, for every store. Each test runs over Valkey and over the
//! in-process store, so that the two behave alike.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tower_response_cache::{
    AppendOptions, Appended, InProcessStore, Leased, LogBounds, LogPosition, Presence, SharedStore,
    StoreError, Trimmed, ValkeyStore,
};

use crate::support::eventually;
use crate::support::store::{MINUTE, settings, soon};
use crate::support::valkey::Valkey;

/// Makes each function a test of each store.
macro_rules! contract {
    ($($promise:ident,)*) => {
        mod in_process {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Stores::in_process()).await;
            })*
        }
        mod valkey {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Stores::valkey()).await;
            })*
        }
    };
}

contract! {
    a_value_is_kept_as_it_is_until_it_is_replaced_or_removed,
    an_empty_value_is_as_none,
    a_value_lives_for_its_time_and_no_longer,
    a_value_set_again_lives_from_then_on,
    no_time_at_all_is_a_millisecond,
    a_lease_is_held_until_its_token_releases_it,
    a_lease_ends_with_its_time,
    a_ping_is_answered,
    the_log_keeps_the_order_of_all_instances,
    a_log_begins_missing_and_then_tells_what_it_holds,
    a_record_is_at_its_position_until_it_is_trimmed,
    a_trimmed_and_an_emptied_log_go_on_with_later_positions,
    a_log_is_bounded,
    a_log_made_anew_goes_on_after_a_position_if_asked,
    a_log_that_is_beyond_a_position_appends_as_ever,
    no_replicas_are_waited_for_where_there_are_none,
    a_long_log_is_read_in_parts,
    a_read_waits_for_the_first_record_and_no_longer,
    a_record_wakes_the_readers_of_all_instances,
    an_instance_has_one_reader_at_a_time,
    a_reader_given_up_makes_way,
    a_full_server_refuses_what_takes_memory_and_nothing_else,
    a_server_that_restarts_empty_has_neither_values_nor_log,
}

async fn a_value_is_kept_as_it_is_until_it_is_replaced_or_removed(stores: Stores) {
    let Stores { here, there, .. } = &stores;
    assert_eq!(here.get("k", soon()).await, Ok(None));
    let bytes = Bytes::from_static(b"\0\r\n\xff");
    for value in [bytes, Bytes::from(vec![b'x'; 1 << 20])] {
        here.set("k", value.clone(), MINUTE, soon()).await.unwrap();
        assert_eq!(there.get("k", soon()).await, Ok(Some(value)));
    }
    here.set("l", "v".into(), MINUTE, soon()).await.unwrap();
    let keys = ["k", "none", "l"].map(str::to_owned);
    assert_eq!(there.remove(&keys, soon()).await, Ok(2));
    assert_eq!(there.remove(&keys, soon()).await, Ok(0));
    assert_eq!(there.remove(&[], soon()).await, Ok(0));
    assert_eq!(here.get("k", soon()).await, Ok(None));
}

async fn an_empty_value_is_as_none(stores: Stores) {
    let store = &stores.here;
    store.set("k", Bytes::new(), MINUTE, soon()).await.unwrap();
    assert_eq!(store.get("k", soon()).await, Ok(None));
    assert_eq!(store.remove(&["k".to_owned()], soon()).await, Ok(1));
}

async fn a_value_lives_for_its_time_and_no_longer(stores: Stores) {
    const TTL: Duration = Duration::from_millis(300);
    let store = &stores.here;
    let before = Instant::now();
    store.set("k", "v".into(), TTL, soon()).await.unwrap();
    let after = Instant::now();
    let last_seen = last_seen(store, "k").await;
    let gone = Instant::now();
    assert!(gone - before >= TTL - TICK, "{:?}", gone - before);
    assert!(last_seen - after <= TTL + TICK, "{:?}", last_seen - after);
}

async fn a_value_set_again_lives_from_then_on(stores: Stores) {
    let store = &stores.here;
    let short = Duration::from_millis(50);
    store.set("k", "v".into(), short, soon()).await.unwrap();
    store.set("k", "w".into(), MINUTE, soon()).await.unwrap();
    store.set("l", "v".into(), short, soon()).await.unwrap();
    // Set later, for as long.
    last_seen(store, "l").await;
    assert_eq!(store.get("k", soon()).await, Ok(Some("w".into())));
}

async fn no_time_at_all_is_a_millisecond(stores: Stores) {
    let store = &stores.here;
    let set = store.set("k", "v".into(), Duration::ZERO, soon()).await;
    assert_eq!(set, Ok(()));
    last_seen(store, "k").await;
}

async fn a_lease_is_held_until_its_token_releases_it(stores: Stores) {
    let Stores { here, there, .. } = &stores;
    assert_eq!(lease(here, "a", MINUTE).await, Ok(Leased::Granted));
    // Not even to the one who has it.
    assert_eq!(lease(here, "a", MINUTE).await, Ok(Leased::Held));
    assert_eq!(lease(there, "b", MINUTE).await, Ok(Leased::Held));
    assert_eq!(there.release("lease", "b", soon()).await, Ok(()));
    assert_eq!(lease(there, "b", MINUTE).await, Ok(Leased::Held));
    assert_eq!(here.release("lease", "a", soon()).await, Ok(()));
    assert_eq!(lease(there, "b", MINUTE).await, Ok(Leased::Granted));
    assert_eq!(here.release("none", "a", soon()).await, Ok(()));
}

async fn a_lease_ends_with_its_time(stores: Stores) {
    const TTL: Duration = Duration::from_millis(200);
    let Stores { here, there, .. } = &stores;
    let before = Instant::now();
    assert_eq!(lease(here, "a", TTL).await, Ok(Leased::Granted));
    eventually("the next lease", PATIENCE, || async {
        lease(there, "b", MINUTE).await == Ok(Leased::Granted)
    })
    .await;
    assert!(before.elapsed() >= TTL - TICK, "{:?}", before.elapsed());
    // What is over cannot be given back, nor another's lease.
    assert_eq!(here.release("lease", "a", soon()).await, Ok(()));
    assert_eq!(lease(here, "a", MINUTE).await, Ok(Leased::Held));
}

async fn a_ping_is_answered(stores: Stores) {
    assert!(stores.here.ping(soon()).await.unwrap() < PATIENCE);
}

async fn the_log_keeps_the_order_of_all_instances(stores: Stores) {
    let Stores { here, there, .. } = &stores;
    let records = [&b"a"[..], b"", b"\0\r\n\xff", b"d"];
    let mut positions = Vec::new();
    for (record, store) in records.iter().zip([here, there, here, there]) {
        positions.push(append(store, record).await.unwrap());
    }
    assert!(positions.is_sorted_by(|earlier, later| earlier < later));
    let all: Vec<_> = positions
        .iter()
        .copied()
        .zip(records.map(Bytes::from_static))
        .collect();
    for store in [here, there] {
        let read = store.log_read(LogPosition::ZERO, MOMENT).await;
        assert_eq!(read, Ok(all.clone()));
        let rest = store.log_read(positions[1], MOMENT).await;
        assert_eq!(rest, Ok(all[2..].to_vec()));
    }
}

async fn a_log_begins_missing_and_then_tells_what_it_holds(stores: Stores) {
    let store = &stores.here;
    assert_eq!(store.log_bounds(soon()).await, Ok(LogBounds::Missing));
    let none = store.log_read(LogPosition::ZERO, MOMENT).await;
    assert_eq!(none, Ok(Vec::new()));
    let first = append(store, b"a").await.unwrap();
    let last = append(store, b"b").await.unwrap();
    let bounds = LogBounds::Held {
        first,
        last,
        last_generated: last,
        trimmed: Trimmed::Nothing,
        added: Some(2),
    };
    assert_eq!(store.log_bounds(soon()).await, Ok(bounds));
}

async fn a_record_is_at_its_position_until_it_is_trimmed(stores: Stores) {
    let store = &stores.here;
    let holds = |position| store.log_holds(position, soon());
    assert_eq!(holds(LogPosition::new(1, 1)).await, Ok(Presence::Absent));
    let first = append(store, b"a").await.unwrap();
    let last = append(store, b"b").await.unwrap();
    assert_eq!(holds(first).await, Ok(Presence::Present));
    assert_eq!(holds(last.next()).await, Ok(Presence::Absent));
    stores.server.trim_log(1);
    assert_eq!(holds(first).await, Ok(Presence::Absent));
    assert_eq!(holds(last).await, Ok(Presence::Present));
}

async fn a_trimmed_and_an_emptied_log_go_on_with_later_positions(stores: Stores) {
    let store = &stores.here;
    append(store, b"a").await.unwrap();
    let last = append(store, b"b").await.unwrap();
    stores.server.trim_log(1);
    let trimmed = LogBounds::Held {
        first: last,
        last,
        last_generated: last,
        trimmed: Trimmed::Some,
        added: Some(2),
    };
    assert_eq!(store.log_bounds(soon()).await, Ok(trimmed));
    stores.server.trim_log(0);
    let empty = LogBounds::Empty {
        last_generated: last,
        added: Some(2),
    };
    assert_eq!(store.log_bounds(soon()).await, Ok(empty));
    assert!(append(store, b"c").await.unwrap() > last);
}

async fn a_log_is_bounded(stores: Stores) {
    let store = &stores.here;
    for _ in 0..2 * BOUND {
        append(store, b"r").await.unwrap();
    }
    let held: usize = read_in_parts(store).await.iter().sum();
    // A server may trim by whole blocks of a hundred records.
    assert!((BOUND..=BOUND + 200).contains(&held), "{held}");
}

async fn a_log_made_anew_goes_on_after_a_position_if_asked(stores: Stores) {
    let store = &stores.here;
    let known = LogPosition::new(u64::MAX / 4, 7);
    let first = append_after(store, known).await.unwrap();
    assert!(first > known);
    assert!(append(store, b"b").await.unwrap() > first);
}

async fn a_log_that_is_beyond_a_position_appends_as_ever(stores: Stores) {
    let store = &stores.here;
    let known = append(store, b"a").await.unwrap();
    let last = append(store, b"b").await.unwrap();
    assert!(append_after(store, known).await.unwrap() > last);
}

async fn no_replicas_are_waited_for_where_there_are_none(stores: Stores) {
    let options = AppendOptions::new().replicas(1);
    let deadline = Instant::now() + Duration::from_secs(1);
    let Appended { position, replicas } = stores
        .here
        .log_append(b"a", options, deadline)
        .await
        .unwrap();
    assert_eq!(replicas, Ok(0));
    let held = stores.here.log_holds(position, soon()).await;
    assert_eq!(held, Ok(Presence::Present));
}

async fn a_long_log_is_read_in_parts(stores: Stores) {
    let Stores { there: store, .. } = &stores;
    for _ in 0..1500 {
        append(store, b"r").await.unwrap();
    }
    assert_eq!(read_in_parts(store).await, [1000, 500]);
}

async fn a_read_waits_for_the_first_record_and_no_longer(stores: Stores) {
    const BLOCK: Duration = Duration::from_millis(100);
    let began = Instant::now();
    let none = stores.here.log_read(LogPosition::ZERO, BLOCK).await;
    assert_eq!(none, Ok(Vec::new()));
    assert!(began.elapsed() >= BLOCK - TICK, "{:?}", began.elapsed());
    append(&stores.here, b"r").await.unwrap();
    let began = Instant::now();
    let some = stores.here.log_read(LogPosition::ZERO, MINUTE).await;
    assert_eq!(some.unwrap().len(), 1);
    assert!(began.elapsed() < PATIENCE);
}

async fn a_record_wakes_the_readers_of_all_instances(stores: Stores) {
    let Stores { here, there, .. } = &stores;
    let first = append(here, b"a").await.unwrap();
    let appended = async {
        stores.server.until_blocked(2).await;
        append(here, b"b").await.unwrap()
    };
    let (here, there, second) = tokio::join!(
        here.log_read(first, MINUTE),
        there.log_read(first, MINUTE),
        appended,
    );
    let expected = vec![(second, Bytes::from_static(b"b"))];
    assert_eq!((here, there), (Ok(expected.clone()), Ok(expected)));
}

async fn an_instance_has_one_reader_at_a_time(stores: Stores) {
    let Stores { here, there, .. } = &stores;
    let mut reading = pin!(here.log_read(LogPosition::ZERO, MINUTE));
    let second = async {
        stores.server.until_blocked(1).await;
        let own = here.log_read(LogPosition::ZERO, MOMENT).await;
        (own, there.log_read(LogPosition::ZERO, MOMENT).await)
    };
    tokio::select! {
        biased;
        read = &mut reading => panic!("there is nothing to read: {read:?}"),
        second = second => assert_eq!(second, (Err(StoreError::Busy), Ok(Vec::new()))),
    }
}

async fn a_reader_given_up_makes_way(stores: Stores) {
    let store = &stores.here;
    let read = store.log_read(LogPosition::ZERO, MINUTE);
    assert!(tokio::time::timeout(MOMENT, read).await.is_err());
    let position = append(store, b"r").await.unwrap();
    // The client may pause before it connects again.
    let read = store.log_read(LogPosition::ZERO, MINUTE).await;
    assert_eq!(read, Ok(vec![(position, "r".into())]));
}

async fn a_full_server_refuses_what_takes_memory_and_nothing_else(stores: Stores) {
    let Stores { here, there, .. } = &stores;
    here.set("k", "v".into(), MINUTE, soon()).await.unwrap();
    assert_eq!(lease(here, "a", MINUTE).await, Ok(Leased::Granted));
    let position = append(here, b"r").await.unwrap();
    stores.server.set_full(true);

    let refused = here.set("l", "w".into(), MINUTE, soon()).await;
    assert_eq!(refused, Err(StoreError::Full));
    let refused = here.lease("other", "a", MINUTE, soon()).await;
    assert_eq!(refused, Err(StoreError::Full));
    assert_eq!(append(here, b"s").await, Err(StoreError::Full));
    let after = append_after(here, position).await;
    assert_eq!(after, Err(StoreError::Full));

    assert_eq!(there.get("k", soon()).await, Ok(Some("v".into())));
    let records = there.log_read(LogPosition::ZERO, MOMENT).await;
    assert_eq!(records, Ok(vec![(position, "r".into())]));
    let held = there.log_holds(position, soon()).await;
    assert_eq!(held, Ok(Presence::Present));
    let last = there.log_bounds(soon()).await.unwrap().last_generated();
    assert_eq!(last, position);
    there.ping(soon()).await.unwrap();
    assert_eq!(there.remove(&["k".to_owned()], soon()).await, Ok(1));
    assert_eq!(there.release("lease", "a", soon()).await, Ok(()));

    stores.server.set_full(false);
    assert_eq!(lease(there, "b", MINUTE).await, Ok(Leased::Granted));
    assert!(append(here, b"s").await.unwrap() > position);
}

async fn a_server_that_restarts_empty_has_neither_values_nor_log(mut stores: Stores) {
    let position = {
        let store = &stores.here;
        store.set("k", "v".into(), MINUTE, soon()).await.unwrap();
        append(store, b"r").await.unwrap()
    };
    stores.server.restart_empty();
    let store = &stores.here;
    eventually("the server", PATIENCE, || async {
        store.ping(soon()).await.is_ok()
    })
    .await;
    assert_eq!(store.get("k", soon()).await, Ok(None));
    assert_eq!(store.log_bounds(soon()).await, Ok(LogBounds::Missing));
    let held = store.log_holds(position, soon()).await;
    assert_eq!(held, Ok(Presence::Absent));
    assert!(append_after(store, position).await.unwrap() > position);
}

/// Two instances and the server that they share.
struct Stores {
    here: Arc<dyn SharedStore>,
    there: Arc<dyn SharedStore>,
    server: Server,
}

enum Server {
    InProcess(InProcessStore),
    Valkey(Valkey),
}

impl Stores {
    fn in_process() -> Self {
        let server = InProcessStore::new();
        server.set_log_length(BOUND);
        Self {
            here: Arc::new(server.instance()),
            there: Arc::new(server.instance()),
            server: Server::InProcess(server),
        }
    }

    fn valkey() -> Self {
        let server = Valkey::start();
        let instance = || {
            let mut settings = settings(&server.url());
            settings.log_max_records = BOUND as u64;
            Arc::new(ValkeyStore::new(settings))
        };
        Self {
            here: instance(),
            there: instance(),
            server: Server::Valkey(server),
        }
    }
}

impl Server {
    fn set_full(&self, full: bool) {
        match self {
            Self::InProcess(server) => server.set_full(full),
            Self::Valkey(server) => {
                let bytes = if full { "1" } else { "0" };
                server.command(&["CONFIG", "SET", "maxmemory", bytes]);
            }
        }
    }

    fn trim_log(&self, records: usize) {
        match self {
            Self::InProcess(server) => server.trim_log(records),
            Self::Valkey(server) => {
                let records = records.to_string();
                server.command(&["XTRIM", "trc:log", "MAXLEN", &records]);
            }
        }
    }

    fn restart_empty(&mut self) {
        match self {
            Self::InProcess(server) => server.restart_empty(),
            Self::Valkey(server) => {
                server.kill();
                server.start_again();
            }
        }
    }

    /// Waits until so many readers are waiting for a record.
    async fn until_blocked(&self, readers: usize) {
        match self {
            // They have been polled once.
            Self::InProcess(_) => tokio::task::yield_now().await,
            Self::Valkey(server) => {
                let wanted = format!("blocked_clients:{readers}\r");
                eventually("blocked readers", PATIENCE, || async {
                    server.command(&["INFO", "clients"]).contains(&wanted)
                })
                .await;
            }
        }
    }
}

async fn lease(
    store: &Arc<dyn SharedStore>,
    token: &str,
    ttl: Duration,
) -> Result<Leased, StoreError> {
    store.lease("lease", token, ttl, soon()).await
}

async fn append(store: &Arc<dyn SharedStore>, record: &[u8]) -> Result<LogPosition, StoreError> {
    let appended = store.log_append(record, AppendOptions::new(), soon());
    appended.await.map(|appended| appended.position)
}

async fn append_after(
    store: &Arc<dyn SharedStore>,
    position: LogPosition,
) -> Result<LogPosition, StoreError> {
    let options = AppendOptions::new().after(position);
    let appended = store.log_append(b"after", options, soon()).await;
    appended.map(|appended| appended.position)
}

/// Reads the log to its end, and tells how many records came at a time.
async fn read_in_parts(store: &Arc<dyn SharedStore>) -> Vec<usize> {
    let (mut after, mut parts) = (LogPosition::ZERO, Vec::new());
    loop {
        let records = store.log_read(after, MOMENT).await.unwrap();
        let Some((last, _)) = records.last() else {
            return parts;
        };
        after = *last;
        parts.push(records.len());
    }
}

/// Waits until the value is gone, and tells when the last read that still saw it was asked for.
async fn last_seen(store: &Arc<dyn SharedStore>, key: &str) -> Instant {
    let began = Instant::now();
    let mut last = began;
    loop {
        let asked = Instant::now();
        if store.get(key, soon()).await.unwrap().is_none() {
            return last;
        }
        last = asked;
        assert!(began.elapsed() < PATIENCE, "it does not expire");
        tokio::task::yield_now().await;
    }
}

/// What two clocks that count milliseconds may differ by.
const TICK: Duration = Duration::from_millis(2);

const MOMENT: Duration = Duration::from_millis(5);

const PATIENCE: Duration = Duration::from_secs(10);

/// How many records the log keeps, at least.
const BOUND: usize = 2000;
