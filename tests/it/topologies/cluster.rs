//! Clusters.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_response_cache::{
    Cache, CacheConfig, CacheLayer, LogPosition, Purge, SharedStore, StoreError, StoreState,
    ValkeyStore,
};

use super::PATIENCE;
use crate::support::cluster::{Nodes, Replicas};
use crate::support::eventually;
use crate::support::proxy::{Mode, Proxy};
use crate::support::store::{MINUTE, append, get, settings, soon};
use crate::support::valkey::Valkey;

/// Thirty keys, some of each node, stored.
pub(super) async fn spread(store: &ValkeyStore) -> Vec<String> {
    let keys = (0..30).map(|i| format!("k{i}")).collect::<Vec<_>>();
    for key in &keys {
        let value = Bytes::from(key.clone());
        store.set(key, value, MINUTE, soon()).await.unwrap();
    }
    keys
}

#[tokio::test]
async fn each_key_of_a_cluster_is_found_on_its_node() {
    let nodes = Nodes::start(Replicas::None);
    let dead = Valkey::reserve();
    let with_a_dead_seed = nodes
        .url()
        .replace("://", &format!("://127.0.0.1:{},", dead.port()));
    for url in [nodes.url(), with_a_dead_seed] {
        let store = ValkeyStore::new(settings(&url));
        let keys = spread(&store).await;
        for key in &keys {
            assert_eq!(get(&store, key).await, Ok(Some(key.clone().into())));
        }
        for node in &nodes.0 {
            assert_ne!(node.command(&["DBSIZE"]), "0");
        }
        assert!(store.ping(soon()).await.is_ok());
        assert_eq!(store.health().state, StoreState::Ready);
        assert_eq!(store.remove(&keys, soon()).await, Ok(30));
    }
}

#[tokio::test]
async fn the_log_of_a_cluster_is_one() {
    let nodes = Nodes::start(Replicas::None);
    let [writer, reader] = [(); 2].map(|()| ValkeyStore::new(settings(&nodes.url())));
    let first = append(&writer, b"a").await.unwrap();
    let second = append(&reader, b"b").await.unwrap();
    assert!(first < second);
    let read = reader.log_read(LogPosition::ZERO, Duration::from_millis(50));
    let read = read.await.unwrap();
    assert!(read.iter().map(|(at, _)| *at).eq([first, second]));
    let bounds = writer.log_bounds(soon()).await.unwrap();
    assert_eq!(bounds.last_generated(), second);
}

#[tokio::test]
async fn a_purge_in_a_cluster_reaches_the_other_instances() {
    let nodes = Nodes::start(Replicas::None);
    let cache = || {
        let config = CacheConfig::builder().url(nodes.url());
        Cache::new(config.operation_timeout(MINUTE / 30).build().unwrap())
    };
    let (one, other) = (cache(), cache());
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let app = CacheLayer::new(one).layer(service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            let response = Response::builder().header("cache-control", "max-age=60");
            Ok::<_, Infallible>(response.body(Body::from("body")).unwrap())
        }
    }));
    let ask = || async {
        let request = Request::get("http://test/").body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap();
        status.contains("; hit")
    };
    eventually("a hit", PATIENCE, ask).await;
    let before = calls.load(Ordering::SeqCst);
    other.purge(Purge::everything()).await.unwrap();
    eventually("a call", PATIENCE, || async {
        ask().await;
        calls.load(Ordering::SeqCst) > before
    })
    .await;
    eventually("a hit", PATIENCE, ask).await;
}

#[tokio::test]
async fn a_value_of_another_key_costs_one_connection_of_a_cluster() {
    let nodes = Nodes::start(Replicas::None);
    let store = ValkeyStore::new(settings(&nodes.url()));
    let keys = spread(&store).await;
    let before = store.health();
    store.note_mismatch(&keys[0]);
    for key in &keys {
        eventually("it is read", PATIENCE, || async {
            store.get(key, soon()).await.is_ok()
        })
        .await;
    }
    let after = store.health();
    assert_eq!(after.mismatches - before.mismatches, 1);
    assert_eq!(after.dials - before.dials, 1);
}

