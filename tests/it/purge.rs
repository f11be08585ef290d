//! Purges: every instance, at once, in any interleaving.

mod lost;
mod replicas;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, Request, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_response_cache::{Cache, CacheConfig, CacheLayer, CacheOptions, Purge};

use crate::support::eventually;
use crate::support::proxy::{Mode, Proxy};
use crate::support::valkey::Valkey;

/// What every instance serves: a number that grows with each change.
#[derive(Default)]
struct Origin {
    version: AtomicU64,
    calls: AtomicU64,
    /// While it is there, handlers wait for a permit before they answer.
    gate: Mutex<Option<Arc<Semaphore>>>,
    delay: AtomicU64,
}

#[derive(Clone)]
struct Instance {
    app: Router,
    cache: Cache,
}

impl Instance {
    fn new(origin: &Arc<Origin>, config: CacheConfig) -> Self {
        let cache = Cache::new(config);
        let app = Router::new()
            .route("/page", get(page).post(change))
            .route("/page/{part}", get(page))
            .route("/grouped", get(grouped).post(ungroup))
            .route("/tagged", get(tagged).put(change_tagged))
            .route("/fleeting", get(fleeting))
            .route("/pages", post(create))
            .route("/form", post(submit))
            .with_state(Arc::clone(origin))
            .layer(CacheLayer::new(cache.clone()));
        Self { app, cache }
    }

    fn on(origin: &Arc<Origin>, url: &str) -> Self {
        let config = CacheConfig::builder()
            .url(url)
            .operation_timeout(Duration::from_secs(1));
        Self::new(origin, config.build().unwrap())
    }

    fn in_memory(origin: &Arc<Origin>) -> Self {
        Self::new(origin, CacheConfig::default())
    }

    async fn call(&self, request: Request<Body>) -> Response {
        self.app.clone().oneshot(request).await.unwrap()
    }

    /// The version that a path shows, and whether it came from the cache.
    async fn see(&self, path: &str) -> (u64, Seen) {
        let request = Request::get(path).header("host", "example.com");
        let response = self.call(request.body(Body::empty()).unwrap()).await;
        let seen = seen(response.headers());
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (std::str::from_utf8(&body).unwrap().parse().unwrap(), seen)
    }

    async fn send(&self, method: &str, path: &str) -> StatusCode {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "example.com");
        self.call(request.body(Body::empty()).unwrap())
            .await
            .status()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Hit,
    Stale,
    Miss,
}

fn seen(headers: &HeaderMap) -> Seen {
    let status = headers["cache-status"].to_str().unwrap();
    match (status.contains("; hit"), status.contains("detail=")) {
        (true, false) => Seen::Hit,
        (true, true) => Seen::Stale,
        (false, _) => Seen::Miss,
    }
}

async fn answer(origin: &Origin) -> String {
    origin.calls.fetch_add(1, Ordering::SeqCst);
    let version = origin.version.load(Ordering::SeqCst);
    let gate = origin.gate.lock().unwrap().clone();
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
    let delay = origin.delay.load(Ordering::SeqCst);
    if delay > 0 {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..delay))).await;
    }
    version.to_string()
}

async fn page(State(origin): State<Arc<Origin>>) -> impl IntoResponse {
    let headers = [
        ("cache-control", "max-age=600"),
        ("vary", "accept-language"),
    ];
    (headers, answer(&origin).await)
}

async fn change(State(origin): State<Arc<Origin>>) -> StatusCode {
    origin.version.fetch_add(1, Ordering::SeqCst);
    StatusCode::NO_CONTENT
}

/// Names what it has changed beside its own URL.
async fn create(State(origin): State<Arc<Origin>>) -> impl IntoResponse {
    origin.version.fetch_add(1, Ordering::SeqCst);
    let headers = [
        ("location", "/page/7"),
        ("content-location", "http://example.com/page/8"),
    ];
    (StatusCode::CREATED, headers)
}

/// Sends its client to a page that it has not changed.
async fn submit() -> impl IntoResponse {
    (StatusCode::SEE_OTHER, [("location", "/page/7")])
}

