//! The application's own values.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tower_response_cache::{Cache, CacheConfig, Clock, Purge, TestClock, ValueOptions};

use crate::support::eventually;
use crate::support::valkey::Valkey;

const MINUTE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);

fn shared(server: &Valkey) -> Cache {
    let config = CacheConfig::builder()
        .url(server.url())
        .operation_timeout(Duration::from_secs(1));
    Cache::new(config.build().unwrap())
}

fn timed() -> (Cache, TestClock) {
    let clock = TestClock::default();
    let config = CacheConfig::builder().clock(clock.clone()).build().unwrap();
    assert!(clock.now().as_millis() > 0);
    (Cache::new(config), clock)
}

#[tokio::test]
async fn values_are_shared_replaced_and_removed_everywhere() {
    let server = Valkey::start();
    let (one, other) = (shared(&server), shared(&server));
    one.set("name", "first", MINUTE).await.unwrap();
    assert_eq!(one.get("name").await.as_deref(), Some(&b"first"[..]));
    assert_eq!(other.get("name").await.as_deref(), Some(&b"first"[..]));
    other.set("name", "second", MINUTE).await.unwrap();
    assert_eq!(other.get("name").await.as_deref(), Some(&b"second"[..]));
    let replaced = async || one.get("name").await.as_deref() == Some(b"second");
    eventually("the new value elsewhere", PATIENCE, replaced).await;
    one.remove("name").await.unwrap();
    assert_eq!(one.get("name").await, None);
    let removed = async || other.get("name").await.is_none();
    eventually("the removal elsewhere", PATIENCE, removed).await;
}

#[tokio::test]
async fn every_value_has_a_lifetime_in_the_store() {
    let server = Valkey::start();
    shared(&server).set("name", "value", MINUTE).await.unwrap();
    let keys = server.command(&["KEYS", "*"]);
    let name = keys.lines().find(|name| !name.contains(":log")).unwrap();
    let ttl: i64 = server.command(&["PTTL", name]).parse().unwrap();
    assert!((1..=60_000).contains(&ttl), "{ttl}");
    assert!(!name.contains("name"), "{name}");
}

#[tokio::test]
async fn a_value_expires_to_the_millisecond() {
    let (cache, clock) = timed();
    cache
        .set("name", "value", Duration::from_millis(1500))
        .await
        .unwrap();
    clock.advance(Duration::from_millis(1499));
    assert!(cache.get("name").await.is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(cache.get("name").await, None);
}

#[tokio::test]
async fn one_caller_makes_what_many_want() {
    let (cache, _clock) = timed();
    let (calls, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (cache, calls, gate) = (cache.clone(), calls.clone(), gate.clone());
        callers.spawn(async move {
            let make = async || {
                calls.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Ok::<_, std::io::Error>("made")
            };
            cache.get_or_set_with("name", MINUTE, make).await.unwrap()
        });
    }
    let called = async || calls.load(Ordering::SeqCst) == 1;
    eventually("someone to make it", PATIENCE, called).await;
    gate.notify_one();
    for value in callers.join_all().await {
        assert_eq!(value, Bytes::from_static(b"made"));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stale_value_stands_in_for_one_that_cannot_be_made() {
    let (cache, clock) = timed();
    let options = ValueOptions::ttl(MINUTE).stale(MINUTE);
    cache.set("name", "old", options.clone()).await.unwrap();
    clock.advance(MINUTE + Duration::from_secs(1));
    assert_eq!(cache.get("name").await, None);
    let fail = async || Err::<Bytes, _>("down");
    let value = cache.get_or_set_with("name", options.clone(), fail).await;
    assert_eq!(value.as_deref(), Ok(&b"old"[..]));
    clock.advance(MINUTE);
    let fail = async || Err::<Bytes, _>("down");
    assert_eq!(
        cache.get_or_set_with("name", options, fail).await,
        Err("down")
    );
}

#[tokio::test]
async fn a_purge_while_a_value_is_made_wins() {
    let (cache, _clock) = timed();
    let options = ValueOptions::ttl(MINUTE).tag("tag");
    let make = async || {
        cache.purge(Purge::tag("tag")).await.unwrap();
        Ok::<_, std::io::Error>("outdated")
    };
    let value = cache.get_or_set_with("name", options, make).await.unwrap();
    assert_eq!(value, "outdated");
    assert_eq!(cache.get("name").await, None);
}