#[tokio::test]
async fn a_slot_that_moved_is_followed() {
    let nodes = Nodes::start(Replicas::None);
    let store = ValkeyStore::new(settings(&nodes.url()));
    spread(&store).await;
    let (from, slot) = nodes.owner("moving");
    let to = (from + 1) % 3;
    nodes.give(&slot, from, to);
    store
        .set("moving", "v".into(), MINUTE, soon())
        .await
        .unwrap();
    assert_eq!(nodes.0[to].command(&["GET", "moving"]), "v");
    assert_eq!(get(&store, "moving").await, Ok(Some("v".into())));
}

/// The map is asked for in the background, so only what follows the redirection itself hits.
#[tokio::test]
async fn a_node_that_is_not_named_is_on_the_host_that_was_asked() {
    let nodes = Nodes::start(Replicas::None);
    for node in &nodes.0 {
        let kind = [
            "CONFIG",
            "SET",
            "cluster-preferred-endpoint-type",
            "unknown-endpoint",
        ];
        node.command(&kind);
    }
    let store = ValkeyStore::new(settings(&nodes.url()));
    let keys = spread(&store).await;
    for key in &keys {
        assert_eq!(get(&store, key).await, Ok(Some(key.clone().into())));
    }
    let (from, slot) = nodes.owner("moving");
    let to = (from + 1) % 3;
    nodes.give(&slot, from, to);
    let written = store.set("moving", "v".into(), MINUTE, soon()).await;
    assert_eq!(written, Ok(()));
    assert_eq!(nodes.0[to].command(&["GET", "moving"]), "v");
}

#[tokio::test]
async fn nodes_that_stay_silent_do_not_hold_up_the_question_where_slots_are() {
    let nodes = Nodes::start(Replicas::None);
    let proxies = nodes.behind_proxies().await;
    let mut settings = settings(&format!("valkey-cluster://127.0.0.1:{}", proxies[0].port()));
    // A node that is asked in vain is waited for longer than this test's patience.
    settings.connect_timeout = PATIENCE * 3;
    let store = ValkeyStore::new(settings);
    let keys = spread(&store).await;
    let (silent, speaks) = ([0, 1], 2);
    for place in silent {
        proxies[place].set(Mode::Mute);
    }
    let lost: Vec<_> = keys
        .iter()
        .filter(|key| nodes.owner(key).0 != speaks)
        .collect();
    let budget = || Instant::now() + Duration::from_millis(50);
    eventually("the silence is noticed", PATIENCE, || async {
        let mut all = true;
        for key in &lost {
            all &= store.get(key, budget()).await == Err(StoreError::Unavailable);
        }
        all
    })
    .await;
    let (from, slot) = nodes.owner(lost[0]);
    nodes.give(&slot, from, speaks);
    eventually("it is asked for where it is", PATIENCE, || async {
        store.get(lost[0], budget()).await == Ok(None)
    })
    .await;
}

#[tokio::test]
async fn a_slot_that_is_moving_is_asked_for_where_it_goes() {
    let nodes = Nodes::start(Replicas::None);
    let store = ValkeyStore::new(settings(&nodes.url()));
    spread(&store).await;
    let (from, slot) = nodes.owner("moving");
    let to = (from + 1) % 3;
    nodes.0[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &nodes.id(from)]);
    nodes.0[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &nodes.id(to)]);
    assert_eq!(get(&store, "moving").await, Ok(None));
    store
        .set("moving", "v".into(), MINUTE, soon())
        .await
        .unwrap();
    assert_eq!(get(&store, "moving").await, Ok(Some("v".into())));
    nodes.settle(&slot, from, to);
    assert_eq!(nodes.0[to].command(&["GET", "moving"]), "v");
    assert_eq!(get(&store, "moving").await, Ok(Some("v".into())));
}

