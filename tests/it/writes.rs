//! Writes to the store: no response waits for them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt, service_fn};
use tower_response_cache::{Cache, CacheConfig, CacheLayer};

use crate::support::valkey::Valkey;

/// Room for a dozen responses of 4 KiB, and patience with a server that is stopped.
fn cache(server: &Valkey) -> Cache {
    let config = CacheConfig::builder()
        .url(server.url())
        .write_queue_bytes(64 << 10)
        .operation_timeout(PATIENCE);
    Cache::new(config.build().unwrap())
}

/// Has so many responses stored, of which none can be written: by the time that the handler
/// answers, the server has been stopped.
async fn store_on_a_stopped_server(cache: &Cache, server: &Valkey, count: u32) {
    let (called, answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let turns = (Arc::clone(&called), Arc::clone(&answer));
    let app = CacheLayer::new(cache.clone()).layer(service_fn(move |_: Request<Body>| {
        let (called, answer) = turns.clone();
        async move {
            called.add_permits(1);
            answer.acquire().await.unwrap().forget();
            let response = Response::builder().header("cache-control", "max-age=600");
            let page = Body::from(vec![b'x'; 4 << 10]);
            Ok::<_, Infallible>(response.body(page).unwrap())
        }
    }));
    let mut requests = JoinSet::new();
    for number in 0..count {
        let request = Request::get(format!("http://test/{number}"));
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap());
        requests.spawn(async move { response.await.unwrap().into_body().collect().await });
    }
    let _all = called.acquire_many(count).await.unwrap();
    server.pause();
    answer.add_permits(count as usize);
    for body in requests.join_all().await {
        assert_eq!(body.unwrap().to_bytes().len(), 4 << 10);
    }
}

fn stored(server: &Valkey) -> usize {
    server.command(&["KEYS", "trc:3:*"]).lines().count()
}

#[tokio::test]
async fn writes_beyond_the_queue_are_dropped_and_counted_and_the_rest_is_written() {
    let server = Valkey::start();
    let cache = cache(&server);
    store_on_a_stopped_server(&cache, &server, 50).await;
    let dropped = cache.statistics().dropped_writes;
    assert!((35..50).contains(&dropped), "{dropped}");

    server.resume();
    assert!(cache.shutdown(PATIENCE).await);
    assert_eq!(stored(&server) as u64, 50 - dropped);
    assert_eq!(cache.statistics().failed_writes, 0);
}

#[tokio::test]
async fn a_shutdown_waits_no_longer_than_its_budget_and_loses_nothing_by_it() {
    let server = Valkey::start();
    let cache = cache(&server);
    assert!(cache.shutdown(Duration::ZERO).await, "nothing to write");
    store_on_a_stopped_server(&cache, &server, 3).await;
    assert!(!cache.shutdown(Duration::from_millis(20)).await);

    server.resume();
    assert!(cache.shutdown(PATIENCE).await);
    assert_eq!(stored(&server), 3);
}

const PATIENCE: Duration = Duration::from_secs(10);
