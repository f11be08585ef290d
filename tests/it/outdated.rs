//! Changes and outdated responses. Each test is about a bug: an outdated response was served, or a
//! valid one was lost.

mod load;
mod newer;
mod starting;
mod storm;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::header::{CONTENT_LOCATION, ETAG, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RANGE};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tower::{ServiceExt, service_fn};
use tower_response_cache::{
    Cache, CacheConfig, CacheLayer, InProcessStore, Outage, Policy, Purge, QueryRule, TokioClock,
    ValueOptions,
};

/// One state behind all paths, and its handler. What reads it may be made to wait after it has
/// read, and what changes it after it has changed.
#[derive(Default)]
struct Origin {
    version: AtomicU64,
    calls: AtomicU64,
    gate: Mutex<Option<Arc<Semaphore>>>,
    fields: Mutex<HeaderMap>,
    status: Mutex<Option<StatusCode>>,
    body: Mutex<Option<String>>,
}

impl Origin {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let changes = !request.method().is_safe();
        let version = if changes {
            self.version.fetch_add(1, Ordering::SeqCst) + 1
        } else {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.version.load(Ordering::SeqCst)
        };
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate.filter(|_| request.headers().contains_key("x-wait")) {
            gate.acquire().await.unwrap().forget();
        }
        let body = self.body.lock().unwrap().clone();
        let mut response = Response::new(Body::from(body.unwrap_or_else(|| version.to_string())));
        *response.headers_mut() = self.fields.lock().unwrap().clone();
        response
            .headers_mut()
            .entry("cache-control")
            .or_insert("max-age=600".parse().unwrap());
        if let Some(status) = *self.status.lock().unwrap() {
            *response.status_mut() = status;
        }
        if changes && response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.body_mut() = Body::empty();
        }
        response
    }

    fn set(&self, name: impl http::header::IntoHeaderName, value: &str) {
        let value = value.parse().unwrap();
        self.fields.lock().unwrap().insert(name, value);
    }

    fn close(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }
}

/// One instance, and one layer of it.
#[derive(Clone)]
struct App {
    origin: Arc<Origin>,
    cache: Cache,
    layer: CacheLayer,
}

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl App {
    fn in_memory(origin: &Arc<Origin>) -> Self {
        Self::of(origin, Cache::new(config()))
    }

    fn on(origin: &Arc<Origin>, store: &InProcessStore) -> Self {
        Self::of(origin, Cache::with_store(config(), Arc::new(store.clone())))
    }

    fn of(origin: &Arc<Origin>, cache: Cache) -> Self {
        Self {
            origin: Arc::clone(origin),
            layer: CacheLayer::new(cache.clone()),
            cache,
        }
    }

    fn with(&self, policy: Policy) -> Self {
        Self {
            layer: self.layer.clone().policy(policy),
            ..self.clone()
        }
    }

    fn send(&self, request: Request<Body>) -> Answer {
        let origin = Arc::clone(&self.origin);
        let handler = service_fn(move |request| {
            let origin = Arc::clone(&origin);
            async move { Ok::<_, Infallible>(origin.answer(request).await) }
        });
        let app = tower::Layer::layer(&self.layer, handler);
        Box::pin(async move { app.oneshot(request).await.unwrap().map(Body::new) })
    }

    fn ask(&self, method: &str, uri: &str, fields: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        if !uri.starts_with("http") {
            request = request.header("host", "example.org");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap())
    }

    /// What a plain GET shows, and whether it was a hit.
    async fn see(&self, uri: &str) -> (String, bool) {
        let (body, status) = seen(self.ask("GET", uri, &[]).await).await;
        (body, status.contains("; hit"))
    }

    async fn text(&self, uri: &str) -> String {
        self.see(uri).await.0
    }
}

async fn seen(response: Response<Body>) -> (String, String) {
    let status = response.headers()["cache-status"].to_str().unwrap();
    let status = status.to_owned();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (String::from_utf8(body.to_vec()).unwrap(), status)
}