#[tokio::test]
async fn a_dead_node_of_a_cluster_costs_its_own_keys_only() {
    let mut nodes = Nodes::start(Replicas::None);
    let store = ValkeyStore::new(settings(&nodes.url()));
    let keys = spread(&store).await;
    let (of_dead, of_living): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|key| nodes.owner(key).0 == 2);
    nodes.0[2].kill();
    let budget = || Instant::now() + Duration::from_millis(50);
    let started = Instant::now();
    for _ in 0..10 {
        for key in &of_dead {
            assert!(!matches!(store.get(key, budget()).await, Ok(Some(_))));
        }
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    for key in &of_living {
        assert_eq!(get(&store, key).await, Ok(Some(key.clone().into())));
    }
    nodes.0[2].start_again();
    nodes.until_whole();
    eventually("the node", PATIENCE, || async {
        let key = &of_dead[0];
        store.set(key, "v".into(), MINUTE, budget()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_is_elected_has_its_keys_and_its_log() {
    let mut nodes = Nodes::start(Replicas::OneEach);
    let store = ValkeyStore::new(settings(&nodes.url()));
    let (victim, _slot) = nodes.owner("trc:log");
    let keys = spread(&store).await;
    let (of_dead, of_living): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .partition(|key| nodes.owner(key).0 == victim);
    let first = append(&store, b"a").await.unwrap();
    let read = store.log_read(LogPosition::ZERO, Duration::from_millis(50));
    assert_eq!(read.await.unwrap().len(), 1);
    eventually("the copy", PATIENCE, || async {
        nodes.0[victim].command(&["WAIT", "1", "1000"]) == "1"
    })
    .await;

    nodes.0[victim].kill();
    let budget = || Instant::now() + Duration::from_millis(50);
    let until_hit = async || {
        eventually("a hit", PATIENCE, || async {
            // Nothing wrong meanwhile, and nothing of the others lost.
            for key in &of_living {
                let read = store.get(key, soon()).await;
                assert_eq!(read, Ok(Some(key.clone().into())));
            }
            let key = &of_dead[0];
            matches!(store.get(key, budget()).await, Ok(Some(value)) if value == key.as_bytes())
        })
        .await
    };
    nodes.until_elected(victim).await;
    let took = until_hit().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    for key in &of_dead {
        assert_eq!(get(&store, key).await, Ok(Some(key.clone().into())));
    }
    let second = append(&store, b"b").await.unwrap();
    assert!(first < second);
    let read = store.log_read(LogPosition::ZERO, Duration::from_millis(50));
    let read = read.await.unwrap();
    assert!(read.iter().map(|(at, _)| *at).eq([first, second]));
}

#[tokio::test]
async fn seeds_that_stay_silent_are_not_waited_for_again_and_again() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    proxy.set(Mode::Mute);
    let url = format!("valkey-cluster://127.0.0.1:{}", proxy.port());
    let mut settings = settings(&url);
    settings.connect_timeout = Duration::from_secs(60);
    let store = ValkeyStore::new(settings);
    let far = Instant::now() + Duration::from_secs(30);
    assert_eq!(store.get("k", far).await, Err(StoreError::TimedOut));
    // Nobody has answered yet, and nobody waits any more.
    for _ in 0..100 {
        let mut get = store.get("k", far);
        let polled = std::future::poll_fn(|context| Poll::Ready(get.as_mut().poll(context)));
        assert_eq!(polled.await, Poll::Ready(Err(StoreError::Unavailable)));
    }
}

#[tokio::test]
async fn a_cluster_that_is_down_costs_the_budget_once() {
    let dead = [Valkey::reserve(), Valkey::reserve()];
    let [one, two] = dead.each_ref().map(Valkey::port);
    let url = format!("valkey-cluster://127.0.0.1:{one},127.0.0.1:{two}");
    let store = ValkeyStore::new(settings(&url));
    let started = Instant::now();
    for _ in 0..1000 {
        let deadline = Instant::now() + Duration::from_millis(50);
        assert!(store.get("k", deadline).await.is_err());
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}
