//! The Valkey client against a real server, well and unwell.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tower_response_cache::{
    BreakerState, ChaosStore, LogBounds, LogPosition, SharedStore, StoreError, StoreState, Trimmed,
    ValkeyStore,
};

use crate::support::eventually;
use crate::support::logs::Logs;
use crate::support::proxy::{Mode, Proxy, Tamper};
use crate::support::store::{MINUTE, get, set, settings, soon, store};
use crate::support::valkey::Valkey;

/// The budget of a request.
fn budget() -> Instant {
    Instant::now() + BUDGET
}

/// Waits until reads hit, and tells how long that took.
async fn until_hit(store: &ValkeyStore, key: &str) -> Duration {
    eventually("a hit", PATIENCE, || async {
        matches!(store.get(key, budget()).await, Ok(Some(_)))
    })
    .await
}

async fn until_state(store: &ValkeyStore, state: StoreState) -> Duration {
    eventually(state.name(), PATIENCE, || async {
        store.health().state == state
    })
    .await
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
    let ttl = Duration::from_millis(30);
    store.set("k", "v".into(), ttl, soon()).await.unwrap();
    eventually("expiry", PATIENCE, || async {
        get(&store, "k").await == Ok(None)
    })
    .await;
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
    store.log_append(b"r", soon()).await.unwrap();
    assert_eq!(proxy.commands() - before, 4);
    // About once a second the server is asked for its role as well.
    store.log_bounds(soon()).await.unwrap();
    assert_eq!(proxy.commands() - before, 6);
}

#[tokio::test]
async fn a_server_that_comes_up_later_is_found_within_two_seconds() {
    let mut server = Valkey::reserve();
    let store = store(&server.tcp_url());
    assert_eq!(store.get("k", budget()).await, Err(StoreError::Unavailable));
    until_state(&store, StoreState::Unreachable).await;

    let started = Instant::now();
    for _ in 0..1000 {
        assert_eq!(store.get("k", budget()).await, Err(StoreError::Unavailable));
    }
    assert!(
        started.elapsed() < Duration::from_millis(200),
        "not at once"
    );

    server.start_again();
    // Without any traffic.
    let took = until_state(&store, StoreState::Ready).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(get(&store, "k").await, Ok(None));
}

#[tokio::test]
async fn a_server_that_is_down_is_dialled_at_a_measured_pace() {
    let server = Valkey::reserve();
    let store = store(&server.tcp_url());
    let started = Instant::now();
    while store.health().dials < 3 {
        let _down = store.get("k", budget()).await;
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(1), "{started:?}");
}

