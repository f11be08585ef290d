//! TLS, credentials, Sentinel, cluster: the ways in which a server is reached.

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
    Cache, CacheConfig, CacheLayer, CredentialsProvider, LogPosition, Purge, SharedStore,
    StoreError, StoreState, ValkeySettings, ValkeyStore,
};

use crate::support::cluster::{Nodes, Replicas};
use crate::support::eventually;
use crate::support::proxy::{Mode, Proxy};
use crate::support::sentinel::Sentinel;
use crate::support::store::{MINUTE, get, set, settings, soon};
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

#[cfg(feature = "tls")]
mod tls {
    use tower_response_cache::TlsSettings;

    use super::*;
    use crate::support::tls::{Authority, Identity, TempFile, TlsFront};

    fn url(front: &TlsFront) -> String {
        format!("valkeys://localhost:{}", front.port())
    }

    /// The settings of a client that trusts `authority`, and may have a certificate.
    fn trusting(url: &str, authority: &Authority, own: Option<&Identity>) -> ValkeySettings {
        let mut tls = TlsSettings::default();
        tls.ca = Some(authority.pem());
        tls.certificate = own.map(Identity::certificate_pem);
        tls.key = own.map(Identity::key_pem);
        let mut settings = settings(url);
        settings.connect_timeout = Duration::from_secs(5);
        settings.tls = Some(tls);
        settings
    }

    async fn refused(settings: ValkeySettings) -> String {
        let store = ValkeyStore::new(settings);
        assert!(set(&store, "k", "v").await.is_err());
        eventually("the fault", PATIENCE, || async {
            store.health().state == StoreState::Unreachable
        })
        .await;
        store.health().last_error.unwrap()
    }

    #[tokio::test]
    async fn a_server_with_a_certificate_of_a_known_authority_is_used() {
        let server = Valkey::start();
        let authority = Authority::new();
        let front = TlsFront::to(server.port(), &authority.sign("localhost"), None).await;
        let store = ValkeyStore::new(trusting(&url(&front), &authority, None));
        set(&store, "k", "v").await.unwrap();
        let read = store.log_read(LogPosition::ZERO, Duration::from_millis(5));
        assert_eq!(read.await, Ok(Vec::new()));
        assert_eq!(front.handshakes(), 2, "the log is read by TLS as well");
    }

    #[tokio::test]
    async fn certificates_may_be_in_files_that_the_url_names() {
        let server = Valkey::start();
        let authority = Authority::new();
        let clients = Authority::new();
        let identity = authority.sign("localhost");
        let front = TlsFront::to(server.port(), &identity, Some(&clients)).await;
        let own = clients.sign("client");
        let pems = || {
            [authority.pem(), own.certificate_pem(), own.key_pem()].map(|pem| TempFile::with(&pem))
        };
        let settings = |files: &[TempFile; 3]| {
            let [ca, cert, key] = files.each_ref().map(TempFile::path);
            let url = format!("{}?ca={ca}&cert={cert}&key={key}", url(&front));
            let mut settings = settings(&url);
            settings.connect_timeout = Duration::from_secs(5);
            settings
        };
        let files = pems();
        set(&ValkeyStore::new(settings(&files)), "k", "v")
            .await
            .unwrap();

        let gone = settings(&files);
        let path = files[0].path();
        drop(files);
        assert!(refused(gone).await.contains(&path));
    }

    #[tokio::test]
    async fn a_server_of_an_unknown_authority_is_not_used() {
        let server = Valkey::start();
        let authority = Authority::new();
        let front = TlsFront::to(server.port(), &authority.sign("localhost"), None).await;
        let stranger = Authority::new();
        let by_another = trusting(&url(&front), &stranger, None);
        assert!(refused(by_another).await.contains("certificate"));
        let by_browsers = settings(&url(&front));
        assert!(refused(by_browsers).await.contains("certificate"));
        assert_eq!(front.handshakes(), 0);
    }

