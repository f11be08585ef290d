//! The overhead of a stored response: commands to Valkey, bytes in Valkey, and bytes in memory.

use std::time::Duration;

use allocation_counter::measure;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, HOST};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_response_cache::{Cache, CacheConfig, CacheLayer};

use crate::support::eventually;
use crate::support::valkey::Valkey;

#[tokio::test]
async fn a_hit_from_valkey_is_one_command() {
    let server = Valkey::start();
    let app = in_valkey(&server).await;
    server.command(&["CONFIG", "RESETSTAT"]);
    for _ in 0..10 {
        assert!(ask(&app, "/1024").await.0.contains("; hit"));
    }
    // The connections' own housekeeping is none of the hits': the log is read meanwhile.
    let own = |line: &&str| !line.contains("xread") && !line.contains("config");
    let statistics = server.command(&["INFO", "commandstats"]);
    let calls: Vec<&str> = statistics
        .lines()
        .filter(|line| line.starts_with("cmdstat_"))
        .filter(own)
        .filter_map(|line| line.split_once(",usec=").map(|(calls, _)| calls))
        .collect();
    assert_eq!(calls, ["cmdstat_get:calls=10"]);
}

#[tokio::test]
async fn the_stored_form_takes_at_most_120_bytes_beyond_key_fields_and_body() {
    let server = Valkey::start();
    let app = in_valkey(&server).await;
    let keys = server.command(&["KEYS", "trc:*"]);
    let is_entry = |key: &&str| !key.contains(":log");
    let key = keys.lines().find(is_entry).unwrap();
    let value: usize = server.command(&["STRLEN", key]).parse().unwrap();
    let (_, own) = ask(&app, "/1024").await;
    let beyond = value - own;
    assert!(beyond <= 120, "{beyond} bytes");
}

/// The bound of the tier is on what it counts, so that is to be what it takes: with the first hit
/// on a response, more. The tier's table doubles as it grows, which shows where bodies are short.
#[test]
fn the_tier_in_memory_counts_what_it_takes() {
    for body in ["16", "1024", "65536"] {
        for asked in [1, 2] {
            let share = taken_of_counted(body, asked);
            assert!((0.85..=1.25).contains(&share), "{body}: {share:.2}");
        }
    }
}

/// A serializer leaves room behind what it writes, and what a client reads at once are many
/// frames: with one of them all would be kept.
#[test]
fn of_a_body_no_more_is_kept_in_memory_than_the_body() {
    for body in ["roomy/16384", "part/2048"] {
        let share = taken_of_counted(body, 1);
        assert!((0.85..=1.25).contains(&share), "{body}: {share:.2}");
    }
}

/// What some hundred stored responses, each asked for so many times, take of the memory, as a
/// share of what is counted.
fn taken_of_counted(body: &str, asked: u32) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    let config = CacheConfig::builder()
        .memory_bytes(1 << 30)
        .build()
        .unwrap();
    let cache = Cache::new(config);
    let app = app(cache.clone());
    // What is there once, whatever is stored.
    runtime.block_on(ask(&app, &format!("/{body}?first")));
    let counted = cache.statistics().memory_bytes;
    let taken = measure(|| {
        runtime.block_on(async {
            for number in 0..ENTRIES {
                for _ in 0..asked {
                    ask(&app, &format!("/{body}?{number:06}")).await;
                }
            }
        });
    });
    let statistics = cache.statistics();
    assert_eq!(statistics.memory_records, ENTRIES + 1);
    taken.bytes_current as f64 / (statistics.memory_bytes - counted) as f64
}

const ENTRIES: u64 = 500;

/// An app with one response of 1 KiB in Valkey, and nothing in memory.
async fn in_valkey(server: &Valkey) -> Router {
    let config = CacheConfig::builder().url(server.url()).memory_bytes(0);
    let config = config
        .operation_timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let app = app(Cache::new(config));
    eventually("a hit", Duration::from_secs(20), || async {
        ask(&app, "/1024").await.0.contains("; hit")
    })
    .await;
    app
}

/// A handler that sends as many bytes as the path says.
fn app(cache: Cache) -> Router {
    let answer = |Path(length): Path<usize>| async move {
        let fields = [
            (CACHE_CONTROL.as_str(), "max-age=3600"),
            ("etag", "\"v1\""),
            ("surrogate-key", "one two three"),
        ];
        (fields, vec![b'x'; length])
    };
    let fresh = [(CACHE_CONTROL.as_str(), "max-age=3600")];
    let roomy = move |Path(length): Path<usize>| async move {
        let mut body = Vec::with_capacity(2 * length);
        body.resize(length, b'x');
        (fresh, body)
    };
    let part = move |Path(length): Path<usize>| async move {
        let read = Bytes::from(vec![b'x'; 4 * length]);
        let frame = read.slice(length..2 * length);
        // Others hold frames of it as well, for a while.
        (fresh, Extension(read), frame)
    };
    Router::new()
        .route("/{length}", get(answer))
        .route("/roomy/{length}", get(roomy))
        .route("/part/{length}", get(part))
        .layer(CacheLayer::new(cache))
}

/// What the cache says, and the bytes of key, fields and body as they are.
async fn ask(app: &Router, uri: &str) -> (String, usize) {
    let request = Request::get(uri)
        .header(HOST, "example.org")
        .body(Body::empty());
    let response = app.clone().oneshot(request.unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let status = head
        .headers
        .get("cache-status")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let fields = fields(&head.headers);
    let body = body.collect().await.unwrap().to_bytes();
    (
        status,
        "example.org".len() + uri.len() + fields + body.len(),
    )
}

/// The length of the fields that are stored, names and values.
fn fields(headers: &HeaderMap) -> usize {
    let stored = |name: &str| !matches!(name, "age" | "cache-status");
    let lines = headers.iter().filter(|(name, _)| stored(name.as_str()));
    lines
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}
