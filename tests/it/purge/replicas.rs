//! Purges that wait for replicas.

use tower_response_cache::PurgeError;

use super::*;
use crate::support::cluster::{Nodes, Replicas};

fn patient(url: &str, timeout: Duration) -> Cache {
    let config = CacheConfig::builder().url(url).operation_timeout(timeout);
    Cache::new(config.build().unwrap())
}

#[tokio::test]
async fn a_purge_waits_for_as_many_replicas_as_there_are() {
    let (primary, replica) = Valkey::start_pair();
    let cache = patient(&primary.url(), Duration::from_secs(2));
    cache.purge(Purge::tag("a").replicas(1)).await.unwrap();
    assert_eq!(replica.command(&["XLEN", "trc:log"]), "1", "it has it");
    let error = cache.purge(Purge::tag("a").replicas(2)).await.unwrap_err();
    assert_eq!(error.acknowledged(), Some(1), "{error}");
    assert!(!error.is_store() && std::error::Error::source(&error).is_none());
    cache.purge(Purge::tag("a").replicas(1)).await.unwrap();
    assert_eq!(primary.command(&["XLEN", "trc:log"]), "3");
    // One for commands, one that reads the log, one that waits for replicas; and this one.
    let clients = primary.command(&["CLIENT", "LIST", "TYPE", "normal"]);
    assert_eq!(clients.lines().count(), 4, "{clients}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_of_the_replica_the_purge_is_in_force_and_nobody_else_waits() {
    let (primary, replica) = Valkey::start_pair();
    let origin: Arc<Origin> = Arc::default();
    let (one, other) = warm(&origin, &primary.url(), "/tagged").await;
    one.cache
        .purge(Purge::tag("none").replicas(1))
        .await
        .unwrap();
    replica.pause();
    origin.version.store(1, Ordering::SeqCst);
    let began = Instant::now();
    let purge = tokio::spawn({
        let cache = one.cache.clone();
        async move { cache.purge(Purge::tag("thing").replicas(1)).await }
    });
    let there = async || other.see("/tagged").await.0 == 1;
    eventually("the purge elsewhere", PATIENCE, there).await;
    for _ in 0..100 {
        one.cache.ping().await.unwrap();
    }
    assert!(!purge.is_finished(), "commands waited with it");
    let error = purge.await.unwrap().unwrap_err();
    assert_eq!(error.acknowledged(), Some(0), "{error}");
    assert!(error.to_string().contains("in force"), "{error}");
    // The operation timeout of a second, and what a busy machine adds.
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(one.see("/tagged").await.0, 1);
    replica.resume();
    one.cache
        .purge(Purge::tag("thing").replicas(1))
        .await
        .unwrap();
}

/// A purge given up leaves the server blocked on its connection, which must not be used again.
#[tokio::test]
async fn a_purge_that_is_given_up_leaves_nothing_behind() {
    let (primary, replica) = Valkey::start_pair();
    let cache = patient(&primary.url(), Duration::from_secs(5));
    cache.purge(Purge::tag("a").replicas(1)).await.unwrap();
    replica.pause();
    let length = || {
        primary
            .command(&["XLEN", "trc:log"])
            .parse::<u64>()
            .unwrap()
    };
    for _ in 2..30 {
        let purge = cache.purge(Purge::tag("a").replicas(1));
        let before = length();
        let appended = async {
            let there = async || length() > before;
            eventually("the record", PATIENCE, there).await;
        };
        tokio::select! {
            done = purge => panic!("{done:?}"),
            () = appended => {}
        }
    }
    replica.resume();
    cache.purge(Purge::tag("a").replicas(1)).await.unwrap();
    let connections = async || {
        let clients = primary.command(&["CLIENT", "LIST", "TYPE", "normal"]);
        clients.lines().count() <= 4
    };
    eventually("the connections to end", PATIENCE, connections).await;
}

#[tokio::test]
async fn a_server_that_does_not_permit_the_wait_has_the_purge_all_the_same() {
    let server = Valkey::start();
    let rule = ["ACL", "SETUSER", "app", "on", ">x", "~*", "+@all", "-wait"];
    assert_eq!(server.command(&rule), "OK");
    let url = server.tcp_url().replace("//", "//app:x@");
    let cache = patient(&url, Duration::from_secs(2));
    let error = cache.purge(Purge::tag("a").replicas(1)).await.unwrap_err();
    assert_eq!(error.acknowledged(), Some(0), "{error}");
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
    assert_eq!(server.command(&["XLEN", "trc:log"]), "1");
}

#[tokio::test]
async fn without_a_server_nothing_is_appended() {
    let mut server = Valkey::start();
    let cache = patient(&server.url(), Duration::from_millis(200));
    eventually("the purge", PATIENCE, async || {
        cache.purge(Purge::tag("a")).await.is_ok()
    })
    .await;
    server.kill();
    let error: PurgeError = cache.purge(Purge::tag("a").replicas(1)).await.unwrap_err();
    assert!(error.is_store(), "{error:?}");
    assert_eq!(error.acknowledged(), None);
}

#[tokio::test]
async fn in_memory_there_are_no_replicas() {
    let origin = Arc::default();
    let instance = Instance::in_memory(&origin);
    instance.see("/tagged").await;
    origin.version.store(1, Ordering::SeqCst);
    let purge = Purge::tag("thing").replicas(1);
    let error = instance.cache.purge(purge).await.unwrap_err();
    assert_eq!(error.acknowledged(), Some(0));
    assert_eq!(instance.see("/tagged").await.0, 1, "it is in force");
}

#[tokio::test]
async fn in_a_cluster_the_node_of_the_log_is_asked_for_its_replicas() {
    let nodes = Nodes::start(Replicas::None);
    let cache = patient(&nodes.url(), Duration::from_secs(1));
    eventually("the cluster", PATIENCE, async || cache.ping().await.is_ok()).await;
    let (from, slot) = nodes.owner("trc:log");
    let error = cache.purge(Purge::tag("a").replicas(1)).await.unwrap_err();
    assert_eq!(error.acknowledged(), Some(0), "{error:?}");
    assert_eq!(nodes.0[from].command(&["XLEN", "trc:log"]), "1");

    // The slot moves, without the log.
    nodes.0[from].command(&["DEL", "trc:log"]);
    let to = (from + 1) % 3;
    for place in [to, from] {
        nodes.0[place].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &nodes.id(to)]);
    }
    let error = cache.purge(Purge::tag("a").replicas(1)).await.unwrap_err();
    assert_eq!(error.acknowledged(), Some(0), "{error:?}");
    assert_ne!(nodes.0[to].command(&["XLEN", "trc:log"]), "0");
}

#[tokio::test]
async fn purges_of_a_server_that_is_not_there_do_not_dial_it_each() {
    let proxy = Proxy::to(Valkey::reserve().port()).await;
    proxy.set(Mode::Refuse);
    let url = format!("valkey://127.0.0.1:{}", proxy.port());
    let cache = patient(&url, Duration::from_millis(50));
    for _ in 0..100 {
        assert!(cache.purge(Purge::tag("a").replicas(1)).await.is_err());
    }
    let dials = cache.statistics().store.unwrap().dials;
    assert!(dials < 50, "{dials}");
}
