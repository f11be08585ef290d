//! A server that is away, slow, full, or sends wrong replies.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tower_response_cache::{BreakerState, SharedStore, StoreError, StoreState, ValkeyStore};

use super::{BUDGET, PATIENCE, budget, join_all, poll_once};
use crate::support::eventually;
use crate::support::logs::Logs;
use crate::support::proxy::{Mode, Proxy, Tamper};
use crate::support::store::{MINUTE, append, get, set, settings, soon, store};
use crate::support::valkey::Valkey;

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

/// Each operation costs its deadline at most, and the breaker spares most of them that.
async fn assert_silence_costs_little(store: &ValkeyStore) {
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
}

/// A server behind a proxy, and a store that has something there and a connection by the proxy.
async fn behind_proxy() -> (Valkey, Proxy, ValkeyStore) {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let store = store(&server.tcp_url_at(proxy.port()));
    set(&store, "k", "v").await.unwrap();
    (server, proxy, store)
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
    assert_silence_costs_little(&store).await;
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
    assert_silence_costs_little(&store).await;
    until_state(&store, StoreState::Unreachable).await;
    server.resume();
    let took = until_hit(&store, "k").await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_half_open_connection_is_replaced() {
    let (_server, proxy, store) = behind_proxy().await;
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
    let (server, proxy, store) = behind_proxy().await;
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
    let (_server, proxy, store) = behind_proxy().await;
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
    assert_eq!(append(&store, b"r").await, Err(StoreError::Full));
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
    let (_server, proxy, store) = behind_proxy().await;
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
    let (_server, proxy, store) = behind_proxy().await;
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
        let (_server, proxy, store) = behind_proxy().await;
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
    let (_server, proxy, store) = behind_proxy().await;
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

/// What a loaded machine may add to a deadline.
const SLACK: Duration = Duration::from_millis(150);
