//! The readiness of a cache whose store fails.

use std::time::Duration;

use tower_response_cache::{
    BreakerState, Cache, CacheConfig, Purge, ReadinessState, StoreError, StoreState,
};

use crate::support::eventually;
use crate::support::proxy::{Mode, Proxy};
use crate::support::store::set;
use crate::support::valkey::Valkey;

/// One cache that takes a store at fault for a reason to send requests elsewhere, and one that
/// does not.
fn strict_and_not(url: &str) -> [Cache; 2] {
    [true, false].map(|strict| {
        let config = CacheConfig::builder().url(url).strict_readiness(strict);
        Cache::new(config.build().unwrap())
    })
}

async fn assert_degraded(caches: &[Cache; 2], expected: StoreState) {
    let [strict, lenient] = caches;
    eventually(expected.name(), PATIENCE, || async {
        strict.readiness().await.store_state == expected
    })
    .await;
    eventually(expected.name(), PATIENCE, || async {
        lenient.readiness().await.store_state == expected
    })
    .await;
    let (strict, lenient) = (strict.readiness().await, lenient.readiness().await);
    assert_eq!(strict.state, ReadinessState::Degraded);
    assert_eq!(
        (strict.status().as_u16(), lenient.status().as_u16()),
        (503, 200)
    );
    let json = strict.to_json();
    let named = format!(r#""state":"degraded","store":"{}""#, strict.store);
    assert!(json.contains(&named), "{json}");
    let named = format!(r#""store_state":"{}""#, expected.name());
    assert!(json.contains(&named), "{json}");
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_not_ready() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let loading = "-LOADING Valkey is loading the dataset in memory\r\n";
    proxy.set(Mode::Answer(&["HELLO", "PING"], loading.into()));
    let caches = strict_and_not(&server.tcp_url_at(proxy.port()));
    assert_degraded(&caches, StoreState::Loading).await;
    proxy.set(Mode::Forward);
    for cache in caches {
        eventually("ready", PATIENCE, || async {
            cache.readiness().await.state == ReadinessState::Ready
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_not_ready() {
    let server = Valkey::reserve();
    assert_degraded(&strict_and_not(&server.tcp_url()), StoreState::Unreachable).await;
}

#[tokio::test]
async fn a_server_that_wants_another_password_is_not_ready() {
    let server = Valkey::start_with_password("right");
    let caches = strict_and_not(&server.tcp_url().replace("right", "hunter2"));
    assert_degraded(&caches, StoreState::Refused).await;
    assert!(!caches[0].readiness().await.to_json().contains("hunter2"));
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_not_ready() {
    let server = Valkey::start();
    let caches = strict_and_not(&server.url());
    for cache in &caches {
        assert_eq!(cache.readiness().await.state, ReadinessState::Ready);
    }
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    for cache in &caches {
        assert!(cache.purge(Purge::tag("t")).await.is_err());
    }
    assert_degraded(&caches, StoreState::ReadOnly).await;
}

#[tokio::test]
async fn readiness_tells_that_writes_are_suspended() {
    let server = Valkey::start();
    let config = CacheConfig::builder().url(server.url());
    let cache = Cache::new(config.strict_readiness(true).build().unwrap());
    let store = cache.valkey().unwrap();
    let ready = cache.readiness().await;
    assert_eq!(
        (ready.state, ready.writes),
        (ReadinessState::Ready, BreakerState::Closed)
    );
    assert_eq!(ready.status(), 200);

    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..5 {
        assert_eq!(set(store, "l", "w").await, Err(StoreError::Full));
    }
    let full = cache.readiness().await;
    assert_eq!(full.state, ReadinessState::Degraded);
    assert_eq!(
        (full.reads, full.writes),
        (BreakerState::Closed, BreakerState::Open)
    );
    assert_eq!(
        (full.store_state, full.status().as_u16()),
        (StoreState::Ready, 503)
    );
    let json = full.to_json();
    assert!(
        json.contains(r#""reads":"closed","writes":"open""#),
        "{json}"
    );
}

const PATIENCE: Duration = Duration::from_secs(10);
