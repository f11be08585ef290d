//! One fetch for all instances, by a lease in the shared store.
#![allow(clippy::disallowed_methods, reason = "tests start their own tasks")]

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_response_cache::{Cache, CacheConfig, CacheConfigBuilder, CacheLayer};

use crate::support::eventually;
use crate::support::handler::{Cached, Script, content, fresh, get, with};
use crate::support::valkey::Valkey;

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(url: String) -> CacheConfigBuilder {
    CacheConfig::builder()
        .url(url)
        .operation_timeout(Duration::from_secs(2))
        .lease(true)
}

/// Instances that have connected and read the purge log.
async fn instances(count: usize, settings: &CacheConfigBuilder) -> Vec<CacheLayer> {
    let mut layers = Vec::new();
    for _ in 0..count {
        let cache = Cache::new(settings.clone().build().unwrap());
        eventually("it answers", PATIENCE, || async {
            cache.ping().await.is_ok()
        })
        .await;
        layers.push(CacheLayer::new(cache));
    }
    layers
}

fn slow(layer: &CacheLayer, directives: &'static str) -> Cached {
    Cached::new(layer, move |_, _| async move {
        sleep(Duration::from_millis(100)).await;
        Ok(with(directives, Script::whole("x")))
    })
}

async fn at_once(instances: &[Cached], requests: usize) {
    let mut tasks = JoinSet::new();
    for request in 0..requests {
        let cached = instances[request % instances.len()].clone();
        tasks.spawn(async move { content(cached.send(get("/")).await?).await });
    }
    for text in tasks.join_all().await {
        assert_eq!(text.unwrap(), "x");
    }
}

fn calls(instances: &[Cached]) -> usize {
    instances.iter().map(Cached::calls).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_cold_requests_at_two_instances_call_one_handler_once() {
    let server = Valkey::start();
    for memory in [64 << 20, 0] {
        let settings = settings(server.url()).memory_bytes(memory);
        let settings = settings.prefix(format!("memory-{memory}"));
        let layers = instances(2, &settings).await;
        let cached: Vec<_> = layers
            .iter()
            .map(|layer| slow(layer, "max-age=60"))
            .collect();
        at_once(&cached, 1000).await;
        assert_eq!(calls(&cached), 1, "with {memory} bytes of memory");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_store_each_instance_calls_its_handler_once() {
    let server = Valkey::reserve();
    let settings = settings(server.url()).operation_timeout(Duration::from_millis(50));
    let cached: Vec<_> = (0..2)
        .map(|_| CacheLayer::new(settings.clone().build().unwrap()))
        .map(|layer| slow(&layer, "max-age=60"))
        .collect();
    at_once(&cached, 1000).await;
    assert_eq!((cached[0].calls(), cached[1].calls()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_given_back_once_the_entry_can_be_seen() {
    let server = Valkey::start();
    let layers = instances(1, &settings(server.url())).await;
    let cached = slow(&layers[0], "max-age=60");
    cached.text("/").await;
    eventually("it is given back", Duration::from_secs(2), || async {
        let keys = server.command(&["KEYS", "trc*"]);
        keys.lines().count() == 1 && !keys.contains("lease")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_ever_for_an_instance_that_is_gone() {
    let server = Valkey::start();
    let settings = settings(server.url()).follower_wait(Duration::from_millis(700));
    let layers = instances(2, &settings).await;
    let stuck = Cached::new(&layers[0], |_, _| std::future::pending());
    let other = slow(&layers[1], "max-age=60");
    let stuck = tokio::spawn(async move { stuck.get("/").await.map(drop) });
    eventually("the lease is taken", PATIENCE, || async {
        server.command(&["KEYS", "*lease*"]).contains("lease")
    })
    .await;
    let began = Instant::now();
    at_once(std::slice::from_ref(&other), 20).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    stuck.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_fails_lets_the_other_instance_go_on() {
    let server = Valkey::start();
    let layers = instances(2, &settings(server.url())).await;
    let failing = Cached::new(&layers[0], |_, _| async {
        sleep(Duration::from_millis(200)).await;
        Err("the handler failed".into())
    });
    let other = slow(&layers[1], "max-age=60");
    let failing = tokio::spawn(async move { failing.get("/").await.map(drop) });
    eventually("the lease is taken", PATIENCE, || async {
        server.command(&["KEYS", "*lease*"]).contains("lease")
    })
    .await;
    let began = Instant::now();
    other.text("/").await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(failing.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_fetched_by_all_instances_at_once_from_then_on() {
    let server = Valkey::start();
    let layers = instances(2, &settings(server.url())).await;
    let cached: Vec<_> = layers.iter().map(|layer| slow(layer, "no-store")).collect();
    at_once(&cached, 2).await;
    let began = Instant::now();
    at_once(&cached, 100).await;
    assert!(
        began.elapsed() < Duration::from_millis(180),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(calls(&cached), 102);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_takes_what_another_has_refreshed() {
    let server = Valkey::start();
    let clock = tower_response_cache::TestClock::default();
    let settings = settings(server.url()).clock(clock.clone());
    for lease in [true, false] {
        let settings = settings
            .clone()
            .lease(lease)
            .prefix(format!("lease-{lease}"));
        let layers = instances(2, &settings).await;
        let stale = "max-age=10, stale-while-revalidate=600";
        let cached: Vec<_> = layers.iter().map(|layer| slow(layer, stale)).collect();
        cached[0].text("/").await;
        eventually("the other has it", PATIENCE, || async {
            cached[1].text("/").await.1.contains("; hit")
        })
        .await;
        clock.advance(Duration::from_secs(11));
        // Within the bound for which entries are trusted, both are stale now.
        let calls_before = calls(&cached);
        for cached in &cached {
            eventually("it is fresh again", PATIENCE, || async {
                let (_, status) = cached.text("/").await;
                status.contains("; hit") && !status.contains("stale")
            })
            .await;
            // What the first has refreshed is written behind its responses.
            eventually("it is written", PATIENCE, || async {
                server.command(&["DBSIZE"]).parse::<u32>().unwrap() > 0
            })
            .await;
        }
        assert!(calls(&cached) - calls_before <= 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_saves_no_one_from_a_purge() {
    let server = Valkey::start();
    let layers = instances(1, &settings(server.url())).await;
    let cached = Cached::new(&layers[0], |call, _| async move {
        Ok(fresh(Script::whole(format!("version {call}"))))
    });
    assert_eq!(cached.text("/").await.0, "version 0");
    let everything = tower_response_cache::Purge::everything();
    layers[0].cache().purge(everything).await.unwrap();
    assert_eq!(cached.text("/").await.0, "version 1");
}