fn config() -> CacheConfig {
    CacheConfig::builder()
        .clock(TokioClock::default())
        .build()
        .unwrap()
}

/// Lets other tasks run, the log's readers among them.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn poll_once<F: Future + Unpin>(future: &mut F) {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending(), "too early");
        Poll::Ready(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_did_not_outdate_what_was_asked_for_with_conditions_or_a_range() {
    let waits = ("x-wait", "1");
    for field in [(IF_NONE_MATCH, "\"x\""), (RANGE, "bytes=0-")] {
        let origin = Arc::default();
        let app = App::in_memory(&origin);
        let gate = origin.close();
        let mut under_way = app.ask("GET", "/page", &[waits, (field.0.as_str(), field.1)]);
        poll_once(&mut under_way).await;
        app.ask("PUT", "/page", &[]).await;
        gate.add_permits(1);
        seen(under_way.await).await;
        assert_eq!(app.text("/page").await, "1", "{field:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_did_not_outdate_what_was_asked_for_under_a_key_marked_uncacheable() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    origin.set("cache-control", "no-store");
    app.text("/page").await;
    origin.set("cache-control", "max-age=600");
    let gate = origin.close();
    let mut under_way = app.ask("GET", "/page", &[("x-wait", "1")]);
    poll_once(&mut under_way).await;
    app.ask("PUT", "/page", &[]).await;
    gate.add_permits(1);
    under_way.await;
    assert_eq!(app.text("/page").await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_change_did_not_outdate_what_another_instance_was_fetching() {
    let (origin, store) = (Arc::default(), InProcessStore::new());
    let (here, there) = (
        App::on(&origin, &store),
        App::on(&origin, &store.instance()),
    );
    here.text("/other").await;
    there.text("/other").await;
    settle().await;
    let gate = origin.close();
    let mut under_way = there.ask("GET", "/page", &[("x-wait", "1")]);
    let wait = tokio::time::timeout(Duration::from_millis(100), &mut under_way);
    assert!(wait.await.is_err());
    here.ask("PUT", "/page", &[]).await;
    gate.add_permits(1);
    under_way.await;
    settle().await;
    assert_eq!(there.text("/page").await, "1");
    assert_eq!(here.text("/page").await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_change_was_not_announced_where_the_store_had_evicted_the_page() {
    let (origin, store) = (Arc::default(), InProcessStore::new());
    let (here, there) = (
        App::on(&origin, &store),
        App::on(&origin, &store.instance()),
    );
    there.text("/page").await;
    settle().await;
    while store.evict_any(0).is_some() {}
    here.ask("PUT", "/page", &[]).await;
    settle().await;
    assert_eq!(there.text("/page").await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_full_store_did_not_take_was_not_applied() {
    let (origin, store) = (Arc::<Origin>::default(), InProcessStore::new());
    let (here, there) = (
        App::on(&origin, &store),
        App::on(&origin, &store.instance()),
    );
    let by_proxy = [("x-forwarded-host", "example.com")];
    for app in [&here, &there] {
        for uri in ["/page", "/new"] {
            app.text(uri).await;
        }
        app.ask("GET", "/page", &by_proxy).await;
    }
    settle().await;
    store.set_full(true);
    origin.set(LOCATION, "/new");
    here.ask("PUT", "/page", &[]).await;
    for uri in ["/page", "/new"] {
        assert_eq!(here.text(uri).await, "1", "{uri}, where it was changed");
    }
    let (body, _) = seen(here.ask("GET", "/page", &by_proxy).await).await;
    assert_eq!(body, "1");
    assert!(here.see("/page").await.1, "what was fetched since is kept");
    // The bound, and what it takes to notice.
    tokio::time::sleep(Duration::from_secs(8)).await;
    for uri in ["/page", "/new"] {
        assert_eq!(there.text(uri).await, "1", "{uri}, after the bound");
    }
    store.set_full(false);
    tokio::time::sleep(Duration::from_secs(3)).await;
    there.text("/page").await;
    settle().await;
    assert!(there.see("/page").await.1);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_announced_did_not_reach_others_when_the_store_was_back() {
    let (origin, store) = (Arc::default(), InProcessStore::new());
    let connection = store.instance();
    let (here, there) = (App::on(&origin, &connection), App::on(&origin, &store));
    here.text("/page").await;
    there.text("/page").await;
    settle().await;
    connection.cut_off(Outage::Silent);
    here.ask("PUT", "/page", &[]).await;
    assert_eq!(here.text("/page").await, "1");
    connection.reconnect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(there.text("/page").await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_client_left_while_the_handler_worked_invalidated_nothing() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    app.text("/page").await;
    let gate = origin.close();
    let mut put = app.ask("PUT", "/page", &[("x-wait", "1")]);
    poll_once(&mut put).await;
    drop(put);
    gate.add_permits(1);
    settle().await;
    assert_eq!(app.see("/page").await, ("1".to_owned(), false));
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_may_have_changed_that_never_answered_stayed_fresh() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    app.text("/page").await;
    origin.close();
    let mut put = app.ask("PUT", "/page", &[("x-wait", "1")]);
    poll_once(&mut put).await;
    drop(put);
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Softly: it is served stale once more, and refreshed.
    app.text("/page").await;
    settle().await;
    assert_eq!(app.text("/page").await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_ended_in_a_timeout_left_the_old_page_fresh() {
    for status in [StatusCode::REQUEST_TIMEOUT, StatusCode::GATEWAY_TIMEOUT] {
        let origin = Arc::<Origin>::default();
        let app = App::in_memory(&origin);
        app.text("/page").await;
        *origin.status.lock().unwrap() = Some(status);
        app.ask("PUT", "/page", &[]).await;
        *origin.status.lock().unwrap() = None;
        app.text("/page").await;
        settle().await;
        assert_eq!(app.text("/page").await, "1", "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_renewed_what_was_purged() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    origin.set(LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT");
    app.text("/page").await;
    app.cache.purge(Purge::path("/page")).await.unwrap();
    app.ask("HEAD", "/page", &[]).await;
    assert!(!app.see("/page").await.1);

    // And what is purged while the handler answers the HEAD.
    let gate = origin.close();
    tokio::time::sleep(Duration::from_secs(700)).await;
    let mut head = app.ask("HEAD", "/page", &[("x-wait", "1")]);
    poll_once(&mut head).await;
    app.cache.purge(Purge::path("/page")).await.unwrap();
    gate.add_permits(1);
    head.await;
    assert!(!app.see("/page").await.1);
}

#[tokio::test(start_paused = true)]
async fn a_change_did_not_reach_the_namespace_of_another_layer() {
    let origin = Arc::default();
    let app = App::in_memory(&origin);
    let other = app.with(Policy::builder().namespace("other").build().unwrap());
    other.text("/page").await;
    app.ask("PUT", "/page", &[]).await;
    assert_eq!(other.text("/page").await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_purge_of_the_url_that_clients_use_matched_nothing() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    let rule = QueryRule::Except(vec!["utm_*".into()]);
    let app = app.with(Policy::builder().query(rule).build().unwrap());
    let asked = "http://example.org/page?utm_source=x";
    for purged in [asked, "https://example.org/page?utm_source=x"] {
        let before = app.text(asked).await;
        origin.version.fetch_add(1, Ordering::SeqCst);
        let purge = Purge::uri(&purged.parse().unwrap()).unwrap();
        app.cache.purge(purge).await.unwrap();
        assert_ne!(app.text(asked).await, before, "{purged}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_of_nothing_emptied_every_instance() {
    let (origin, store) = (Arc::default(), InProcessStore::new());
    let app = App::on(&origin, &store);
    app.text("/page").await;
    let nothing = Purge::tags::<&str>([]);
    app.cache.purge(nothing).await.unwrap();
    settle().await;
    assert!(app.see("/page").await.1);
    assert!(store.records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_form_outdated_the_page_that_it_led_to() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    for (status, name, led_to_is_kept) in [
        (StatusCode::SEE_OTHER, LOCATION, true),
        (StatusCode::SEE_OTHER, CONTENT_LOCATION, true),
        (StatusCode::CREATED, LOCATION, false),
        (StatusCode::CREATED, CONTENT_LOCATION, false),
    ] {
        app.text("http://example.org/thanks").await;
        origin.set(name.clone(), "http://example.org/thanks");
        *origin.status.lock().unwrap() = Some(status);
        app.ask("POST", "http://example.org/form", &[]).await;
        *origin.status.lock().unwrap() = None;
        origin.fields.lock().unwrap().clear();
        let is_kept = app.see("http://example.org/thanks").await.1;
        assert_eq!(is_kept, led_to_is_kept, "{status} {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_purges_of_others_emptied_every_instance() {
    let (origin, store) = (Arc::default(), InProcessStore::new());
    store.set_log_length(100);
    let app = App::on(&origin, &store);
    app.text("/page").await;
    settle().await;
    for number in 0..2000 {
        app.cache.purge(Purge::tag("again")).await.unwrap();
        app.cache
            .purge(Purge::tag(number.to_string()))
            .await
            .unwrap();
    }
    settle().await;
    assert!(app.see("/page").await.1);
}

#[tokio::test(start_paused = true)]
async fn a_purge_of_another_began_a_new_flight_for_every_key() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    let gate = origin.close();
    let mut asking = Vec::new();
    for number in 0..20 {
        let mut one = app.ask("GET", "/cold", &[("x-wait", "1")]);
        poll_once(&mut one).await;
        asking.push(one);
        app.cache
            .purge(Purge::tag(format!("other {number}")))
            .await
            .unwrap();
    }
    gate.add_permits(20);
    for one in asking {
        assert_eq!(seen(one.await).await.0, "0");
    }
    assert_eq!(origin.calls.load(Ordering::SeqCst), 1);
}

/// Each request follows one flight from before it arrived, and one from after, at most.
#[tokio::test(start_paused = true)]
async fn a_page_that_is_purged_all_the_time_was_asked_for_by_every_request() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    let gate = origin.close();
    let mut asking = Vec::new();
    for _ in 0..20 {
        let app = app.clone();
        let one = app.ask("GET", "/cold", &[("x-wait", "1")]);
        asking.push(tokio::spawn(async move { seen(one.await).await }));
    }
    for _ in 0..3 {
        settle().await;
        app.cache.purge(Purge::path("/cold")).await.unwrap();
        gate.add_permits(1);
    }
    gate.add_permits(20);
    for one in asking {
        one.await.unwrap();
    }
    assert!(origin.calls.load(Ordering::SeqCst) <= 2);
}

#[tokio::test(start_paused = true)]
async fn tags_of_validations_piled_up() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    origin.set("cache-control", "max-age=1");
    origin.set(ETAG, "\"a\"");
    for number in 0..5 {
        origin.set("cache-tag", &format!("tag-{number}"));
        app.text("/page").await;
        *origin.status.lock().unwrap() = Some(StatusCode::NOT_MODIFIED);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    origin.set("cache-control", "max-age=600");
    app.text("/page").await;
    *origin.status.lock().unwrap() = None;
    app.cache.purge(Purge::tag("tag-0")).await.unwrap();
    assert!(app.see("/page").await.1, "the new field has replaced it");
    app.cache.purge(Purge::tag("tag-4")).await.unwrap();
    assert!(!app.see("/page").await.1);
}

#[tokio::test(start_paused = true)]
async fn the_policy_was_not_asked_of_what_a_304_made() {
    let origin = Arc::<Origin>::default();
    let policy =
        Policy::builder().store_if(|_, response| !response.headers.contains_key("x-draft"));
    let app = App::in_memory(&origin).with(policy.build().unwrap());
    origin.set("cache-control", "max-age=1");
    origin.set(ETAG, "\"a\"");
    app.text("/page").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    origin.set("x-draft", "1");
    origin.set("cache-control", "max-age=600");
    *origin.status.lock().unwrap() = Some(StatusCode::NOT_MODIFIED);
    assert_eq!(app.text("/page").await, "0");
    *origin.status.lock().unwrap() = None;
    assert!(!app.see("/page").await.1);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_recorded_left_the_stale_page_in_use() {
    let origin = Arc::<Origin>::default();
    let policy = Policy::builder().max_body(10).build().unwrap();
    let app = App::in_memory(&origin).with(policy);
    origin.set("cache-control", "max-age=1, stale-if-error=600");
    app.text("/page").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    *origin.body.lock().unwrap() = Some("longer than ten bytes".into());
    app.text("/page").await;
    *origin.body.lock().unwrap() = Some("down".into());
    *origin.status.lock().unwrap() = Some(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.text("/page").await, "down", "not the old one");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_took_long_to_make_overwrote_a_newer_one() {
    for store in [None, Some(InProcessStore::new())] {
        let cache = match &store {
            Some(store) => Cache::with_store(config(), Arc::new(store.clone())),
            None => Cache::new(config()),
        };
        let minute = Duration::from_secs(60);
        cache.set("other", "x", minute).await.unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let slow = async {
            let make = async || {
                gate.acquire().await.unwrap().forget();
                Ok::<_, Infallible>("old")
            };
            cache.get_or_set_with("name", minute, make).await.unwrap()
        };
        let newer = async {
            settle().await;
            cache.set("name", "new", minute).await.unwrap();
            gate.add_permits(1);
        };
        tokio::join!(slow, newer);
        settle().await;
        assert_eq!(cache.get("name").await.as_deref(), Some(&b"new"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_while_a_value_is_made_wins() {
    let cache = Cache::new(config());
    let options = ValueOptions::ttl(Duration::from_secs(60)).tag("a");
    let make = async || {
        cache.purge(Purge::tag("a")).await.unwrap();
        Ok::<_, Infallible>("old")
    };
    cache.get_or_set_with("name", options, make).await.unwrap();
    assert_eq!(cache.get("name").await, None);
}

#[tokio::test(start_paused = true)]
async fn an_older_purged_copy_took_the_place_of_a_stale_one() {
    let (origin, store) = (Arc::<Origin>::default(), InProcessStore::new());
    let app = App::on(&origin, &store);
    origin.set("cache-control", "max-age=1, stale-if-error=600");
    app.text("/page").await;
    settle().await;
    let copies: Vec<_> = store.keys();
    app.cache.purge(Purge::path("/page")).await.unwrap();
    settle().await;
    // The newer one does not reach the store.
    store.lose_writes(1);
    origin.version.store(7, Ordering::SeqCst);
    assert_eq!(app.text("/page").await, "7");
    settle().await;
    assert_eq!(store.keys(), copies);
    tokio::time::sleep(Duration::from_secs(2)).await;
    *origin.status.lock().unwrap() = Some(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.see("/page").await, ("7".to_owned(), true));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_ignores_changes_announces_none() {
    let (origin, store) = (Arc::<Origin>::default(), InProcessStore::new());
    let policy = Policy::builder().invalidate_on_unsafe_method(false);
    let app = App::on(&origin, &store);
    let ignoring = app.with(policy.build().unwrap());
    app.text("/page").await;
    ignoring.ask("PUT", "/page", &[]).await;
    assert!(store.records().is_empty());
    assert!(app.see("/page").await.1);
    app.ask("PUT", "/page", &[]).await;
    assert_eq!(store.records().len(), 1);
    assert!(!app.see("/page").await.1);
}
