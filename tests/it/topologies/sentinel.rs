//! Primaries that Sentinels name.

use std::time::Duration;

use tokio::time::Instant;
use tower_response_cache::{LogPosition, SharedStore, ValkeyStore};

use super::PATIENCE;
use crate::support::eventually;
use crate::support::proxy::{Mode, Proxy};
use crate::support::sentinel::Sentinel;
use crate::support::store::{MINUTE, append, set, settings};
use crate::support::valkey::Valkey;

/// Waits until writes succeed, and tells how long that took.
async fn until_written(store: &ValkeyStore) -> Duration {
    eventually("a write", PATIENCE, || async {
        let deadline = Instant::now() + Duration::from_millis(200);
        let written = store.set("k", "v".into(), MINUTE, deadline);
        written.await.is_ok()
    })
    .await
}

#[tokio::test]
async fn the_primary_is_found_through_sentinels_of_which_some_are_dead() {
    let primary = Valkey::start();
    let sentinel = Sentinel::watching(&primary);
    let dead = Valkey::reserve();
    let mute = Proxy::to(sentinel.port()).await;
    mute.set(Mode::Mute);
    let url = format!(
        "valkey-sentinel://127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}/main/3",
        dead.port(),
        mute.port(),
        sentinel.port()
    );
    let store = ValkeyStore::new(settings(&url));
    set(&store, "k", "v").await.unwrap();
    let keyspace = primary.command(&["INFO", "keyspace"]);
    assert!(keyspace.contains("db3:keys=1"), "{keyspace}");
}

#[tokio::test]
async fn an_unknown_name_of_a_primary_is_said() {
    let primary = Valkey::start();
    let sentinel = Sentinel::watching(&primary);
    let url = sentinel.url().replace("/main", "/other");
    let store = ValkeyStore::new(settings(&url));
    assert!(set(&store, "k", "v").await.is_err());
    let error = store.health().last_error.unwrap();
    assert!(error.contains("no primary of that name"), "{error}");
}

#[tokio::test]
async fn a_dead_primary_is_replaced_by_its_successor() {
    let (sentinel, mut primary, replica) = Sentinel::with_pair();
    let store = ValkeyStore::new(settings(&sentinel.url()));
    set(&store, "k", "v").await.unwrap();
    let position = append(&store, b"r").await.unwrap();
    store
        .log_read(position, Duration::from_millis(5))
        .await
        .unwrap();

    primary.kill();
    let started = Instant::now();
    eventually("the successor", PATIENCE, || async {
        replica.command(&["ROLE"]).starts_with("master")
    })
    .await;
    let took = until_written(&store).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    eventually("the log", PATIENCE, || async {
        let read = store.log_read(LogPosition::ZERO, Duration::from_millis(50));
        read.await.is_ok_and(|records| records.len() == 1)
    })
    .await;
    assert!(started.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_demoted_primary_is_left_for_its_successor() {
    let (sentinel, _primary, replica) = Sentinel::with_pair();
    let store = ValkeyStore::new(settings(&sentinel.url()));
    set(&store, "k", "v").await.unwrap();
    eventually("a failover", PATIENCE, || async {
        sentinel.command(&["SENTINEL", "FAILOVER", "main"]) == "OK"
    })
    .await;
    eventually("the successor", PATIENCE, || async {
        replica.command(&["ROLE"]).starts_with("master")
    })
    .await;
    eventually("a write to the successor", PATIENCE, || async {
        let deadline = Instant::now() + Duration::from_millis(200);
        let _written = store.set("new", "v".into(), MINUTE, deadline).await;
        replica.command(&["EXISTS", "new"]) == "1"
    })
    .await;
}

#[tokio::test]
async fn a_primary_that_is_cut_off_from_its_sentinels_is_left_as_well() {
    let old = Valkey::start();
    let new = Valkey::start();
    let sentinel = Sentinel::watching(&old);
    let store = ValkeyStore::new(settings(&sentinel.url()));
    set(&store, "k", "v").await.unwrap();
    store
        .log_read(LogPosition::ZERO, Duration::from_millis(5))
        .await
        .unwrap();
    // The old one goes on and takes writes; only the Sentinel knows better.
    let port = new.port().to_string();
    sentinel.command(&["SENTINEL", "REMOVE", "main"]);
    sentinel.command(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"]);
    eventually("a write to the new one", PATIENCE, || async {
        let deadline = Instant::now() + Duration::from_millis(200);
        let _written = store.set("k", "v".into(), MINUTE, deadline).await;
        new.command(&["EXISTS", "k"]) == "1"
    })
    .await;
    let position = append(&store, b"r").await.unwrap();
    eventually("the new one's log", PATIENCE, || async {
        let read = store.log_read(LogPosition::ZERO, Duration::from_millis(50));
        read.await
            .is_ok_and(|records| records.first().is_some_and(|(at, _)| *at == position))
    })
    .await;
}
