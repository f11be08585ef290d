//! The faults.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_response_cache::{
    Cache, CacheConfig, CacheLayer, ChaosStore, Clock, Purge, StoreUrl, TestClock, ValkeySettings,
    ValkeyStore,
};

use super::oracle::Question;
use super::rig::{Load, Report, Rig, Scale, config, fronted};
use crate::support::cluster::Nodes;
use crate::support::proxy::Mode;
use crate::support::sentinel::Sentinel;
use crate::support::valkey::Valkey;

/// A cache whose server cannot be used from the start, and can later.
pub(crate) async fn down_at_boot(scale: Scale) -> Vec<Report> {
    let mut reports = Vec::new();
    for (name, mode) in [
        ("boot: refused", Mode::Refuse),
        ("boot: mute", Mode::Mute),
        ("boot: too many clients", Mode::Crowded),
        (
            "boot: loading",
            Mode::Answer(&["HELLO", "PING"], "-LOADING wait\r\n".into()),
        ),
    ] {
        let (server, proxy) = fronted().await;
        proxy.set(mode);
        let rig = begin(&server.tcp_url_at(proxy.port()));
        let added = suffer(&rig, Duration::ZERO, scale).await;
        proxy.set(Mode::Forward);
        let recovery = rig.recovery(0.7).await;
        reports.push(Report {
            added: Some(added),
            recovery: Some(recovery),
            ..rig.finish(name).await
        });
    }
    let server = Valkey::start_with_password("right");
    let wrong = server.tcp_url().replace("right", "wrong");
    let nowhere = "valkey://does-not-exist.invalid:6379";
    for (name, url) in [
        ("boot: name not found", nowhere),
        ("boot: wrong password", wrong.as_str()),
    ] {
        let rig = begin(url);
        let added = suffer(&rig, Duration::ZERO, scale).await;
        reports.push(Report {
            added: Some(added),
            ..rig.finish(name).await
        });
    }
    reports
}

/// Killed, and back, empty.
pub(crate) async fn killed(scale: Scale) -> Vec<Report> {
    let mut server = Valkey::start();
    let cache = Cache::new(config(&server.tcp_url()));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    let base = baseline(&rig).await;
    server.kill();
    let added = suffer(&rig, base, scale).await;
    server.start_again();
    let recovery = rig.recovery(former).await;
    vec![Report {
        added: Some(added),
        recovery: Some(recovery),
        ..rig.finish("killed and started again").await
    }]
}

/// Stopped where it is, and let go on.
pub(crate) async fn stopped(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    let cache = Cache::new(config(&server.tcp_url()));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    let base = baseline(&rig).await;
    server.pause();
    let added = suffer(&rig, base, scale).await;
    server.resume();
    let recovery = rig.recovery(former).await;
    vec![Report {
        added: Some(added),
        recovery: Some(recovery),
        ..rig.finish("stopped (SIGSTOP)").await
    }]
}

/// The connections in use lead nowhere; new ones work.
pub(crate) async fn half_open(_scale: Scale) -> Vec<Report> {
    let (server, proxy) = fronted().await;
    let cache = Cache::new(config(&server.tcp_url_at(proxy.port())));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    let base = baseline(&rig).await;
    proxy.blackhole_existing();
    let recovery = rig.recovery(former).await;
    let first = rig.p99().saturating_sub(base);
    vec![Report {
        added: Some((first, first)),
        recovery: Some(recovery),
        ..rig.finish("existing connections blackholed").await
    }]
}

/// From a little late to far too late, and too slow a line.
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
        let mut report = Report::default();
        for length in (0..1200).step_by(scale.of(37, 1)) {
            proxy.set(mode(length));
            let rig = Rig::new(Cache::new(config(&url)));
            rig.ask(question).await;
            rig.ask(question).await;
            if rig.tally.hits.load(Ordering::Relaxed) > 0 {
                whole.get_or_insert(length);
            }
            merge(&mut report, rig.finish(name).await);
        }
        let whole = whole.expect("a hit once everything gets through");
        report.note = format!("the first hit is after {whole} bytes");
        reports.push(report);
    }
    reports
}

/// Replies repeated, dropped and swapped, under a storm of requests of which many are given up.
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
    let mismatches = rig.health().map_or(0, |health| health.mismatches);
    vec![Report {
        recovery: Some(recovery),
        note: format!("{mismatches} mismatches"),
        ..rig.finish("replies slip, requests given up").await
    }]
}

