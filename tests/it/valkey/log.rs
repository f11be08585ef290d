//! The purge log, as the client reads and writes it.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tower_response_cache::{LogBounds, LogPosition, SharedStore, Trimmed, ValkeyStore};

use super::{MOMENT, PATIENCE, poll_once};
use crate::support::eventually;
use crate::support::store::{MINUTE, append, get, settings, soon, store};
use crate::support::valkey::Valkey;

#[tokio::test]
async fn the_log_keeps_its_order() {
    let server = Valkey::start();
    let store = store(&server.url());
    assert_eq!(store.log_bounds(soon()).await, Ok(LogBounds::Missing));
    let read = store.log_read(LogPosition::ZERO, MOMENT).await;
    assert_eq!(read, Ok(Vec::new()));

    let mut positions = Vec::new();
    for record in [&b"a"[..], b"", b"\0\r\n\xff"] {
        positions.push(append(&store, record).await.unwrap());
    }
    assert!(positions.is_sorted() && positions[0] > LogPosition::ZERO);
    let read = store.log_read(LogPosition::ZERO, MOMENT).await.unwrap();
    let expected = [&b"a"[..], b"", b"\0\r\n\xff"].map(Bytes::from_static);
    assert!(read.iter().map(|(at, _)| at).eq(&positions));
    assert!(read.iter().map(|(_, record)| record).eq(&expected));
    let rest = store.log_read(positions[1], MOMENT).await.unwrap();
    assert_eq!(rest, read[2..]);
    assert_eq!(
        store.log_bounds(soon()).await,
        Ok(LogBounds::Held {
            first: positions[0],
            last: positions[2],
            last_generated: positions[2],
            trimmed: Trimmed::Nothing,
            added: Some(3),
        })
    );
}

#[tokio::test]
async fn a_trimmed_an_emptied_and_a_lost_log_are_told_apart() {
    let server = Valkey::start();
    let store = store(&server.url());
    let first = append(&store, b"a").await.unwrap();
    let second = append(&store, b"b").await.unwrap();
    assert!(first < second);

    server.command(&["XTRIM", "trc:log", "MAXLEN", "1"]);
    let bounds = store.log_bounds(soon()).await.unwrap();
    let trimmed = LogBounds::Held {
        first: second,
        last: second,
        last_generated: second,
        trimmed: Trimmed::Some,
        added: Some(2),
    };
    // A server before version 7 says so of any log.
    assert_eq!(bounds, trimmed);

    server.command(&["XTRIM", "trc:log", "MAXLEN", "0"]);
    let empty = LogBounds::Empty {
        last_generated: second,
        added: Some(2),
    };
    assert_eq!(store.log_bounds(soon()).await, Ok(empty));

    server.command(&["FLUSHALL"]);
    assert_eq!(store.log_bounds(soon()).await, Ok(LogBounds::Missing));
    assert_eq!(LogBounds::Missing.last_generated(), LogPosition::ZERO);
}

#[tokio::test]
async fn the_log_stays_bounded() {
    let server = Valkey::start();
    let store = ValkeyStore::new({
        let mut settings = settings(&server.url());
        settings.log_max_records = 100;
        settings.prefix = "app".to_owned();
        settings
    });
    for _ in 0..1000 {
        append(&store, b"r").await.unwrap();
    }
    let length: u64 = server.command(&["XLEN", "app:log"]).parse().unwrap();
    assert!((100..=300).contains(&length), "{length}");
}

#[tokio::test]
async fn a_long_log_is_read_in_parts() {
    let server = Valkey::start();
    let store = store(&server.url());
    let mut last = LogPosition::ZERO;
    for _ in 0..2500 {
        last = append(&store, b"r").await.unwrap();
    }
    let (mut after, mut total, mut reads) = (LogPosition::ZERO, 0, 0);
    while after < last {
        let records = store.log_read(after, MOMENT).await.unwrap();
        after = records.last().expect("records up to the last").0;
        total += records.len();
        reads += 1;
    }
    assert_eq!((total, reads), (2500, 3));
}

#[tokio::test]
async fn a_record_wakes_the_reader_and_commands_do_not_wait_behind_it() {
    let server = Valkey::start();
    let (reader, writer) = (store(&server.url()), store(&server.url()));
    let mut read = pin!(reader.log_read(LogPosition::ZERO, MINUTE));
    let blocked = eventually("a blocked reader", PATIENCE, || {
        let still_waiting = poll_once(read.as_mut()).is_pending();
        let blocked = server
            .command(&["INFO", "clients"])
            .contains("blocked_clients:1");
        async move {
            assert!(still_waiting);
            tokio::task::yield_now().await;
            blocked
        }
    });
    blocked.await;
    assert_eq!(get(&reader, "k").await, Ok(None));
    let position = append(&writer, b"r").await.unwrap();
    let records = tokio::time::timeout_at(soon(), read).await.unwrap();
    assert_eq!(records, Ok(vec![(position, "r".into())]));
}

#[tokio::test]
async fn a_reader_given_up_leaves_nothing_blocked() {
    let server = Valkey::start();
    let store = store(&server.url());
    for _ in 0..3 {
        let read = store.log_read(LogPosition::ZERO, MINUTE);
        let given_up = tokio::time::timeout(Duration::from_millis(50), read).await;
        assert!(given_up.is_err());
    }
    eventually("no blocked clients", PATIENCE, || async {
        server
            .command(&["INFO", "clients"])
            .contains("blocked_clients:0")
    })
    .await;
}

#[tokio::test]
async fn the_reader_survives_a_restart_without_spinning() {
    let mut server = Valkey::start();
    let store = store(&server.url());
    store.log_read(LogPosition::ZERO, MOMENT).await.unwrap();
    server.kill();
    let started = Instant::now();
    let mut failures = 0;
    while started.elapsed() < Duration::from_millis(500) {
        assert!(
            store
                .log_read(LogPosition::ZERO, 10 * MOMENT)
                .await
                .is_err()
        );
        failures += 1;
    }
    assert!(failures <= 15, "{failures}");
    server.start_again();
    let took = eventually("a reader", PATIENCE, || async {
        store.log_read(LogPosition::ZERO, MOMENT).await.is_ok()
    })
    .await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}
