//! Purges that cannot be seen, and writes that come late.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_response_cache::{Cache, CacheConfig, CacheLayer, Purge, ResponseBody};

use super::PATIENCE;
use crate::faults::report::Report;
use crate::faults::rig::{Scale, config, fronted};
use crate::support::proxy::Mode;
use crate::support::valkey::Valkey;

/// One instance does not see the purge log any more. It serves nothing that another instance has
/// purged beyond the bound.
pub(crate) async fn log_cut(_scale: Scale) -> Vec<Report> {
    let (server, proxy) = fronted().await;
    let bound = Duration::from_secs(2);
    let cache = |url: String| {
        let config = CacheConfig::builder().url(url).purge_bound(bound);
        Cache::new(config.build().unwrap())
    };
    let cut = cache(server.tcp_url_at(proxy.port()));
    let seeing = cache(server.tcp_url());
    let mut app = Versioned::over(cut);
    let started = Instant::now();
    while !app.ask("/").await.1 {
        assert!(started.elapsed() < PATIENCE, "no hit");
        sleep(Duration::from_millis(10)).await;
    }
    proxy.set(Mode::CutLog);
    sleep(Duration::from_millis(1500)).await;
    app.version.store(2, Ordering::SeqCst);
    while seeing.purge(Purge::everything()).await.is_err() {
        assert!(started.elapsed() < PATIENCE, "no purge");
    }
    let purged = Instant::now();
    let stale_for = loop {
        match app.ask("/").await {
            (1, _) => assert!(purged.elapsed() < bound + Duration::from_secs(1), "stale"),
            _ => break purged.elapsed(),
        }
        sleep(Duration::from_millis(5)).await;
    };
    for _ in 0..100 {
        assert_eq!(app.ask("/").await.0, 2, "what was purged came back");
    }
    proxy.set(Mode::Forward);
    let healed = Instant::now();
    // A hit later than the bound after the fetch needs the log in sight.
    let lasting = timeout(PATIENCE, async {
        let mut since = Instant::now();
        while since.elapsed() < bound + Duration::from_millis(500) {
            if !app.ask("/").await.1 {
                since = Instant::now();
            }
            sleep(Duration::from_millis(10)).await;
        }
        since
    });
    let lasting = lasting.await.expect("lasting hits");
    vec![Report {
        fault: "the log's connection cut".to_owned(),
        checked: app.checked,
        recovery: Some(lasting.saturating_duration_since(healed)),
        note: format!("stale for {stale_for:.1?} of at most {bound:?}"),
        ..Report::default()
    }]
}

/// A write that was sent to a stopped server takes effect when the server goes on, long after the
/// write was given up. A purge after the write has to hold all the same.
pub(crate) async fn late_writes(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    let cache = Cache::new(config(&server.tcp_url()));
    let mut app = Versioned::over(cache.clone());
    while !app.ask("/0").await.1 {
        sleep(Duration::from_millis(10)).await;
    }
    let mut late = 0;
    for round in 0..scale.of(3, 30) {
        let paths = (0..20).map(|number| format!("/{round}/{number}"));
        let paths = paths.collect::<Vec<_>>();
        let before = sets(&server);
        server.pause();
        for path in paths.iter().take(3) {
            // Makes a read that times out, and a write in the background.
            app.ask(path).await;
        }
        cache.shutdown(PATIENCE).await;
        server.resume();
        late += sets(&server).saturating_sub(before);
        app.version.fetch_add(1, Ordering::SeqCst);
        let version = app.version.load(Ordering::SeqCst);
        let started = Instant::now();
        while cache.purge(Purge::everything()).await.is_err() {
            assert!(started.elapsed() < PATIENCE, "no purge");
            sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..3 {
            for path in &paths {
                let (seen, _hit) = app.ask(path).await;
                assert!(
                    seen >= version,
                    "version {seen} after the purge of {version}"
                );
            }
        }
    }
    assert!(late > 0, "no write came late");
    vec![Report {
        fault: "late writes (SIGSTOP)".to_owned(),
        checked: app.checked,
        dials: cache.statistics().store.map_or(0, |health| health.dials),
        note: format!("{late} writes came late"),
        ..Report::default()
    }]
}

/// The number of values that the server got so far.
fn sets(server: &Valkey) -> u64 {
    let statistics = server.command(&["INFO", "commandstats"]);
    let line = statistics
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_set:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok())
        .unwrap_or(0)
}

/// A handler whose every page shows the number of the current version.
struct Versioned {
    app: BoxCloneSyncService<Request<Body>, Response<ResponseBody<Body>>, Infallible>,
    version: Arc<AtomicU64>,
    checked: u64,
}

impl Versioned {
    fn over(cache: Cache) -> Self {
        let version = Arc::new(AtomicU64::new(1));
        let current = Arc::clone(&version);
        let app = CacheLayer::new(cache).layer(service_fn(move |_: Request<Body>| {
            let version = current.load(Ordering::SeqCst);
            async move {
                let response = Response::builder().header("cache-control", "max-age=600");
                Ok::<_, Infallible>(response.body(Body::from(version.to_string())).unwrap())
            }
        }));
        Self {
            app: BoxCloneSyncService::new(app),
            version,
            checked: 0,
        }
    }

    /// The version that a page shows, and whether it was a hit.
    async fn ask(&mut self, path: &str) -> (u64, bool) {
        self.checked += 1;
        let request = Request::get(format!("http://test{path}"));
        let request = request.body(Body::empty()).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap();
        let hit = status.contains("; hit");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let version = std::str::from_utf8(&body).unwrap().parse::<u64>().unwrap();
        (version, hit)
    }
}
