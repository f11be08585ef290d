//! Changes by unsafe methods in unusual cases: the client has left, or the marker or the memory is
//! gone.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{CACHE_CONTROL, VARY};
use http::{Request, Response};
use tower::ServiceExt;
use tower_response_cache::{CacheConfig, CacheLayer};

use crate::support::eventually;
use crate::support::valkey::Valkey;

#[tokio::test]
async fn a_change_is_announced_although_its_client_has_left() {
    let server = Valkey::start();
    let (app, calls) = app(&server.url(), 0);
    get_in(&app, "de").await;
    until_stored(&server).await;
    get_in(&app, "de").await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);

    let put = Request::put("/").body(Body::empty()).unwrap();
    let mut put = Box::pin(app.clone().oneshot(put));
    // The handler has answered; the store has been asked, and has not.
    while calls.load(Ordering::SeqCst) == 1 {
        poll_once(&mut put).await;
    }
    drop(put);

    eventually("it is asked for again", PATIENCE, async || {
        get_in(&app, "de").await;
        calls.load(Ordering::SeqCst) > 2
    })
    .await;
}

#[tokio::test]
async fn with_memory_off_a_hit_on_a_variant_is_one_round_trip() {
    let server = Valkey::start();
    let (app, calls) = app(&server.url(), 0);
    get_in(&app, "de").await;
    until_stored(&server).await;
    server.command(&["CONFIG", "RESETSTAT"]);
    for _ in 0..10 {
        get_in(&app, "de").await;
    }
    let stats = server.command(&["INFO", "commandstats"]);
    assert!(stats.contains("cmdstat_get:calls=10,"), "{stats}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn with_memory_off_a_resource_that_varies_no_more_is_found_again() {
    let server = Valkey::start();
    let varies = Arc::new(AtomicUsize::new(1));
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = {
        let (varies, calls) = (varies.clone(), calls.clone());
        move || {
            calls.fetch_add(1, Ordering::SeqCst);
            let varies = varies.load(Ordering::SeqCst) == 1;
            async move { answer(varies) }
        }
    };
    let app = Router::new()
        .route("/", get(handler))
        .layer(CacheLayer::new(config(&server.url(), 0)));
    get_in(&app, "de").await;
    varies.store(0, Ordering::SeqCst);
    get_in(&app, "en").await;
    until_stored(&server).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    eventually("it is found again", PATIENCE, async || {
        get_in(&app, "fr").await.contains("; hit")
    })
    .await;
}

/// `/` in German and English, changed by PUT; and how often either was asked of the handler.
fn app(url: &str, memory: u64) -> (Router, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let read = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { answer(true) }
    };
    let counted = calls.clone();
    let change = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async {}
    };
    let app = Router::new()
        .route("/", get(read).put(change))
        .layer(CacheLayer::new(config(url, memory)));
    (app, calls)
}

fn config(url: &str, memory: u64) -> CacheConfig {
    let config = CacheConfig::builder().url(url).memory_bytes(memory);
    config
        .operation_timeout(Duration::from_secs(2))
        .build()
        .unwrap()
}

fn answer(varies: bool) -> Response<Body> {
    let mut response = Response::builder().header(CACHE_CONTROL, "max-age=60");
    if varies {
        response = response.header(VARY, "accept-language");
    }
    response.body(Body::from("content")).unwrap()
}

/// Until the server has a response and what tells how it varies.
async fn until_stored(server: &Valkey) {
    eventually("the response is stored", PATIENCE, async || {
        server.command(&["KEYS", "trc:3:*"]).lines().count() >= 2
    })
    .await;
}

/// What the cache says of a GET.
async fn get_in(app: &Router, language: &str) -> String {
    let request = Request::get("/").header("accept-language", language);
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap());
    let response = response.await.unwrap();
    response.headers()["cache-status"]
        .to_str()
        .unwrap()
        .to_owned()
}

async fn poll_once<F: Future + Unpin>(future: &mut F) {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        assert!(
            future.as_mut().poll(context).is_pending(),
            "answered already"
        );
        Poll::Ready(())
    })
    .await;
}

const PATIENCE: Duration = Duration::from_secs(10);
