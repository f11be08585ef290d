//! The Valkey client against a real server.

mod log;
mod unwell;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tower_response_cache::{
    BreakerState, ChaosStore, LogPosition, SharedStore, StoreError, StoreState, ValkeyStore,
};

use crate::support::eventually;
use crate::support::proxy::Proxy;
use crate::support::store::{MINUTE, append, get, set, settings, soon, store};
use crate::support::valkey::Valkey;

/// The budget of a request.
fn budget() -> Instant {
    Instant::now() + BUDGET
}

#[tokio::test]
async fn values_are_kept_for_their_time_and_removed() {
    let server = Valkey::start();
    for url in [server.url(), server.tcp_url()] {
        let store = store(&url);
        assert_eq!(store.health().state, StoreState::Idle);
        assert_eq!(get(&store, "k").await, Ok(None));
        assert_eq!(store.health().state, StoreState::Ready);

        let value = Bytes::from_static(b"\0\r\n\xff");
        let ttl = Duration::from_millis(90_500);
        store.set("k", value.clone(), ttl, soon()).await.unwrap();
        assert_eq!(get(&store, "k").await, Ok(Some(value)));
        let left: u64 = server.command(&["PTTL", "k"]).parse().unwrap();
        assert!((80_000..=90_500).contains(&left), "{left}");

        set(&store, "l", "").await.unwrap();
        // As if it were not there.
        assert_eq!(get(&store, "l").await, Ok(None));
        let keys = ["k", "l", "m"].map(str::to_owned);
        assert_eq!(store.remove(&keys, soon()).await, Ok(2));
        assert_eq!(store.remove(&[], soon()).await, Ok(0));
        assert_eq!(get(&store, "k").await, Ok(None));

        assert!(store.ping(soon()).await.unwrap() < Duration::from_secs(5));
        assert_eq!(store.health().dials, 1);
    }
}

#[tokio::test]
async fn a_value_expires_by_the_millisecond() {
    let server = Valkey::start();
    let store = store(&server.url());
    for millis in [1501, 90_499] {
        let ttl = Duration::from_millis(millis);
        let before = now(&server);
        store.set("k", "v".into(), ttl, soon()).await.unwrap();
        let set = before..=now(&server);
        let expires: u64 = server.command(&["PEXPIRETIME", "k"]).parse().unwrap();
        assert!(
            set.contains(&(expires - millis)),
            "{expires}, set in {set:?}"
        );
    }

    let ttl = Duration::from_millis(30);
    let before = now(&server);
    store.set("k", "v".into(), ttl, soon()).await.unwrap();
    eventually("expiry", PATIENCE, || async {
        get(&store, "k").await == Ok(None)
    })
    .await;
    let lived = now(&server) - before;
    assert!(lived >= 30, "{lived} ms");
}

#[tokio::test]
async fn a_large_value_comes_back_whole() {
    let server = Valkey::start();
    let store = store(&server.tcp_url());
    let value = Bytes::from(
        (0..8 << 20)
            .map(|i: u32| (i % 251) as u8)
            .collect::<Vec<_>>(),
    );
    store.set("k", value.clone(), MINUTE, soon()).await.unwrap();
    assert!(get(&store, "k").await.unwrap().unwrap() == value);
}

#[tokio::test]
async fn a_value_that_is_too_long_is_an_error_of_that_key_alone() {
    let server = Valkey::start();
    let mut settings = settings(&server.tcp_url());
    settings.longest_value = 1000;
    let store = ValkeyStore::new(settings);
    for (length, expected) in [(1000, Ok(())), (1001, Err(StoreError::TooLong))] {
        let value = Bytes::from(vec![b'x'; length]);
        store.set("k", value, MINUTE, soon()).await.unwrap();
        for _ in 0..10 {
            assert_eq!(get(&store, "k").await.map(drop), expected);
        }
    }
    store.set("j", "v".into(), MINUTE, soon()).await.unwrap();
    assert_eq!(get(&store, "j").await, Ok(Some("v".into())));
    assert_eq!(store.health().read_breaker, BreakerState::Closed);
    assert_eq!(store.health().dials, 1);
}

