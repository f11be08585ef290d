//! A server that dies, stops, is emptied, fills up, or has another time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tower_response_cache::{
    Cache, CacheConfig, ChaosStore, Clock, StoreUrl, TestClock, Timestamp, ValkeySettings,
    ValkeyStore,
};

use super::{PATIENCE, suffer};
use crate::faults::oracle::Question;
use crate::faults::report::Report;
use crate::faults::rig::{Load, Rig, Scale, config};
use crate::support::valkey::Valkey;

/// The server is killed, and comes back empty.
pub(crate) async fn killed(scale: Scale) -> Vec<Report> {
    let mut server = Valkey::start();
    let cache = Cache::new(config(&server.tcp_url()));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    server.kill();
    let added = suffer(&rig, scale).await;
    server.start_again();
    let recovery = rig.recovery(former).await;
    vec![Report {
        added,
        recovery: Some(recovery),
        ..rig.finish("killed and started again").await
    }]
}

/// The server is stopped, and goes on.
pub(crate) async fn stopped(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    let cache = Cache::new(config(&server.tcp_url()));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    server.pause();
    let added = suffer(&rig, scale).await;
    server.resume();
    let recovery = rig.recovery(former).await;
    vec![Report {
        added,
        recovery: Some(recovery),
        ..rig.finish("stopped (SIGSTOP)").await
    }]
}

/// The clocks of two instances differ.
pub(crate) async fn skewed_clocks(_scale: Scale) -> Vec<Report> {
    let now = TestClock::default().now();
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let mut rig = Rig::new(Cache::new(CacheConfig::default()));
    // Within a minute the response is served. From further ahead it is not used, and from behind by
    // more than its lifetime it is stale.
    for (clock, served) in [
        (now.saturating_add(Duration::from_secs(30)), true),
        (now.saturating_add(minutes(10)), false),
        (now.saturating_add(minutes(60 * 24 * 365)), false),
        (now.saturating_sub(minutes(5)), true),
        (now.saturating_sub(minutes(11)), false),
    ] {
        let server = Valkey::start();
        let cache = |clock: Timestamp| {
            let config = CacheConfig::builder()
                .url(server.url())
                .clock(TestClock::new(clock))
                .operation_timeout(Duration::from_secs(2));
            Cache::new(config.build().unwrap())
        };
        rig.renew(cache(clock));
        let before = rig.hits();
        for number in 0..10 {
            rig.ask(Question::public(number)).await;
        }
        assert_eq!(rig.hits(), before, "of an empty store");
        assert!(rig.cache.shutdown(PATIENCE).await);
        rig.renew(cache(now));
        for number in 0..10 {
            rig.ask(Question::public(number)).await;
        }
        let hits = rig.hits() - before;
        assert_eq!(hits > 0, served, "{hits} hits, written at {clock:?}");
    }
    vec![rig.finish("clocks apart").await]
}

/// The server is emptied over and over.
pub(crate) async fn flushed(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    let cache = Cache::new(config(&server.tcp_url()));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    let rounds = scale.of(20, 200);
    for _ in 0..rounds {
        server.command(&["FLUSHALL"]);
        sleep(Duration::from_millis(50)).await;
    }
    let added = rig.added();
    let recovery = rig.recovery(former).await;
    vec![Report {
        added,
        recovery: Some(recovery),
        note: format!("{rounds} times"),
        ..rig.finish("FLUSHALL in a loop").await
    }]
}

/// The server is out of memory, with and without eviction.
pub(crate) async fn full(scale: Scale) -> Vec<Report> {
    let mut reports = Vec::new();
    for (policy, memory) in [
        ("noeviction", "1mb"),
        ("allkeys-lru", "4mb"),
        ("volatile-ttl", "4mb"),
    ] {
        let server = Valkey::start();
        let cache = Cache::new(config(&server.tcp_url()));
        let (rig, former) = Rig::warm(cache, Load::STEADY).await;
        server.command(&["CONFIG", "SET", "maxmemory-policy", policy]);
        server.command(&["CONFIG", "SET", "maxmemory", memory]);
        let added = suffer(&rig, scale).await;
        let during = rig.hit_rate(Duration::from_millis(300)).await;
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        let recovery = rig.recovery(former).await;
        reports.push(Report {
            added,
            recovery: Some(recovery),
            note: format!("hit rate {former:.2}, then {during:.2}"),
            ..rig.finish(format!("maxmemory, {policy}")).await
        });
    }
    reports
}

/// All faults of [`ChaosStore`] at once, each with a low probability.
pub(crate) async fn chaos(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    let settings = ValkeySettings::new(StoreUrl::parse(&server.tcp_url()).unwrap());
    let store = ChaosStore::new(Arc::new(ValkeyStore::new(settings)), 11)
        .failures(0.05)
        .delays(0.02, Duration::from_millis(80))
        .corruption(0.05)
        .crossed_replies(0.001);
    let cache = Cache::with_store(config(&server.tcp_url()), Arc::new(store));
    let mut rig = Rig::new(cache);
    rig.load(Load::STEADY);
    let added = suffer(&rig, scale).await;
    let rate = rig.hit_rate(Duration::from_millis(500)).await;
    vec![Report {
        added,
        note: format!("hit rate {rate:.2}"),
        ..rig.finish("chaos").await
    }]
}