/// Every error that a server answers with, and some that none does.
pub(crate) async fn error_replies(scale: Scale) -> Vec<Report> {
    let (server, proxy) = fronted().await;
    let url = server.tcp_url_at(proxy.port());
    let mut all = Report::default();
    let mut slowest = Duration::ZERO;
    for error in errors() {
        proxy.set(Mode::Forward);
        let rig = Rig::new(Cache::new(config(&url)));
        rig.ask(Question::public(1)).await;
        proxy.set(Mode::Answer(&["GET", "SET"], error));
        let mut dice = fastrand::Rng::with_seed(1);
        for _ in 0..scale.of(30, 300) {
            slowest = slowest.max(rig.ask(Question::random(&mut dice)).await);
        }
        merge(&mut all, rig.finish("every error reply").await);
    }
    all.added = Some((slowest, slowest));
    all.note = format!("{} errors; the slowest response is told", errors().len());
    let mut reports = vec![all];
    if scale == Scale::Long {
        for error in errors() {
            let shown = error[..error.len().min(24)].escape_ascii().to_string();
            let name = format!("error {}", shown.trim_end_matches("\\r\\n"));
            let mode = Mode::Answer(&["GET", "SET"], error);
            reports.push(through(&name, mode, Scale::Short).await);
        }
    }
    reports
}

/// Values with a flipped bit each, and values under the keys of others.
pub(crate) async fn wrong_values(scale: Scale) -> Vec<Report> {
    let mut reports = vec![through("every value corrupted", Mode::Corrupt, scale).await];

    let server = Valkey::start();
    let cache = Cache::new(config(&server.tcp_url()));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    let mut copied = 0;
    for _ in 0..scale.of(2, 20) {
        let keys = server.command(&["KEYS", "trc:1:*"]);
        let keys = keys.lines().collect::<Vec<_>>();
        for pair in keys.windows(2) {
            server.command(&["COPY", pair[0], pair[1], "REPLACE"]);
            copied += 1;
        }
        sleep(Duration::from_millis(300)).await;
    }
    let recovery = rig.recovery(former).await;
    reports.push(Report {
        recovery: Some(recovery),
        note: format!("{copied} keys copied"),
        ..rig.finish("transplanted keys").await
    });

    let rig = begin(&server.tcp_url());
    for _ in 0..scale.of(2, 20) {
        let keys = server.command(&["KEYS", "trc:1:*"]);
        for (place, key) in keys.lines().enumerate() {
            match place % 3 {
                0 => server.command(&["SET", key, "someone else's", "KEEPTTL"]),
                1 => server.command(&["APPEND", key, "x"]),
                _ => server.command(&["SETRANGE", key, "20", "????????"]),
            };
        }
        sleep(Duration::from_millis(300)).await;
    }
    let recovery = rig.recovery(former).await;
    let eternal = server.command(&["KEYS", "trc:1:*"]);
    let eternal = eternal
        .lines()
        .filter(|key| server.command(&["TTL", key]) == "-1")
        .count();
    assert_eq!(eternal, 0, "keys without a time to live");
    reports.push(Report {
        recovery: Some(recovery),
        ..rig.finish("foreign and damaged values").await
    });
    reports
}

/// Instances whose clocks are apart.
pub(crate) async fn skewed_clocks(_scale: Scale) -> Vec<Report> {
    let now = TestClock::default().now();
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let mut all = Report::default();
    // Within a minute it is served; from further ahead it is not believed, and from behind by
    // more than its lifetime it is old.
    for (clock, served) in [
        (now.saturating_add(Duration::from_secs(30)), true),
        (now.saturating_add(minutes(10)), false),
        (now.saturating_add(minutes(60 * 24 * 365)), false),
        (now.saturating_sub(minutes(5)), true),
        (now.saturating_sub(minutes(11)), false),
    ] {
        let server = Valkey::start();
        let rig = |clock: TestClock| {
            let config = CacheConfig::builder()
                .url(server.url())
                .clock(clock)
                .operation_timeout(Duration::from_secs(2));
            Rig::new(Cache::new(config.build().unwrap()))
        };
        let (writer, reader) = (rig(TestClock::new(clock)), rig(TestClock::new(now)));
        for number in 0..10 {
            writer.ask(Question::public(number)).await;
        }
        assert!(writer.cache.shutdown(PATIENCE).await);
        for number in 0..10 {
            reader.ask(Question::public(number)).await;
        }
        let hits = reader.tally.hits.load(Ordering::Relaxed);
        assert_eq!(hits > 0, served, "{hits} hits, written at {clock:?}");
        merge(&mut all, writer.finish("").await);
        merge(&mut all, reader.finish("clocks apart").await);
    }
    vec![all]
}

/// Emptied over and over.
pub(crate) async fn flushed(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    let cache = Cache::new(config(&server.tcp_url()));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    let base = baseline(&rig).await;
    let rounds = scale.of(20, 200);
    for _ in 0..rounds {
        server.command(&["FLUSHALL"]);
        sleep(Duration::from_millis(50)).await;
    }
    let then = rig.p99().saturating_sub(base);
    let recovery = rig.recovery(former).await;
    vec![Report {
        added: Some((then, then)),
        recovery: Some(recovery),
        note: format!("{rounds} times"),
        ..rig.finish("FLUSHALL in a loop").await
    }]
}

