//! Compressed values that are damaged, or longer than they claim.

use std::future::ready;
use std::time::Duration;

use axum::body::Body;
use http::header::CACHE_CONTROL;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_response_cache::{Cache, CacheConfig, CacheLayer, SharedStore};

use super::PATIENCE;
use super::damage::damaged;
use super::values::{Peak, store};
use crate::faults::oracle::Question;
use crate::faults::report::Report;
use crate::faults::rig::{Rig, Scale, config};
use crate::support::valkey::Valkey;

/// As [`damaged_values`](super::damaged_values), with a compressed value.
pub(crate) async fn damaged_compressed_values(scale: Scale) -> Vec<Report> {
    let config = CacheConfig::builder().compress_above(1000);
    let questions = (Question::text(113), Question::text(4));
    vec![damaged("the same, of compressed values", config, questions, scale).await]
}

/// A compressed response of an instance that stores far longer ones than the reader takes. It has
/// some kilobytes in the store, and would take a hundred megabytes of memory.
pub(crate) async fn bombs(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    let store = store(&server);
    let deadline = || Instant::now() + PATIENCE;
    let question = Question::text(113);
    let length = scale.of(20, 100) << 20;
    let key = plant(&server, question, length).await;
    let bomb = store.get(&key, deadline()).await.unwrap().unwrap();
    let rig = Rig::new(Cache::new(config(&server.tcp_url())));
    let peak = Peak::from_here();
    let rounds = scale.of(3, 100);
    for _ in 0..rounds {
        let ttl = Duration::from_secs(60);
        let set = store.set(&key, bomb.clone(), ttl, deadline());
        set.await.unwrap();
        rig.ask(question).await;
        assert!(rig.cache.shutdown(PATIENCE).await);
    }
    let peak = peak.mib();
    assert_eq!(rig.hits(), 0, "it was believed");
    assert_eq!(rig.cache.statistics().too_long_values, rounds);
    // In the short run other tests take memory at the same time.
    let bounded = scale == Scale::Short || peak < (length as u64 >> 20) / 4;
    assert!(bounded, "{peak} MiB for what is not wanted");
    vec![Report {
        note: format!(
            "{} bytes that are {} MiB: {rounds} refused, {peak} MiB at the peak",
            bomb.len(),
            length >> 20
        ),
        ..rig.finish("decompression bombs").await
    }]
}

/// Lets an instance with room for it store a compressed response of `length` zeros. Returns its
/// key.
async fn plant(server: &Valkey, question: Question, length: usize) -> String {
    let config = CacheConfig::builder()
        .url(server.tcp_url())
        .max_body(length as u64)
        .fill_bytes(length as u64)
        .memory_bytes(0)
        .compress_above(1000)
        .write_queue_bytes(2 * length as u64)
        .operation_timeout(Duration::from_secs(5));
    let writer = Cache::new(config.build().unwrap());
    let app = CacheLayer::new(writer.clone()).layer(service_fn(move |_: Request<Body>| {
        let response = Response::builder().header(CACHE_CONTROL, "max-age=600");
        ready(response.body(Body::from(vec![0; length])))
    }));
    let response = app.oneshot(question.request()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), length);
    assert!(writer.shutdown(PATIENCE).await);
    server.command(&["KEYS", "trc:3:*"])
}