    #[tokio::test]
    async fn a_certificate_of_another_name_is_not_accepted() {
        let server = Valkey::start();
        let authority = Authority::new();
        let front = TlsFront::to(server.port(), &authority.sign("example.com"), None).await;
        let error = refused(trusting(&url(&front), &authority, None)).await;
        assert!(error.contains("certificate"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_wants_a_certificate_gets_one() {
        let server = Valkey::start();
        let authority = Authority::new();
        let clients = Authority::new();
        let identity = authority.sign("localhost");
        let front = TlsFront::to(server.port(), &identity, Some(&clients)).await;
        let own = clients.sign("client");
        let known = trusting(&url(&front), &authority, Some(&own));
        set(&ValkeyStore::new(known), "k", "v").await.unwrap();
        refused(trusting(&url(&front), &authority, None)).await;
    }

    #[tokio::test]
    async fn nothing_is_sent_in_the_clear_to_a_server_without_tls() {
        let server = Valkey::start();
        let proxy = Proxy::to(server.port()).await;
        let url = format!("valkeys://u:secret@localhost:{}", proxy.port());
        refused(trusting(&url, &Authority::new(), None)).await;
        assert_eq!(proxy.commands(), 0);
    }
}

#[tokio::test]
async fn rotated_credentials_are_asked_for_with_the_next_connection() {
    let server = Valkey::start();
    let allow = |password: &str| {
        let password = format!(">{password}");
        let rule = ["ACL", "SETUSER", "app", "reset", "on", "~trc:*", "+@all"];
        server.command(&[&rule[..], &[&password]].concat());
    };
    allow("one");
    let current = Arc::new(AtomicU32::new(1));
    let mut settings = settings(&server.tcp_url());
    let asked = Arc::clone(&current);
    settings.credentials = Some(CredentialsProvider::new(move || {
        let password = match asked.load(Ordering::SeqCst) {
            1 => "one",
            _ => "two",
        };
        ("app".to_owned(), password.to_owned())
    }));
    let store = ValkeyStore::new(settings);
    let deadline = soon();
    store
        .set("trc:k", "v".into(), MINUTE, deadline)
        .await
        .unwrap();
    // A key that the user may not touch is no fault of the connection.
    assert_eq!(set(&store, "k", "v").await, Err(StoreError::Refused));
    assert_eq!(store.health().state, StoreState::Ready);

    allow("two");
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    eventually("refusal", PATIENCE, || async {
        store.health().state == StoreState::Refused
    })
    .await;
    current.store(2, Ordering::SeqCst);
    let took = eventually("a hit", PATIENCE, || async {
        let deadline = Instant::now() + Duration::from_millis(200);
        matches!(store.get("trc:k", deadline).await, Ok(Some(_)))
    })
    .await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(!format!("{store:?}").contains("two"));
}

#[tokio::test]
async fn the_primary_is_found_through_sentinels_of_which_some_are_dead() {
    let primary = Valkey::start();
    let sentinel = Sentinel::watching(&primary);
    let dead = Valkey::reserve();
    let mute = Proxy::to(sentinel.port()).await;
    mute.set(Mode::Mute);
    let url = format!(
        "valkey-sentinel://127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}/main",
        dead.port(),
        mute.port(),
        sentinel.port()
    );
    let store = ValkeyStore::new(settings(&url));
    set(&store, "k", "v").await.unwrap();
    assert_eq!(primary.command(&["GET", "k"]), "v");
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
    let mut primary = Valkey::start();
    let replica = Valkey::start();
    replica.follow(&primary);
    let sentinel = Sentinel::watching(&primary);
    sentinel.until_replicas(1);
    let store = ValkeyStore::new(settings(&sentinel.url()));
    set(&store, "k", "v").await.unwrap();
    let position = store.log_append(b"r", soon()).await.unwrap();
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
    let primary = Valkey::start();
    let replica = Valkey::start();
    replica.follow(&primary);
    let sentinel = Sentinel::watching(&primary);
    sentinel.until_replicas(1);
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
    let position = store.log_append(b"r", soon()).await.unwrap();
    eventually("the new one's log", PATIENCE, || async {
        let read = store.log_read(LogPosition::ZERO, Duration::from_millis(50));
        read.await
            .is_ok_and(|records| records.first().is_some_and(|(at, _)| *at == position))
    })
    .await;
}

/// Thirty keys, some of each node, stored.
async fn spread(store: &ValkeyStore) -> Vec<String> {
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
    let first = writer.log_append(b"a", soon()).await.unwrap();
    let second = reader.log_append(b"b", soon()).await.unwrap();
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
    // A node that was importing the slot takes a new epoch for it: otherwise the other's next
    // ping may take it back.
    let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &nodes.id(from)];
    nodes.0[to].command(&importing);
    for place in [to, from] {
        nodes.0[place].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &nodes.id(to)]);
    }
    store
        .set("moving", "v".into(), MINUTE, soon())
        .await
        .unwrap();
    assert_eq!(nodes.0[to].command(&["GET", "moving"]), "v");
    assert_eq!(get(&store, "moving").await, Ok(Some("v".into())));
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
    for place in [to, from] {
        nodes.0[place].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &nodes.id(to)]);
    }
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
    let first = store.log_append(b"a", soon()).await.unwrap();
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
    let second = store.log_append(b"b", soon()).await.unwrap();
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

const PATIENCE: Duration = Duration::from_secs(20);