async fn grouped(State(origin): State<Arc<Origin>>) -> impl IntoResponse {
    let headers = [
        ("cache-control", "max-age=600"),
        ("cache-groups", r#""one", "two""#),
    ];
    (headers, answer(&origin).await)
}

async fn ungroup(State(origin): State<Arc<Origin>>) -> impl IntoResponse {
    origin.version.fetch_add(1, Ordering::SeqCst);
    [("cache-group-invalidation", r#""two""#)]
}

async fn tagged(State(origin): State<Arc<Origin>>) -> impl IntoResponse {
    let options = CacheOptions::new().max_age(600).tag("thing");
    (
        options,
        [("surrogate-key", "alpha beta")],
        answer(&origin).await,
    )
}

/// Stale as soon as it is stored, and refreshed behind the answers.
async fn fleeting(State(origin): State<Arc<Origin>>) -> impl IntoResponse {
    let headers = [
        ("cache-control", "max-age=0, stale-while-revalidate=600"),
        ("surrogate-key", "thing"),
    ];
    (headers, answer(&origin).await)
}

async fn change_tagged(State(origin): State<Arc<Origin>>) -> impl IntoResponse {
    origin.version.fetch_add(1, Ordering::SeqCst);
    (CacheOptions::new().purge("thing"), StatusCode::NO_CONTENT)
}

/// Two instances on one server, both with `path` in memory.
async fn warm(origin: &Arc<Origin>, url: &str, path: &str) -> (Instance, Instance) {
    let (one, other) = (Instance::on(origin, url), Instance::on(origin, url));
    for instance in [&one, &other] {
        instance.see(path).await;
        eventually("a hit", PATIENCE, async || {
            instance.see(path).await.1 == Seen::Hit
        })
        .await;
    }
    (one, other)
}

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn each_kind_of_purge_takes_what_it_names_and_nothing_else() {
    let page: http::Uri = "http://example.com/page".parse().unwrap();
    let table: [(&str, Purge, bool, bool, bool); 9] = [
        ("url", Purge::uri(&page).unwrap(), true, false, false),
        (
            "url of any host",
            Purge::uri(&"/page".parse().unwrap()).unwrap(),
            true,
            false,
            false,
        ),
        (
            "another query",
            Purge::uri(&"/page?a".parse().unwrap()).unwrap(),
            false,
            false,
            false,
        ),
        (
            "another host",
            Purge::uri(&"http://example.org/page".parse().unwrap()).unwrap(),
            false,
            false,
            false,
        ),
        ("subtree", Purge::path("/page"), true, true, false),
        (
            "subtree with a slash",
            Purge::path("/page/"),
            true,
            true,
            false,
        ),
        (
            "tag of the handler",
            Purge::tag("thing"),
            false,
            false,
            true,
        ),
        (
            "tag of a field",
            Purge::tag("none").and_tag("beta"),
            false,
            false,
            true,
        ),
        ("everything", Purge::everything(), true, true, true),
    ];
    for (name, purge, gone, part_gone, tagged_gone) in table {
        let origin = Arc::default();
        let instance = Instance::in_memory(&origin);
        for path in ["/page", "/page/7", "/tagged"] {
            instance.see(path).await;
        }
        instance.cache.purge(purge).await.unwrap();
        let expected = |gone| if gone { Seen::Miss } else { Seen::Hit };
        assert_eq!(instance.see("/page").await.1, expected(gone), "{name}");
        assert_eq!(
            instance.see("/page/7").await.1,
            expected(part_gone),
            "{name}"
        );
        assert_eq!(
            instance.see("/tagged").await.1,
            expected(tagged_gone),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_purge_by_url_takes_all_variants() {
    let origin = Arc::default();
    let instance = Instance::in_memory(&origin);
    let ask = async |language: &str| {
        let request = Request::get("/page").header("accept-language", language);
        let response = instance.call(request.body(Body::empty()).unwrap()).await;
        seen(response.headers())
    };
    for language in ["en", "de", "en", "de"] {
        ask(language).await;
    }
    assert_eq!((ask("en").await, ask("de").await), (Seen::Hit, Seen::Hit));
    let purge = Purge::uri(&"/page".parse().unwrap()).unwrap();
    instance.cache.purge(purge).await.unwrap();
    assert_eq!((ask("en").await, ask("de").await), (Seen::Miss, Seen::Miss));
}

#[tokio::test]
async fn a_soft_purge_serves_stale_once_more_and_refreshes() {
    let origin: Arc<Origin> = Arc::default();
    let instance = Instance::in_memory(&origin);
    instance.see("/tagged").await;
    origin.version.store(1, Ordering::SeqCst);
    instance
        .cache
        .purge(Purge::tag("thing").soft())
        .await
        .unwrap();
    assert_eq!(instance.see("/tagged").await, (0, Seen::Stale));
    let fresh = async || instance.see("/tagged").await == (1, Seen::Hit);
    eventually("the refreshed response", PATIENCE, fresh).await;
    assert_eq!(origin.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_purge_that_lands_during_a_fill_wins() {
    let server = Valkey::start();
    let origin: Arc<Origin> = Arc::default();
    let (one, other) = warm(&origin, &server.url(), "/page").await;
    let gate = Arc::new(Semaphore::new(0));
    *origin.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let calls = origin.calls.load(Ordering::SeqCst);
    let slow = tokio::spawn({
        let one = one.clone();
        async move { one.see("/tagged").await }
    });
    let called = async || origin.calls.load(Ordering::SeqCst) > calls;
    eventually("the handler to be called", PATIENCE, called).await;
    origin.version.store(1, Ordering::SeqCst);
    other.cache.purge(Purge::tag("thing")).await.unwrap();
    gate.add_permits(1000);
    assert_eq!(slow.await.unwrap().0, 0, "it began before the change");
    let behind = async || one.see("/tagged").await.0 == 1;
    eventually("the purge to arrive", PATIENCE, behind).await;
    assert_eq!(other.see("/tagged").await.0, 1);
}

#[tokio::test]
async fn purges_reach_every_instance() {
    let server = Valkey::start();
    let origin: Arc<Origin> = Arc::default();
    let (one, other) = warm(&origin, &server.url(), "/tagged").await;
    origin.version.store(1, Ordering::SeqCst);
    one.cache.purge(Purge::tag("thing")).await.unwrap();
    assert_eq!(one.see("/tagged").await.0, 1, "at once where it was made");
    let there = async || other.see("/tagged").await.0 == 1;
    eventually("the purge elsewhere", PATIENCE, there).await;
}

#[tokio::test]
async fn an_unsafe_method_invalidates_everywhere_and_is_one_record_at_most() {
    let server = Valkey::start();
    let origin: Arc<Origin> = Arc::default();
    let (one, other) = warm(&origin, &server.url(), "/page").await;
    assert_eq!(one.send("POST", "/page").await, StatusCode::NO_CONTENT);
    assert_eq!(one.see("/page").await.0, 1);
    let there = async || other.see("/page").await.0 == 1;
    eventually("the change elsewhere", PATIENCE, there).await;

    let named = ["/page/7", "/page/8"];
    for path in named.into_iter().chain(["/page/9"]) {
        for instance in [&one, &other] {
            let hit = async || instance.see(path).await == (1, Seen::Hit);
            eventually("a hit", PATIENCE, hit).await;
        }
    }
    assert_eq!(one.send("POST", "/pages").await, StatusCode::CREATED);
    for path in named {
        assert_eq!(one.see(path).await.0, 2, "{path}");
        let there = async || other.see(path).await.0 == 2;
        eventually("the change elsewhere", PATIENCE, there).await;
    }
    for instance in [&one, &other] {
        assert_eq!(instance.see("/page/9").await, (1, Seen::Hit));
    }

    let length = server.command(&["XLEN", "trc:log"]);
    for _ in 0..10 {
        assert_eq!(one.send("POST", "/nowhere").await, StatusCode::NOT_FOUND);
        assert_eq!(one.send("PUT", "/tagged?x=1").await, StatusCode::NO_CONTENT);
    }
    let longer = server.command(&["XLEN", "trc:log"]);
    let grown = longer.parse::<u64>().unwrap() - length.parse::<u64>().unwrap();
    assert_eq!(grown, 10, "those that succeeded");
}

#[tokio::test]
async fn an_unsafe_method_invalidates_what_the_server_has_evicted() {
    let server = Valkey::start();
    let origin: Arc<Origin> = Arc::default();
    let one = Instance::on(&origin, &server.url());
    let other = Instance::on(&origin, &server.url());
    for (path, sent) in [("/page", "/page"), ("/page/7", "/pages")] {
        let hit = async || other.see(path).await.1 == Seen::Hit;
        eventually("a hit", PATIENCE, hit).await;
        assert!(other.cache.shutdown(PATIENCE).await, "all is written");
        let keys = server.command(&["KEYS", "trc:*"]);
        for key in keys.lines().filter(|key| *key != "trc:log") {
            server.command(&["DEL", key]);
        }
        let (before, seen) = other.see(path).await;
        assert_eq!(seen, Seen::Hit, "it has {path} in its memory");
        one.send("POST", sent).await;
        let there = async || other.see(path).await.0 > before;
        eventually("the change elsewhere", PATIENCE, there).await;
    }
}

#[tokio::test]
async fn a_redirection_after_a_form_invalidates_no_page_that_it_leads_to() {
    let origin = Arc::default();
    let instance = Instance::in_memory(&origin);
    instance.see("/page/7").await;
    let redirected = instance.send("POST", "/form").await;
    assert_eq!(redirected, StatusCode::SEE_OTHER);
    assert_eq!(instance.see("/page/7").await.1, Seen::Hit);
}

#[tokio::test]
async fn groups_are_invalidated_within_their_origin() {
    let origin: Arc<Origin> = Arc::default();
    let instance = Instance::in_memory(&origin);
    instance.see("/grouped").await;
    assert_eq!(instance.see("/grouped").await.1, Seen::Hit);
    let elsewhere = Request::post("/grouped").header("host", "example.org");
    instance.call(elsewhere.body(Body::empty()).unwrap()).await;
    assert_eq!(instance.see("/grouped").await.1, Seen::Hit);
    instance.send("POST", "/grouped").await;
    assert_eq!(instance.see("/grouped").await.1, Seen::Miss);
}

#[tokio::test]
async fn a_handler_purges_by_its_response() {
    let origin: Arc<Origin> = Arc::default();
    let instance = Instance::in_memory(&origin);
    instance.see("/tagged").await;
    instance.send("PUT", "/tagged?other").await;
    assert_eq!(instance.see("/tagged").await, (1, Seen::Miss));
}

#[tokio::test]
async fn tags_that_cannot_be_kept_are_not_stored() {
    let app = Router::new()
        .route(
            "/",
            get(|| async { (CacheOptions::new().max_age(60).tag("a\nb"), "x") }),
        )
        .layer(CacheLayer::new(CacheConfig::default()));
    for _ in 0..2 {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap();
        assert!(status.contains("detail=tags"), "{status}");
    }
}

/// The log goes on with greater positions, so that only the number of its records tells.
#[tokio::test]
async fn a_log_emptied_and_refilled_between_two_looks_is_noticed() {
    let server = Valkey::start();
    let origin: Arc<Origin> = Arc::default();
    let (one, other) = warm(&origin, &server.url(), "/tagged").await;
    for _ in 0..3 {
        one.cache.purge(Purge::tag("unrelated")).await.unwrap();
    }
    let hit = async || other.see("/tagged").await.1 == Seen::Hit;
    eventually("everyone to have read the log", PATIENCE, hit).await;
    origin.version.store(1, Ordering::SeqCst);
    server.command(&["DEL", "trc:log"]);
    // A purge of something else: a record that means nothing would purge everything by itself.
    let unrelated = "\u{10}0123456789abcdef";
    server.command(&["XADD", "trc:log", "*", "r", unrelated]);
    for instance in [&one, &other] {
        let there = async || instance.see("/tagged").await.0 == 1;
        eventually("the loss to be noticed", PATIENCE, there).await;
    }
}

#[tokio::test]
async fn a_purge_with_the_server_down_is_an_error_within_the_budget() {
    let mut server = Valkey::start();
    let config = CacheConfig::builder()
        .url(server.url())
        .operation_timeout(Duration::from_millis(100));
    let cache = Cache::new(config.build().unwrap());
    cache.purge(Purge::tag("a")).await.unwrap();
    server.kill();
    let began = Instant::now();
    let error = cache.purge(Purge::tag("a")).await.unwrap_err();
    assert!(error.is_store(), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_purge_is_one_command_whatever_it_matches() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let origin: Arc<Origin> = Arc::default();
    let instance = Instance::on(&origin, &server.tcp_url_at(proxy.port()));
    let appended = async |purge: Purge| {
        let length = |text: String| text.parse::<u64>().unwrap();
        let before = length(server.command(&["XLEN", "trc:log"]));
        instance.cache.purge(purge).await.unwrap();
        length(server.command(&["XLEN", "trc:log"])) - before
    };
    for number in 0..500 {
        instance.see(&format!("/tagged?{number}")).await;
    }
    assert_eq!(appended(Purge::tag("thing")).await, 1);
    assert_eq!(appended(Purge::tag("nobody has it")).await, 1);
    assert_eq!(appended(Purge::everything()).await, 1);
    proxy.set(Mode::Refuse);
}

/// Random purges during slow fills, refreshes of what is stale, and stalls of the store; no answer
/// is older than a purge that had returned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_purges_nothing_purged_is_served() {
    const PURGES: u64 = 2_000;
    let server = Valkey::start();
    let proxy = Arc::new(Proxy::to(server.port()).await);
    let origin: Arc<Origin> = Arc::default();
    let (one, other) = warm(&origin, &server.tcp_url_at(proxy.port()), "/tagged").await;
    origin.delay.store(3_000, Ordering::SeqCst);
    // The version that had been purged for when a purge returned, and when that was.
    let purged = Arc::new(AtomicU64::new(0));
    let returned: Arc<Mutex<HashMap<u64, Instant>>> = Arc::default();
    let done = Arc::new(AtomicU64::new(0));
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..64 {
        let instance = if number % 2 == 0 {
            one.clone()
        } else {
            other.clone()
        };
        let path = if number % 4 < 2 {
            "/tagged"
        } else {
            "/fleeting"
        };
        let (purged, done, returned) = (purged.clone(), done.clone(), returned.clone());
        readers.spawn(async move {
            let mut tale = Tale::default();
            while done.load(Ordering::SeqCst) == 0 {
                let floor = purged.load(Ordering::SeqCst);
                let began = Instant::now();
                let (version, seen) = instance.see(path).await;
                tale.count(seen);
                if number % 2 == 0 {
                    assert!(version >= floor, "{version} after the purge of {floor}");
                } else if version < floor {
                    let outdated = returned.lock().unwrap()[&(version + 1)];
                    tale.lags.push(began.saturating_duration_since(outdated));
                }
                // A hit is answered without waiting: the others need their turn.
                tokio::task::yield_now().await;
            }
            tale
        });
    }
    let stalls = tokio::spawn(stall(Arc::clone(&proxy), Arc::clone(&done)));
    for _ in 0..PURGES {
        let version = origin.version.fetch_add(1, Ordering::SeqCst) + 1;
        one.cache.purge(Purge::tag("thing")).await.unwrap();
        returned.lock().unwrap().insert(version, Instant::now());
        purged.store(version, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..1_000))).await;
    }
    done.store(1, Ordering::SeqCst);
    let tales = readers.join_all().await;
    let sum = |count: fn(&Tale) -> u64| tales.iter().map(count).sum::<u64>();
    let (hits, stale, fetched) = (sum(|it| it.hits), sum(|it| it.stale), sum(|it| it.fetched));
    let stalls = stalls.await.unwrap();
    let refreshed = origin.calls.load(Ordering::SeqCst);
    println!("{hits} hits, {stale} stale, {fetched} fetched, {refreshed} calls, {stalls} stalls");
    assert!(
        hits > 0 && stale > 0 && fetched > 0 && stalls > 10,
        "a storm without disturbance shows nothing"
    );
    let mut lags: Vec<Duration> = tales.into_iter().flat_map(|it| it.lags).collect();
    lags.sort_unstable();
    let at = |part: usize| {
        lags.get(lags.len() * part / 100)
            .copied()
            .unwrap_or_default()
    };
    let worst = lags.last().copied().unwrap_or_default();
    println!(
        "late elsewhere: {} of many, p50 {:?}, p99 {:?}, worst {worst:?}",
        lags.len(),
        at(50),
        at(99)
    );
    assert!(worst < Duration::from_secs(5), "{worst:?}");
}

/// What a reader saw.
#[derive(Default)]
struct Tale {
    hits: u64,
    stale: u64,
    fetched: u64,
    lags: Vec<Duration>,
}

impl Tale {
    fn count(&mut self, seen: Seen) {
        match seen {
            Seen::Hit => self.hits += 1,
            Seen::Stale => self.stale += 1,
            Seen::Miss => self.fetched += 1,
        }
    }
}

/// Makes the server come to a halt for a moment again and again, short of any timeout; how often.
async fn stall(proxy: Arc<Proxy>, done: Arc<AtomicU64>) -> u64 {
    let mut stalls = 0;
    while done.load(Ordering::SeqCst) == 0 {
        let (halt, run) = (fastrand::u64(2..12), fastrand::u64(20..150));
        proxy.set(Mode::Delay(Duration::from_millis(halt)));
        tokio::time::sleep(Duration::from_millis(halt)).await;
        proxy.set(Mode::Forward);
        tokio::time::sleep(Duration::from_millis(run)).await;
        stalls += 1;
    }
    stalls
}
