//! Servers that are reached by TLS, of whichever topology.

use std::time::Duration;

use tower_response_cache::{
    LogPosition, SharedStore, StoreState, TlsSettings, ValkeySettings, ValkeyStore,
};

use super::PATIENCE;
use super::cluster::spread;
use crate::support::cluster::Nodes;
use crate::support::eventually;
use crate::support::proxy::Proxy;
use crate::support::sentinel::{Passwords, Sentinel};
use crate::support::store::{get, set, settings};
use crate::support::tls::{Authority, Identity, TempFile, TlsFront};
use crate::support::valkey::Valkey;

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

/// A front that lets those in who have the last of these.
async fn wanting_a_certificate(server: &Valkey) -> (TlsFront, Authority, Identity) {
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = authority.sign("localhost");
    let front = TlsFront::to(server.port(), &identity, Some(&clients)).await;
    (front, authority, clients.sign("client"))
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
    let (front, authority, own) = wanting_a_certificate(&server).await;
    let pems =
        || [authority.pem(), own.certificate_pem(), own.key_pem()].map(|pem| TempFile::with(&pem));
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
    let (front, authority, own) = wanting_a_certificate(&server).await;
    let url = url(&front).replace("valkeys", "rediss");
    let known = trusting(&url, &authority, Some(&own));
    set(&ValkeyStore::new(known), "k", "v").await.unwrap();
    refused(trusting(&url, &authority, None)).await;
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_to_a_server_without_tls() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let url = format!("valkeys://u:secret@localhost:{}", proxy.port());
    refused(trusting(&url, &Authority::new(), None)).await;
    assert_eq!(proxy.commands(), 0);
}

#[tokio::test]
async fn the_nodes_of_a_cluster_and_its_log_are_reached_by_tls() {
    let nodes = Nodes::start_with_password("secret");
    let authority = Authority::new();
    let mut fronts = Vec::new();
    for (place, node) in nodes.0.iter().enumerate() {
        let front = TlsFront::to(node.port(), &authority.sign("127.0.0.1"), None).await;
        nodes.announce(place, front.port());
        fronts.push(front);
    }
    let url = |password| {
        let seed = fronts[0].port();
        format!("valkeys-cluster://:{password}@127.0.0.1:{seed}")
    };
    let store = ValkeyStore::new(trusting(&url("secret"), &authority, None));
    let keys = spread(&store).await;
    for key in &keys {
        assert_eq!(get(&store, key).await, Ok(Some(key.clone().into())));
    }
    let read = store.log_read(LogPosition::ZERO, Duration::from_millis(5));
    assert_eq!(read.await, Ok(Vec::new()));
    for (node, front) in nodes.0.iter().zip(&fronts) {
        assert_ne!(node.command(&["DBSIZE"]), "0");
        assert!(front.handshakes() > 0);
    }

    let stranger = ValkeyStore::new(trusting(&url("wrong"), &authority, None));
    assert!(get(&stranger, "k0").await.is_err());
    let error = stranger.health().last_error.unwrap();
    assert!(error.contains("WRONGPASS"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
}

/// With a thread beside the test's own, on which the fronts go on while the test waits for servers.
#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_the_primaries_that_they_name_are_reached_by_tls() {
    let passwords = Passwords {
        sentinel: "guarded",
        primary: "secret",
    };
    let authority = Authority::new();
    let own = authority.sign("127.0.0.1");
    let (mut primary, replica) = (
        Valkey::start_with_password(passwords.primary),
        Valkey::start_with_password(passwords.primary),
    );
    // Sentinels and servers have no TLS here; their clients come by nothing else.
    let before_primary = TlsFront::beside_plain(primary.port(), &own).await;
    let before_replica = TlsFront::beside_plain(replica.port(), &own).await;
    for (name, value) in [
        ("replica-announce-ip", "127.0.0.1"),
        ("replica-announce-port", &before_replica.port().to_string()),
    ] {
        replica.command(&["CONFIG", "SET", name, value]);
    }
    replica.follow_by(before_primary.port(), &primary);
    let sentinel = Sentinel::watching_at(before_primary.port(), Some(passwords));
    sentinel.until_replicas(1);
    let before_sentinel = TlsFront::to(sentinel.port(), &own, None).await;
    let url = |password| {
        let port = before_sentinel.port();
        format!("valkeys-sentinel://:secret@127.0.0.1:{port}/main?sentinel_pass={password}")
    };
    let store = ValkeyStore::new(trusting(&url("guarded"), &authority, None));
    set(&store, "k", "v").await.unwrap();
    assert_eq!(before_primary.handshakes(), 1);

    let stranger = ValkeyStore::new(trusting(&url("wrong"), &authority, None));
    assert!(set(&stranger, "k", "v").await.is_err());
    let error = stranger.health().last_error.unwrap();
    assert!(error.contains("WRONGPASS"), "{error}");

    primary.kill();
    eventually("the successor", PATIENCE, || async {
        set(&store, "k", "w").await.is_ok()
    })
    .await;
    assert_eq!(replica.command(&["GET", "k"]), "w");
    assert!(before_replica.handshakes() > 0);
}
