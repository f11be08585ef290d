//! A connection that stalls, tears replies and falsifies them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_response_cache::Cache;

use super::{PATIENCE, suffer, through};
use crate::faults::oracle::Question;
use crate::faults::report::Report;
use crate::faults::rig::{Load, Rig, Scale, config, fronted};
use crate::support::proxy::Mode;

/// The connections in use lead nowhere. New ones work.
pub(crate) async fn half_open(_scale: Scale) -> Vec<Report> {
    let (server, proxy) = fronted().await;
    let cache = Cache::new(config(&server.tcp_url_at(proxy.port())));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    rig.added();
    let before = proxy.connections();
    proxy.blackhole_existing();
    let started = Instant::now();
    // The connection for operations is replaced first, then that of the log.
    let replaced = async |count| {
        while proxy.connections() < before + count {
            assert!(started.elapsed() < PATIENCE, "never replaced");
            sleep(Duration::from_millis(2)).await;
        }
        started.elapsed()
    };
    let (recovery, data, log) = tokio::join!(rig.recovery(former), replaced(1), replaced(2));
    vec![Report {
        added: rig.added(),
        recovery: Some(recovery),
        note: format!("replaced after {data:.0?}, the log's after {log:.0?}"),
        ..rig.finish("existing connections blackholed").await
    }]
}

/// New connections lead nowhere, or the server takes fewer than needed.
pub(crate) async fn closed_to_new(scale: Scale) -> Vec<Report> {
    let mut reports = Vec::new();
    for name in ["new connections blackholed", "room for one connection"] {
        let (server, proxy) = fronted().await;
        let cache = Cache::new(config(&server.tcp_url_at(proxy.port())));
        let (rig, former) = Rig::warm(cache, Load::STEADY).await;
        match name {
            "room for one connection" => proxy.set(Mode::Crowded(1)),
            _ => proxy.blackhole_new(),
        }
        // The old connections work until the server ends them.
        let before = rig.hit_rate(Duration::from_millis(200)).await;
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let added = suffer(&rig, scale).await;
        proxy.end_blackhole();
        proxy.set(Mode::Forward);
        let recovery = rig.recovery(former).await;
        reports.push(Report {
            added,
            recovery: Some(recovery),
            note: format!("hit rate {former:.2}, and {before:.2} on the old ones"),
            ..rig.finish(name).await
        });
    }
    reports
}

/// Replies come a little late to far too late, or the connection is too slow.
pub(crate) async fn slow(scale: Scale) -> Vec<Report> {
    let millis = Duration::from_millis;
    let latency = |least, jitter| Mode::Latency(millis(least), millis(jitter));
    let all = [
        ("latency 20 to 30 ms", latency(20, 10)),
        ("latency 40 to 60 ms", latency(40, 20)),
        ("latency 100 ms", latency(100, 0)),
        ("latency 500 ms to 1 s", latency(500, 500)),
        ("latency 5 s", latency(5000, 0)),
        ("replies held up 200 ms", Mode::Delay(millis(200))),
        ("200 kB/s", Mode::Throttle(2000)),
    ];
    let mut reports = Vec::new();
    for (name, mode) in &all[..scale.of(2, all.len())] {
        reports.push(through(name, mode.clone(), scale).await);
    }
    reports
}

/// The transport ends after each number of bytes in turn, in the handshake and in a value.
pub(crate) async fn torn(scale: Scale) -> Vec<Report> {
    let (server, proxy) = fronted().await;
    let url = server.tcp_url_at(proxy.port());
    let question = Question::public(0);
    let writer = Rig::new(Cache::new(config(&url)));
    writer.ask(question).await;
    assert!(writer.cache.shutdown(PATIENCE).await);
    let mut reports = Vec::new();
    for orderly in [false, true] {
        let (name, mode) = match orderly {
            false => (
                "torn after each byte (reset)",
                Mode::ResetAfter as fn(usize) -> Mode,
            ),
            true => (
                "torn after each byte (end)",
                Mode::EndAfter as fn(usize) -> Mode,
            ),
        };
        let mut whole = None;
        let mut rig = Rig::new(Cache::new(config(&url)));
        for length in (0..1200).step_by(scale.of(37, 1)) {
            proxy.set(mode(length));
            rig.renew(Cache::new(config(&url)));
            rig.ask(question).await;
            rig.ask(question).await;
            if rig.hits() > 0 {
                whole.get_or_insert(length);
            }
        }
        let whole = whole.expect("a hit once everything gets through");
        reports.push(Report {
            note: format!("the first hit is after {whole} bytes"),
            ..rig.finish(name).await
        });
    }
    reports
}

/// Replies are repeated, dropped and swapped, under many requests of which many are given up.
pub(crate) async fn desynchronised(scale: Scale) -> Vec<Report> {
    let (server, proxy) = fronted().await;
    let cache = Cache::new(config(&server.tcp_url_at(proxy.port())));
    let (rig, former) = Rig::warm(cache, Load::STORM).await;
    proxy.set(Mode::Slip(0.002));
    let wanted = scale.of(20_000, 1_000_000);
    let started = Instant::now();
    let enough = || {
        let mismatches = rig.health().map_or(0, |health| health.mismatches);
        rig.tally.checked.load(Ordering::Relaxed) >= wanted && mismatches > 0
    };
    while !enough() {
        assert!(started.elapsed() < Duration::from_secs(400), "too slow");
        sleep(Duration::from_millis(20)).await;
    }
    proxy.set(Mode::Forward);
    let recovery = rig.recovery(former).await;
    let connections = rig.health().map_or(0, |health| health.mismatches);
    let values = rig.cache.statistics().mismatched_values;
    let hits = rig.hits();
    vec![Report {
        recovery: Some(recovery),
        note: format!(
            "{values} values of other keys, {connections} connections distrusted, {hits} hits"
        ),
        ..rig.finish("replies slip, requests given up").await
    }]
}