#[tokio::test]
async fn a_reply_that_announces_far_too_much_ends_the_connection_before_it_is_read() {
    let server = Valkey::start();
    let store = store(&server.tcp_url());
    set(&store, "j", "v").await.unwrap();
    server.command(&["SETRANGE", "k", "67108864", "x"]);
    assert_eq!(get(&store, "k").await, Err(StoreError::Unavailable));
    // From now on no more than that is asked for, so that the others are not cut off as well.
    eventually("the next connection", PATIENCE, async || {
        store.ping(soon()).await.is_ok()
    })
    .await;
    assert_eq!(get(&store, "k").await, Err(StoreError::TooLong));
    assert_eq!(get(&store, "j").await, Ok(Some("v".into())));
    assert_eq!(get(&store, "k").await, Err(StoreError::TooLong));
    assert_eq!(store.health().dials, 2);
    // The sockets hold some.
    let stats = server.command(&["INFO", "stats"]);
    let sent = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    let sent: u64 = sent.unwrap().parse().unwrap();
    assert!(sent < 32 << 20, "{sent} bytes were sent");
}

#[tokio::test]
async fn many_tasks_share_one_connection() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = store(&server.tcp_url_at(proxy.port()));
    let keys = (0..200).map(|i| format!("k{i}")).collect::<Vec<_>>();
    let write = |key: &String| {
        let value = Bytes::from(key.clone());
        let (store, key) = (&store, key.clone());
        async move { store.set(&key, value, MINUTE, soon()).await }
    };
    join_all(keys.iter().map(write)).await;
    let read = |key: &String| {
        let (store, key) = (&store, key.clone());
        async move {
            let value = get(store, &key).await?;
            assert_eq!(value, Some(Bytes::from(key)));
            Ok(())
        }
    };
    join_all(keys.iter().map(read)).await;
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn each_operation_is_one_round_trip() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = store(&server.tcp_url_at(proxy.port()));
    store.ping(soon()).await.unwrap();
    let before = proxy.commands();
    set(&store, "k", "v").await.unwrap();
    get(&store, "k").await.unwrap();
    store.remove(&["k".to_owned()], soon()).await.unwrap();
    append(&store, b"r").await.unwrap();
    assert_eq!(proxy.commands() - before, 4);
    // About once a second the server is asked for its role as well.
    store.log_bounds(soon()).await.unwrap();
    assert_eq!(proxy.commands() - before, 6);
}

#[tokio::test]
async fn every_spelling_of_a_url_leads_to_the_server() {
    let server = Valkey::start_with_password("secret");
    let (tcp, unix) = (server.tcp_url(), server.url());
    let by_name = tcp.replace(":secret@", "default:secret@");
    let urls = [
        tcp.replace("valkey://", "redis://"),
        tcp.replace("valkey://", "VALKEY://"),
        by_name + "/3?protocol=3",
        unix.replace("unix://", "valkey+unix://"),
        unix.replace("unix://", "redis+unix://") + "&user=default&db=2",
    ];
    for url in urls {
        let store = store(&url);
        assert_eq!(set(&store, "k", "v").await, Ok(()), "{url}");
        assert_eq!(get(&store, "k").await, Ok(Some("v".into())), "{url}");
    }
}

#[tokio::test]
async fn chaos_comes_as_often_as_it_is_asked_for() {
    let server = Valkey::start();
    let chaos = || ChaosStore::new(Arc::new(store(&server.url())), 7);
    let read = async |chaos: &ChaosStore, key: &str| chaos.get(key, soon()).await;
    let faithful = chaos()
        .failures(0.0)
        .delays(0.0, MINUTE)
        .corruption(0.0)
        .crossed_replies(0.0);
    for key in ["k", "l"] {
        faithful.set(key, key.into(), MINUTE, soon()).await.unwrap();
    }
    for _ in 0..50 {
        assert_eq!(read(&faithful, "k").await, Ok(Some("k".into())));
    }
    let (failing, corrupting) = (chaos().failures(1.0), chaos().corruption(1.0));
    let crossing = chaos().crossed_replies(1.0);
    read(&crossing, "l").await.unwrap();
    for _ in 0..50 {
        assert_eq!(read(&failing, "k").await, Err(StoreError::Unavailable));
        assert_ne!(read(&corrupting, "k").await.unwrap(), Some("k".into()));
    }
    assert_eq!(read(&crossing, "k").await, Ok(Some("l".into())));
    let slow = chaos().delays(1.0, 1_000_000 * MINUTE);
    let budget = Instant::now() + Duration::from_millis(1);
    assert_eq!(slow.get("k", budget).await, Err(StoreError::TimedOut));
}

