//! The ways to reach a server: TLS, credentials, Sentinel, cluster.

mod cluster;
mod sentinel;
#[cfg(feature = "tls")]
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tower_response_cache::{CredentialsProvider, SharedStore, StoreError, StoreState, ValkeyStore};

use crate::support::eventually;
use crate::support::store::{MINUTE, set, settings, soon};
use crate::support::valkey::Valkey;

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

const PATIENCE: Duration = Duration::from_secs(20);