#[tokio::test]
async fn a_killed_server_is_found_again_and_each_change_is_one_line() {
    let logs = Logs::capture();
    let mut server = Valkey::start();
    let store = store(&server.url());
    set(&store, "k", "v").await.unwrap();
    for _ in 0..2 {
        server.kill();
        until_state(&store, StoreState::Unreachable).await;
        for _ in 0..100 {
            assert_eq!(store.get("k", budget()).await, Err(StoreError::Unavailable));
        }
        server.start_again();
        server.command(&["SET", "k", "v"]);
        let took = until_hit(&store, "k").await;
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    let lines = logs.lines();
    let of = |level| lines.iter().filter(|line| line.starts_with(level)).count();
    assert_eq!(
        (of("INFO"), of("WARN"), lines.len()),
        (3, 2, 5),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let logs = Logs::capture();
    let server = Valkey::start_with_password("correct-horse");
    let url = server.tcp_url().replace("correct-horse", "battery-staple");
    let wrong = store(&url);
    let _first = wrong.get("k", soon()).await;
    until_state(&wrong, StoreState::Refused).await;
    assert_eq!(wrong.get("k", budget()).await, Err(StoreError::Refused));
    let error = wrong
        .set("k", "v".into(), MINUTE, budget())
        .await
        .unwrap_err();

    let told = format!(
        "{wrong:?} {error} {error:?} {:?} {:?}",
        wrong.health(),
        logs.lines()
    );
    assert!(told.contains("WRONGPASS"), "{told}");
    assert!(!told.contains("battery"), "{told}");

    let right = store(&server.tcp_url());
    set(&right, "k", "v").await.unwrap();
    assert!(!format!("{right:?} {:?}", logs.lines()).contains("horse"));
}

#[tokio::test]
async fn a_mute_server_at_the_start_costs_no_more_than_the_deadline() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    proxy.set(Mode::Mute);
    let store = store(&server.tcp_url_at(proxy.port()));
    let started = Instant::now();
    for _ in 0..100 {
        let start = Instant::now();
        assert!(store.get("k", budget()).await.is_err());
        assert!(start.elapsed() < BUDGET + SLACK, "{:?}", start.elapsed());
    }
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "the breaker spares most of it"
    );
    until_state(&store, StoreState::Unreachable).await;

    proxy.set(Mode::Forward);
    let took = eventually("an answer", PATIENCE, || async {
        store.get("k", budget()).await.is_ok()
    })
    .await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_stopped_server_costs_no_more_than_the_deadline_and_is_found_again() {
    let server = Valkey::start();
    let store = store(&server.url());
    set(&store, "k", "v").await.unwrap();
    server.pause();
    let started = Instant::now();
    for _ in 0..100 {
        let start = Instant::now();
        assert!(store.get("k", budget()).await.is_err());
        assert!(start.elapsed() < BUDGET + SLACK, "{:?}", start.elapsed());
    }
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    until_state(&store, StoreState::Unreachable).await;
    server.resume();
    let took = until_hit(&store, "k").await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_half_open_connection_is_replaced() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = store(&server.tcp_url_at(proxy.port()));
    set(&store, "k", "v").await.unwrap();
    proxy.blackhole_existing();
    let took = until_hit(&store, "k").await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_slow_server_costs_one_connection_and_not_one_after_the_other() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = ValkeyStore::new({
        let mut settings = settings(&server.tcp_url_at(proxy.port()));
        settings.failures_until_open = u32::MAX;
        settings
    });
    set(&store, "k", "v").await.unwrap();
    proxy.set(Mode::Latency(BUDGET * 2, Duration::ZERO));
    let ask = async || store.get("k", budget()).await;
    let replaced = async || ask().await.is_err() && proxy.connections() == 2;
    eventually("another connection", PATIENCE, replaced).await;
    let timed_out = async || ask().await == Err(StoreError::TimedOut);
    for _ in 0..15 {
        eventually("a connection", PATIENCE, timed_out).await;
    }
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn one_pause_with_many_commands_under_way_does_not_cost_the_connection() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = store(&server.tcp_url_at(proxy.port()));
    set(&store, "k", "v").await.unwrap();
    server.pause();
    let late = |_| async {
        assert_eq!(store.get("k", budget()).await, Err(StoreError::TimedOut));
        Ok(())
    };
    join_all((0..50).map(late)).await;
    server.resume();
    until_hit(&store, "k").await;
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_slow_server_opens_the_breaker_and_closes_it_when_fast_again() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = store(&server.tcp_url_at(proxy.port()));
    set(&store, "k", "v").await.unwrap();
    proxy.set(Mode::Delay(Duration::from_millis(80)));
    // Patient callers: every operation succeeds, too late to be of use.
    for _ in 0..5 {
        assert!(matches!(get(&store, "k").await, Ok(Some(_))));
    }
    assert_eq!(store.health().read_breaker, BreakerState::Open);
    assert_eq!(get(&store, "k").await, Err(StoreError::Suspended));
    assert_eq!(store.health().write_breaker, BreakerState::Closed);
    proxy.set(Mode::Forward);
    let took = until_hit(&store, "k").await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(store.health().read_breaker, BreakerState::Closed);
}

#[tokio::test]
async fn more_operations_than_allowed_are_refused_at_once() {
    let server = Valkey::start();
    let store = ValkeyStore::new({
        let mut settings = settings(&server.url());
        settings.max_in_flight = 1;
        settings
    });
    set(&store, "k", "v").await.unwrap();
    server.pause();
    let mut waiting = pin!(store.get("k", budget()));
    assert!(poll_once(waiting.as_mut()).is_pending());
    assert_eq!(store.get("k", budget()).await, Err(StoreError::Busy));
    assert_eq!(waiting.await, Err(StoreError::TimedOut));
    server.resume();
    until_hit(&store, "k").await;
}

#[tokio::test]
async fn a_replica_serves_reads_while_writes_are_suspended() {
    let server = Valkey::start();
    let store = store(&server.url());
    set(&store, "k", "v").await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    for _ in 0..5 {
        assert_eq!(set(&store, "k", "w").await, Err(StoreError::ReadOnly));
    }
    assert_eq!(store.health().write_breaker, BreakerState::Open);
    assert_eq!(store.health().state, StoreState::ReadOnly);
    assert_eq!(set(&store, "k", "w").await, Err(StoreError::Suspended));
    for _ in 0..100 {
        assert_eq!(get(&store, "k").await, Ok(Some("v".into())));
    }
    server.command(&["REPLICAOF", "NO", "ONE"]);
    let took = eventually("a write", PATIENCE, || async {
        set(&store, "k", "w").await.is_ok()
    })
    .await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(store.health().state, StoreState::Ready);
    assert_eq!(store.health().write_breaker, BreakerState::Closed);
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

#[tokio::test]
async fn a_full_server_serves_reads_and_removals_while_writes_are_suspended() {
    let server = Valkey::start();
    let store = store(&server.url());
    set(&store, "k", "v").await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..5 {
        assert_eq!(set(&store, "l", "w").await, Err(StoreError::Full));
    }
    assert_eq!(store.health().write_breaker, BreakerState::Open);
    assert_eq!(get(&store, "k").await, Ok(Some("v".into())));
    assert_eq!(store.log_append(b"r", soon()).await, Err(StoreError::Full));
    assert_eq!(store.remove(&["k".to_owned()], soon()).await, Ok(1));
    assert_eq!(store.health().write_breaker, BreakerState::Open);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let took = eventually("a write", PATIENCE, || async {
        set(&store, "k", "v").await.is_ok()
    })
    .await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(store.health().dials, 1);
}

#[tokio::test]
async fn a_loading_server_is_waited_for() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = store(&server.tcp_url_at(proxy.port()));
    set(&store, "k", "v").await.unwrap();
    proxy.set(Mode::Reply("-LOADING the dataset is in memory soon\r\n"));
    let error = get(&store, "k").await.unwrap_err();
    assert_eq!(error.name(), "server-error");
    assert!(error.to_string().ends_with("LOADING"), "{error}");
    until_state(&store, StoreState::Loading).await;
    assert_eq!(store.get("k", budget()).await, Err(StoreError::Unavailable));
    proxy.set(Mode::Forward);
    let took = until_hit(&store, "k").await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_value_of_another_type_is_an_error_of_that_key_alone() {
    let server = Valkey::start();
    let store = store(&server.url());
    server.command(&["LPUSH", "list", "v"]);
    for _ in 0..20 {
        let error = get(&store, "list").await.unwrap_err();
        assert!(error.to_string().ends_with("WRONGTYPE"), "{error}");
    }
    assert_eq!(get(&store, "k").await, Ok(None));
    assert_eq!(store.health().dials, 1);
}

#[tokio::test]
async fn slipped_replies_are_stopped_by_one_mismatch() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = store(&server.tcp_url_at(proxy.port()));
    set(&store, "a", "a").await.unwrap();
    set(&store, "b", "b").await.unwrap();
    proxy.tamper(Tamper::Duplicate);
    let (mut a, mut b) = (pin!(get(&store, "a")), pin!(get(&store, "b")));
    let mut c = pin!(get(&store, "a"));
    assert!(poll_once(a.as_mut()).is_pending());
    assert!(poll_once(b.as_mut()).is_pending());
    assert!(poll_once(c.as_mut()).is_pending());
    assert_eq!(a.await, Ok(Some("a".into())));
    assert_eq!(b.await, Ok(Some("a".into())), "the slip");
    store.note_mismatch("k");
    assert_eq!(c.await, Err(StoreError::Unavailable), "not trusted");
    assert_eq!(store.health().mismatches, 1);
    until_hit(&store, "b").await;
    for _ in 0..100 {
        assert_eq!(get(&store, "b").await, Ok(Some("b".into())));
    }
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn replies_that_do_not_fit_replace_the_connection() {
    let misfits = [
        Tamper::Replace("+OK\r\n"),
        Tamper::Replace(":1\r\n"),
        Tamper::Replace("?what\r\n"),
        Tamper::Replace("$99999999\r\nmuch less\r\n"),
        Tamper::Replace("$-7\r\n"),
        Tamper::Drop,
    ];
    for misfit in misfits {
        let server = Valkey::start();
        let proxy = Proxy::to(server.port()).await;
        let store = store(&server.tcp_url_at(proxy.port()));
        set(&store, "k", "v").await.unwrap();
        proxy.tamper(misfit.clone());
        let first = store.get("k", budget()).await;
        assert!(!matches!(first, Ok(Some(_))), "{misfit:?}: {first:?}");
        let took = eventually("only right answers", PATIENCE, || async {
            store.get("k", budget()).await == Ok(Some("v".into()))
        })
        .await;
        assert!(took < Duration::from_secs(2), "{misfit:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_connection_reset_in_the_middle_of_a_value_is_an_error() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = store(&server.tcp_url_at(proxy.port()));
    let value = Bytes::from(vec![b'v'; 100_000]);
    store.set("k", value.clone(), MINUTE, soon()).await.unwrap();
    proxy.set(Mode::ResetAfter(50_000));
    assert!(get(&store, "k").await.is_err());
    proxy.set(Mode::Forward);
    let took = until_hit(&store, "k").await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(get(&store, "k").await.unwrap().unwrap() == value);
}

#[tokio::test]
async fn operations_given_up_do_no_harm() {
    let server = Valkey::start();
    let store = store(&server.url());
    set(&store, "a", "a").await.unwrap();
    set(&store, "b", "b").await.unwrap();
    for _ in 0..500 {
        let _dropped = poll_once(pin!(store.get("a", soon())).as_mut());
        assert_eq!(get(&store, "b").await, Ok(Some("b".into())));
    }
    assert_eq!(store.health().dials, 1);
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
async fn the_log_keeps_its_order() {
    let server = Valkey::start();
    let store = store(&server.url());
    assert_eq!(store.log_bounds(soon()).await, Ok(LogBounds::Missing));
    let read = store.log_read(LogPosition::ZERO, MOMENT).await;
    assert_eq!(read, Ok(Vec::new()));

    let mut positions = Vec::new();
    for record in [&b"a"[..], b"", b"\0\r\n\xff"] {
        positions.push(store.log_append(record, soon()).await.unwrap());
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
    let first = store.log_append(b"a", soon()).await.unwrap();
    let second = store.log_append(b"b", soon()).await.unwrap();
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
        store.log_append(b"r", soon()).await.unwrap();
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
        last = store.log_append(b"r", soon()).await.unwrap();
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
    let position = writer.log_append(b"r", soon()).await.unwrap();
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

/// What a loaded machine may add to a deadline.
const SLACK: Duration = Duration::from_millis(150);

const MOMENT: Duration = Duration::from_millis(5);

const PATIENCE: Duration = Duration::from_secs(10);