#[test]
fn a_store_outlives_the_runtimes_that_it_is_used_on() {
    let server = Valkey::start();
    let store = store(&server.url());
    for round in 1..=3 {
        let runtime = Runtime::new().unwrap();
        // The very first operation succeeds on each.
        runtime.block_on(set(&store, "k", "v")).unwrap();
        assert_eq!(store.health().dials, round);
    }
}

#[test]
fn without_a_runtime_an_operation_fails_and_does_not_panic() {
    let server = Valkey::start();
    let store = store(&server.url());
    let unavailable = || {
        let first = poll_once(pin!(store.get("k", soon())).as_mut());
        assert_eq!(first, Poll::Ready(Err(StoreError::Unavailable)));
        let read = pin!(store.log_read(LogPosition::ZERO, MINUTE));
        let read = poll_once(read);
        assert_eq!(read, Poll::Ready(Err(StoreError::Unavailable)));
    };
    unavailable();
    Runtime::new()
        .unwrap()
        .block_on(set(&store, "k", "v"))
        .unwrap();
    unavailable();
    store.note_mismatch("k");
    drop(store);
}

#[tokio::test]
async fn a_dropped_store_closes_its_connections() {
    let server = Valkey::start();
    let store = store(&server.url());
    let clients = || server.command(&["CLIENT", "LIST"]).lines().count() - 1;
    store.ping(soon()).await.unwrap();
    store.log_read(LogPosition::ZERO, MOMENT).await.unwrap();
    assert_eq!(clients(), 2);
    drop(store);
    eventually("no clients", PATIENCE, || async { clients() == 0 }).await;
}

#[tokio::test]
async fn the_connection_is_at_hand_for_other_commands() {
    let server = Valkey::start();
    let store = store(&server.url());
    assert!(store.connection().is_none());
    set(&store, "k", "v").await.unwrap();
    let mut connection = store.connection().unwrap();
    let reply = connection
        .send_packed_command(redis::cmd("EXISTS").arg("k"))
        .await;
    assert_eq!(reply, Ok(redis::Value::Int(1)));
}

#[tokio::test]
async fn the_password_and_the_database_of_a_url_are_used() {
    let server = Valkey::start_with_password("p%40ss");
    server.command(&["CONFIG", "SET", "requirepass", "p@ss"]);
    let url = format!("{}/3", server.tcp_url());
    let store = store(&url);
    set(&store, "k", "v").await.unwrap();
    assert!(format!("{:?}", store.health()).contains("Ready"));
    let other = ValkeyStore::new(settings(&server.tcp_url()));
    assert_eq!(get(&other, "k").await, Ok(None), "another database");
}

/// The server's clock, in milliseconds.
fn now(server: &Valkey) -> u64 {
    let time = server.command(&["TIME"]);
    let (secs, micros) = time.split_once('\n').unwrap();
    secs.parse::<u64>().unwrap() * 1000 + micros.parse::<u64>().unwrap() / 1000
}

/// All at once on one task; panics at the first error.
async fn join_all<F>(futures: impl Iterator<Item = F>)
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut pending = futures.map(Box::pin).collect::<Vec<_>>();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(result) => {
                result.unwrap();
                false
            }
            Poll::Pending => true,
        });
        match pending.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

const BUDGET: Duration = Duration::from_millis(50);

const MOMENT: Duration = Duration::from_millis(5);

const PATIENCE: Duration = Duration::from_secs(10);