/// Out of memory, with and without eviction.
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
        let base = baseline(&rig).await;
        server.command(&["CONFIG", "SET", "maxmemory-policy", policy]);
        server.command(&["CONFIG", "SET", "maxmemory", memory]);
        let added = suffer(&rig, base, scale).await;
        let during = rig.hit_rate(Duration::from_millis(300)).await;
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        let recovery = rig.recovery(former).await;
        reports.push(Report {
            added: Some(added),
            recovery: Some(recovery),
            note: format!("hit rate {former:.2}, then {during:.2}"),
            ..rig.finish(format!("maxmemory, {policy}")).await
        });
    }
    reports
}

/// One instance does not see the purge log any more: what another purges is not served beyond
/// the bound.
pub(crate) async fn log_cut(_scale: Scale) -> Vec<Report> {
    let (server, proxy) = fronted().await;
    let bound = Duration::from_secs(2);
    let version = Arc::new(AtomicU64::new(1));
    let cache = |url: String| {
        let config = CacheConfig::builder().url(url).purge_bound(bound);
        Cache::new(config.build().unwrap())
    };
    let cut = cache(server.tcp_url_at(proxy.port()));
    let seeing = cache(server.tcp_url());
    let current = Arc::clone(&version);
    let app = CacheLayer::new(cut.clone()).layer(service_fn(move |_: Request<Body>| {
        let version = current.load(Ordering::SeqCst);
        async move {
            let response = Response::builder().header("cache-control", "max-age=600");
            Ok::<_, Infallible>(response.body(Body::from(version.to_string())).unwrap())
        }
    }));
    let mut checked = 0;
    let mut ask = async || {
        checked += 1;
        let request = Request::get("http://test/").body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let hit = response.headers()["cache-status"]
            .to_str()
            .unwrap()
            .contains("; hit");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let version = std::str::from_utf8(&body).unwrap().parse::<u64>().unwrap();
        (version, hit)
    };
    let started = Instant::now();
    while !ask().await.1 {
        assert!(started.elapsed() < PATIENCE, "no hit");
        sleep(Duration::from_millis(10)).await;
    }
    proxy.set(Mode::CutLog);
    sleep(Duration::from_millis(1500)).await;
    version.store(2, Ordering::SeqCst);
    seeing.purge(Purge::everything()).await.unwrap();
    let purged = Instant::now();
    let stale_for = loop {
        match ask().await {
            (1, _) => assert!(purged.elapsed() < bound + Duration::from_secs(1), "stale"),
            _ => break purged.elapsed(),
        }
        sleep(Duration::from_millis(5)).await;
    };
    for _ in 0..100 {
        assert_eq!(ask().await.0, 2, "what was purged came back");
    }
    proxy.set(Mode::Forward);
    let healed = Instant::now();
    // A hit after more than the bound since the fetch is one by sight of the log.
    timeout(PATIENCE, async {
        let mut since = Instant::now();
        while since.elapsed() < bound + Duration::from_millis(500) {
            if !ask().await.1 {
                since = Instant::now();
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("lasting hits");
    vec![Report {
        fault: "the log's connection cut".to_owned(),
        checked,
        recovery: Some(healed.elapsed().saturating_sub(bound)),
        note: format!("stale for {stale_for:.1?} of at most {bound:?}"),
        ..Report::default()
    }]
}

/// A primary dies and its replica takes over; a node of a cluster dies and comes back.
pub(crate) async fn moved(scale: Scale) -> Vec<Report> {
    let mut primary = Valkey::start();
    let replica = Valkey::start();
    replica.follow(&primary);
    let sentinel = Sentinel::watching(&primary);
    sentinel.until_replicas(1);
    let (rig, former) = Rig::warm(Cache::new(config(&sentinel.url())), Load::STEADY).await;
    let base = baseline(&rig).await;
    primary.kill();
    let added = suffer(&rig, base, scale).await;
    let recovery = rig.recovery(former).await;
    let by_sentinel = Report {
        added: Some(added),
        recovery: Some(recovery),
        ..rig.finish("primary killed, Sentinel").await
    };

    let mut nodes = Nodes::start();
    let (log, _slot) = nodes.owner("trc:log");
    let victim = (log + 1) % 3;
    let (rig, former) = Rig::warm(Cache::new(config(&nodes.url())), Load::STEADY).await;
    let base = baseline(&rig).await;
    nodes.0[victim].kill();
    let added = suffer(&rig, base, scale).await;
    let during = rig.hit_rate(Duration::from_millis(300)).await;
    assert!(
        during > former * 0.3,
        "the other nodes' hits go on: {during}"
    );
    nodes.0[victim].start_again();
    let recovery = rig.recovery(former).await;
    let by_cluster = Report {
        added: Some(added),
        recovery: Some(recovery),
        note: format!("hit rate {former:.2}, then {during:.2}"),
        ..rig.finish("node killed, cluster").await
    };
    vec![by_sentinel, by_cluster]
}

/// Everything at once, a little.
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
    let added = suffer(&rig, Duration::ZERO, scale).await;
    let rate = rig.hit_rate(Duration::from_millis(500)).await;
    vec![Report {
        added: Some(added),
        note: format!("hit rate {rate:.2}"),
        ..rig.finish("chaos").await
    }]
}

/// A cache under load from its first moment.
fn begin(url: &str) -> Rig {
    let mut rig = Rig::new(Cache::new(config(url)));
    rig.load(Load::STEADY);
    rig
}

/// A fault of the line, while the cache is warm and under load.
async fn through(name: &str, mode: Mode, scale: Scale) -> Report {
    let (server, proxy) = fronted().await;
    let cache = Cache::new(config(&server.tcp_url_at(proxy.port())));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    let base = baseline(&rig).await;
    proxy.set(mode);
    let added = suffer(&rig, base, scale).await;
    let during = rig.hit_rate(Duration::from_millis(200)).await;
    proxy.set(Mode::Forward);
    let recovery = rig.recovery(former).await;
    Report {
        added: Some(added),
        recovery: Some(recovery),
        note: format!("hit rate {former:.2}, then {during:.2}"),
        ..rig.finish(name).await
    }
}

async fn baseline(rig: &Rig) -> Duration {
    rig.p99();
    sleep(Duration::from_millis(500)).await;
    rig.p99()
}

/// What a fault adds to the latency: before anything can have been learnt of it, and after.
async fn suffer(rig: &Rig, base: Duration, scale: Scale) -> (Duration, Duration) {
    rig.p99();
    sleep(Duration::from_millis(500)).await;
    let first = rig.p99().saturating_sub(base);
    sleep(scale.of(Duration::from_millis(700), Duration::from_secs(4))).await;
    (first, rig.p99().saturating_sub(base))
}

fn merge(sum: &mut Report, one: Report) {
    sum.fault = one.fault;
    sum.checked += one.checked;
    sum.wrong += one.wrong;
    sum.errors += one.errors;
    sum.dials += one.dials;
}

fn errors() -> Vec<Bytes> {
    let mut errors = [
        "-LOADING Valkey is loading the dataset in memory\r\n",
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "-MISCONF Errors writing to disk\r\n",
        "-NOREPLICAS Not enough good replicas to write.\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
        "-BUSY Valkey is busy running a script.\r\n",
        "-NOAUTH Authentication required.\r\n",
        "-WRONGPASS invalid username-password pair\r\n",
        "-NOPERM this user has no permissions\r\n",
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        "-MOVED 3999 127.0.0.1:1\r\n",
        "-ASK 3999 127.0.0.1:1\r\n",
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
        "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        "-ERR max number of clients reached\r\n",
        "-ERR unknown command 'GET', with args beginning with:\r\n",
        "-\r\n",
        "-ERR\r\n",
        "!21\r\nSYNTAX invalid syntax\r\n",
        "_\r\n",
        "*0\r\n",
        "$0\r\n\r\n",
        "$-1\r\n",
        ":-1\r\n",
        "+OK\r\n",
        "$18446744073709551615\r\n",
        "$536870912\r\nshort\r\n",
        "*99999999\r\n",
        "garbage\r\n",
    ]
    .map(Bytes::from)
    .to_vec();
    errors.push([b"-ERR ", &[b'x'; 65536][..], b"\r\n"].concat().into());
    errors.push(Bytes::from_static(b"-ERR \xff\xfe not UTF-8\r\n"));
    errors.push(Bytes::from_static(b"-\xff\xfe\r\n"));
    errors
}

const PATIENCE: Duration = Duration::from_secs(20);

/// All of them, in the order of the long suite.
#[allow(dead_code, reason = "the short selection has a test for each")]
pub(crate) async fn all(scale: Scale, mut told: impl FnMut(&Report)) {
    macro_rules! run {
        ($($scenario:ident),*) => {
            $(for report in $scenario(scale).await {
                told(&report);
                report.assert_good();
            })*
        };
    }
    run!(
        down_at_boot,
        killed,
        stopped,
        half_open,
        slow,
        torn,
        error_replies,
        wrong_values,
        skewed_clocks,
        flushed,
        full,
        log_cut,
        moved,
        chaos,
        desynchronised
    );
}
