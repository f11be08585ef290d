//! What a stored response takes beyond itself: commands and bytes of Valkey, bytes of memory.

use std::time::Duration;

use allocation_counter::measure;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{CACHE_CONTROL, HOST};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_response_cache::{Cache, CacheConfig, CacheLayer};

use crate::support::eventually;
use crate::support::valkey::Valkey;

#[tokio::test]
async fn a_hit_from_valkey_is_one_command() {
    let (server, app) = (Valkey::start(), Stored::new());
    let app = app.in_valkey(&server).await;
    server.command(&["CONFIG", "RESETSTAT"]);
    for _ in 0..10 {
        assert!(app.ask().await.contains("; hit"));
    }
    assert_eq!(commands(&server), [("get".to_owned(), 10)]);
}

#[tokio::test]
async fn the_stored_form_takes_few_bytes_beyond_key_fields_and_body() {
    let (server, app) = (Valkey::start(), Stored::new());
    let app = app.in_valkey(&server).await;
    let keys = server.command(&["KEYS", "trc:*"]);
    let key = keys.lines().find(|key| !key.ends_with(":log")).unwrap();
    let value: usize = server.command(&["STRLEN", key]).parse().unwrap();
    let beyond = value - app.own_bytes().await;
    assert!(beyond <= 120, "{beyond} bytes");
}

/// The bound of the tier is on what it counts; so that is to be what it takes.
#[tokio::test]
async fn the_tier_in_memory_counts_what_it_takes() {
    for (name, body) in [("short", 16), ("usual", 1024), ("long", 64 * 1024)] {
        let cache = Cache::new(CacheConfig::builder().memory_bytes(1 << 30).build().unwrap());
        let app = Stored::with_body(body).behind(cache.clone());
        // What is there once, whatever is stored.
        app.ask_for("/warm").await;
        let counted = cache.statistics().memory_bytes;
        let taken = taken(|| async {
            for number in 0..ENTRIES {
                app.ask_for(&format!("/{number}")).await;
            }
        });
        let taken = taken.await;
        let counted = cache.statistics().memory_bytes - counted;
        let records = cache.statistics().memory_records;
        assert_eq!(records, ENTRIES + 1, "{name}");
        let share = taken as f64 / counted as f64;
        assert!((0.8..=1.15).contains(&share), "{name}: {share:.2} of {counted} bytes");
    }
}
