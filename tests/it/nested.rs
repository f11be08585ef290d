//! Two layers of one cache around one route: the inner one has the route.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_response_cache::{
    Cache, CacheConfig, CacheConfigBuilder, CacheLayer, CookieRule, InProcessStore, Policy,
    PolicyBuilder, Purge, QueryRule, SetCookieRule, TokioClock,
};

/// Everything that an outer layer could do wrong, if it had the route.
fn careless() -> PolicyBuilder {
    Policy::builder()
        .forced_ttl(Duration::from_secs(3600))
        .cookies(CookieRule::Ignore)
        .set_cookie(SetCookieRule::StoreForEveryone)
}

/// The policies of the outer and of the inner layer.
fn pairs() -> Vec<(&'static str, PolicyBuilder, PolicyBuilder)> {
    let new = Policy::builder;
    let query = || new().query(QueryRule::Except(vec!["utm_*".into()]));
    let by_cookie = || new().key_cookies(["theme"]).cookies(CookieRule::Ignore);
    vec![
        ("the same", new(), new()),
        ("a careless one outside", careless(), new()),
        ("the inner one keys by a cookie", new(), by_cookie()),
        ("the outer one keys by a cookie", by_cookie(), new()),
        ("the inner one has a namespace", new(), new().namespace("x")),
        ("the outer one has a namespace", new().namespace("x"), new()),
        ("the inner one leaves out queries", new(), query()),
        ("the outer one leaves out queries", query(), new()),
    ]
}

/// In memory; on a shared store; with leases; without memory.
fn caches() -> Vec<(&'static str, Cache)> {
    let on = |config: CacheConfigBuilder| {
        let config = config.clock(TokioClock::default()).build().unwrap();
        Cache::with_store(config, Arc::new(InProcessStore::new().instance()))
    };
    let new = CacheConfig::builder;
    let in_memory = new().clock(TokioClock::default()).build().unwrap();
    vec![
        ("in memory", Cache::new(in_memory)),
        ("on a store", on(new())),
        ("with leases", on(new().lease(true))),
        ("without memory", on(new().memory_bytes(0))),
    ]
}

fn in_memory() -> Cache {
    caches().remove(0).1
}

/// Routes behind two layers of one cache, and how often their handler was called.
#[derive(Clone)]
struct Site {
    app: Router,
    cache: Cache,
    calls: Arc<AtomicUsize>,
}

impl Site {
    /// The handler is told how many calls came before.
    fn new<F, T>(cache: &Cache, outer: PolicyBuilder, inner: PolicyBuilder, handler: F) -> Self
    where
        F: Fn(usize, Request) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = Response> + Send + 'static,
    {
        let (routes, calls) = routes(handler);
        let app = routes.layer(layer(cache, inner)).layer(layer(cache, outer));
        let cache = cache.clone();
        Self { app, cache, calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    async fn send(&self, method: Method, path: &str, fields: Fields) -> Answer {
        ask(&self.app, method, path, fields).await
    }

    /// How long it takes until all of so many requests at once are answered.
    async fn at_once(&self, count: usize, path: &'static str) -> (Duration, Vec<Answer>) {
        let began = Instant::now();
        let mut requests = JoinSet::new();
        for _ in 0..count {
            let site = self.clone();
            requests.spawn(async move { site.get(path).await });
        }
        let answers = requests.join_all().await;
        (began.elapsed(), answers)
    }
}

/// Any path, and how often the handler was called.
fn routes<F, T>(handler: F) -> (Router, Arc<AtomicUsize>)
where
    F: Fn(usize, Request) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = Response> + Send + 'static,
{
    let calls = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&calls);
    let handler = move |request| handler(count.fetch_add(1, Ordering::SeqCst), request);
    (Router::new().fallback(handler), calls)
}

fn layer(cache: &Cache, policy: PolicyBuilder) -> CacheLayer {
    CacheLayer::new(cache.clone()).policy(policy.build().unwrap())
}

type Fields = &'static [(&'static str, &'static str)];

async fn ask(app: &Router, method: Method, path: &str, fields: Fields) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://example.com{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(app.clone(), request)
        .await
        .unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    /// The members of `Cache-Status`.
    fn members(&self) -> Vec<&str> {
        let lines = self.headers.get_all("cache-status").iter();
        lines.map(|line| line.to_str().unwrap()).collect()
    }

    fn is_hit(&self) -> bool {
        matches!(*self.members(), [member] if member.contains("; hit"))
    }
}

/// A response with this `Cache-Control`.
fn with(directives: &str, body: impl Into<String>) -> Response {
    ([("cache-control", directives)], body.into()).into_response()
}

fn cookie(request: &Request) -> String {
    let cookie = request.headers().get("cookie");
    cookie.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn two_hundred_cold_requests_make_one_call_and_wait_for_it_alone() {
    for (cached, cache) in caches() {
        for (number, (policies, outer, inner)) in pairs().into_iter().enumerate() {
            let site = Site::new(&cache, outer, inner, |_, _| async {
                sleep(Duration::from_millis(300)).await;
                with("max-age=60", "page")
            });
            let path = ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7"][number];
            let (took, answers) = site.at_once(200, path).await;
            assert!(answers.iter().all(|it| it.body == "page"));
            assert!(answers.iter().all(|it| it.members().len() == 1));
            assert_eq!(site.calls(), 1, "{cached}, {policies}");
            // Leases and look-ups are asked for at the two layers one after the other.
            let most = Duration::from_millis(320);
            assert!(took < most, "{cached}, {policies}: {took:?}");
            let (took, answers) = site.at_once(200, path).await;
            assert!(answers.iter().all(Answer::is_hit), "{cached}, {policies}");
            assert!(took < Duration::from_millis(10), "{cached}, {policies}");
            assert_eq!(site.calls(), 1, "{cached}, {policies}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_handler_that_fails() {
    // A lease is given back behind the response: the next request waits for that with one layer too.
    let without_leases = caches()
        .into_iter()
        .filter(|(name, _)| *name != "with leases");
    for (cached, cache) in without_leases {
        for (policies, outer, inner) in pairs() {
            let site = Site::new(&cache, outer, inner, |_, _| async {
                sleep(Duration::from_millis(10)).await;
                (StatusCode::INTERNAL_SERVER_ERROR, "failed").into_response()
            });
            let began = Instant::now();
            for _ in 0..10 {
                let answer = site.get("/failing").await;
                assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
            }
            let took = began.elapsed();
            let most = Duration::from_millis(110);
            assert!(took < most, "{cached}, {policies}: {took:?}");
            // Three try it one after the other, and then the others do at once.
            let (took, _) = site.at_once(50, "/failing").await;
            let most = Duration::from_millis(45);
            assert!(took < most, "{cached}, {policies}: {took:?}");
        }
    }
}

/// What one user's cookie brings is not another's, however careless the outer layer is.
#[tokio::test(start_paused = true)]
async fn the_inner_policy_decides_who_gets_what_is_stored() {
    let new = Policy::builder;
    let by_user = || new().key_cookies(["sid"]).cookies(CookieRule::Ignore);
    let table: [(&str, PolicyBuilder, &str); 6] = [
        ("keyed by the cookie", by_user(), "max-age=60"),
        ("a page without a permission", new(), "max-age=60"),
        ("no-store", new(), "no-store"),
        ("private", new(), "private, max-age=60"),
        ("passed by", new().bypass_if(|_| true), "public, max-age=60"),
        (
            "refused",
            new().store_if(|_, _| false),
            "public, max-age=60",
        ),
    ];
    for (name, inner, directives) in table {
        let site = Site::new(
            &in_memory(),
            careless(),
            inner,
            move |_, request| async move {
                let mut response = with(directives, cookie(&request));
                let set = "seen=1".parse().unwrap();
                if directives == "max-age=60" && cookie(&request).is_empty() {
                    response.headers_mut().insert("set-cookie", set);
                }
                response
            },
        );
        for _ in 0..2 {
            for fields in [
                &[("cookie", "sid=alice")] as Fields,
                &[("cookie", "sid=bob")],
                &[],
            ] {
                let answer = site.send(Method::GET, "/", fields).await;
                let own = fields.first().map_or("", |(_, cookie)| *cookie);
                assert_eq!(answer.body, own, "{name}");
                assert_eq!(answer.members().len(), 1, "{name}");
            }
        }
    }
}

/// A layer between the two may decide who sees a page, or add to it: nothing goes past it.
#[tokio::test(start_paused = true)]
async fn what_stands_between_two_layers_sees_every_request() {
    async fn guard(request: Request, next: Next) -> Response {
        if !request.headers().contains_key("x-token") {
            return StatusCode::FORBIDDEN.into_response();
        }
        let mut response = next.run(request).await;
        let value = "default-src 'self'".parse().unwrap();
        response
            .headers_mut()
            .insert("content-security-policy", value);
        response
    }
    let cache = in_memory();
    let (routes, calls) = routes(|_, _| async { with("public, max-age=60", "secret") });
    let app = routes
        .layer(layer(&cache, Policy::builder()))
        .layer(middleware::from_fn(guard))
        .layer(layer(&cache, Policy::builder()));
    for _ in 0..3 {
        let seen = ask(&app, Method::GET, "/", &[("x-token", "1")]).await;
        assert_eq!(seen.body, "secret");
        assert!(seen.headers.contains_key("content-security-policy"));
        let refused = ask(&app, Method::GET, "/", &[]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn each_response_is_counted_once_and_has_one_member() {
    for (policies, outer, inner) in pairs() {
        let site = Site::new(&in_memory(), outer, inner, |_, request| async move {
            let directives = match request.uri().path() {
                "/private" => "private",
                _ => "max-age=60",
            };
            let mut response = with(directives, "page");
            let tag = "\"one\"".parse().unwrap();
            response.headers_mut().insert("etag", tag);
            response
        });
        let get = Method::GET;
        let exchanges: [(Method, &str, Fields); 11] = [
            (get.clone(), "/page", &[]),
            (get.clone(), "/page", &[]),
            (Method::HEAD, "/page", &[]),
            (get.clone(), "/page", &[("if-none-match", "\"one\"")]),
            (get.clone(), "/page", &[("range", "bytes=0-1")]),
            (get.clone(), "/page", &[("cache-control", "only-if-cached")]),
            (get.clone(), "/page", &[("if-match", "\"one\"")]),
            (get.clone(), "/private", &[]),
            (get, "/private", &[]),
            (Method::OPTIONS, "/page", &[]),
            (Method::POST, "/page", &[]),
        ];
        let expected = [200, 200, 200, 304, 206, 200, 200, 200, 200, 200, 200];
        for ((method, path, fields), status) in exchanges.into_iter().zip(expected) {
            let answer = site.send(method.clone(), path, fields).await;
            let name = format!("{policies}: {method} {path} {fields:?} {answer:?}");
            assert_eq!(answer.status, status, "{name}");
            assert_eq!(answer.members().len(), 1, "{name}");
        }
        let outcomes = site.cache.statistics().responses.outcomes;
        let counted: u64 = outcomes.iter().map(|(_, count)| count).sum();
        assert_eq!(counted, 11, "{policies}: {outcomes:?}");
        assert_eq!(site.cache.statistics().responses.stored, 1, "{policies}");
    }
}

/// However it ends: the inner layer announces it, and the outer one does not add to that.
#[tokio::test(start_paused = true)]
async fn a_change_is_announced_once() {
    let silent = || Policy::builder().invalidate_on_unsafe_method(false);
    let table = [
        ("it succeeds", "200", Policy::builder(), 1),
        ("it is refused", "403", Policy::builder(), 0),
        ("it is given up", "504", Policy::builder(), 1),
        ("its policy announces nothing", "200", silent(), 0),
        ("given up, and its policy", "504", silent(), 0),
    ];
    for (name, status, inner, expected) in table {
        let store = InProcessStore::new();
        let config = CacheConfig::builder().clock(TokioClock::default());
        let cache = Cache::with_store(config.build().unwrap(), Arc::new(store.instance()));
        let site = Site::new(&cache, careless(), inner, move |_, _| async move {
            let status: StatusCode = status.parse().unwrap();
            status.into_response()
        });
        site.send(Method::PUT, "/page", &[]).await;
        assert_eq!(store.records().len(), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn purges_reach_what_the_inner_layer_has_stored() {
    let purges = [
        Purge::tag("one"),
        Purge::uri(&"http://example.com/shop/page".parse().unwrap()).unwrap(),
        Purge::path("/shop"),
        Purge::everything(),
    ];
    for (cached, cache) in caches() {
        for (policies, outer, inner) in pairs() {
            let inner = inner.strip_tags(true);
            let site = Site::new(&cache, outer, inner, |call, _| async move {
                let mut response = with("max-age=60", call.to_string());
                let tags = "one two".parse().unwrap();
                response.headers_mut().insert("surrogate-key", tags);
                response
            });
            cache.purge(Purge::everything()).await.unwrap();
            for (number, purge) in purges.iter().enumerate() {
                for _ in 0..2 {
                    let answer = site.get("/shop/page").await;
                    let name = format!("{cached}, {policies}, purge {number}");
                    assert_eq!(answer.body, number.to_string(), "{name}");
                    assert!(!answer.headers.contains_key("surrogate-key"), "{name}");
                }
                cache.purge(purge.clone()).await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn variants_are_the_inner_layer_s() {
    for (policies, outer, inner) in pairs() {
        let site = Site::new(&in_memory(), outer, inner, |_, request| async move {
            let language = request.headers().get("accept-language");
            let language = language.map_or("", |value| value.to_str().unwrap());
            let mut response = with("max-age=60", language);
            let vary = "accept-language".parse().unwrap();
            response.headers_mut().insert("vary", vary);
            response
        });
        for round in 0..3 {
            let languages: [(&str, Fields); 3] = [
                ("", &[]),
                ("de", &[("accept-language", "de")]),
                ("fr", &[("accept-language", "fr")]),
            ];
            for (language, fields) in languages {
                let answer = site.send(Method::GET, "/", fields).await;
                assert_eq!(answer.body, language, "{policies}");
                assert_eq!(answer.is_hit(), round > 0, "{policies}: {answer:?}");
            }
        }
        assert_eq!(site.calls(), 3, "{policies}");
    }
}

/// A stale copy from the time when there was one layer is validated, served for the last time, and
/// given up.
#[tokio::test(start_paused = true)]
async fn what_the_outer_layer_stored_before_gives_way() {
    let store = InProcessStore::new();
    let cache = || {
        let config = CacheConfig::builder().clock(TokioClock::default());
        Cache::with_store(config.build().unwrap(), Arc::new(store.instance()))
    };
    let handler = |_, request: Request| async move {
        let tag = "\"one\"".parse().unwrap();
        let mut response = match request.headers().contains_key("if-none-match") {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => with("max-age=1, stale-if-error=600", "page"),
        };
        response.headers_mut().insert("etag", tag);
        response
    };
    let (before, _) = routes(handler);
    let old = cache();
    let before = before.layer(layer(&old, Policy::builder()));
    ask(&before, Method::GET, "/", &[]).await;
    assert!(old.shutdown(Duration::from_secs(1)).await);
    sleep(Duration::from_secs(10)).await;

    let site = Site::new(&cache(), careless(), Policy::builder(), handler);
    for _ in 0..2 {
        let answer = site.get("/").await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, "page"));
        assert_eq!(answer.members().len(), 1, "{answer:?}");
    }
    assert!(site.get("/").await.is_hit());
    let keys = || store.keys().into_iter().filter(|key| !key.contains("log"));
    assert_eq!(keys().count(), 1, "{:?}", store.keys());
}

#[tokio::test(start_paused = true)]
async fn two_caches_around_each_other_work_each_for_itself() {
    let (one, other) = (in_memory(), in_memory());
    let new = Policy::builder;
    let handler = |call, _| async move {
        sleep(Duration::from_millis(300)).await;
        with("max-age=60", format!("{call}"))
    };
    let (routes, calls) = routes(handler);
    let app = routes
        .layer(layer(&one, new()))
        .layer(layer(&other, new()))
        .layer(layer(&one, new()));
    let began = Instant::now();
    let first = ask(&app, Method::GET, "/", &[]).await;
    assert_eq!(began.elapsed(), Duration::from_millis(300));
    assert_eq!(first.members().len(), 2, "{first:?}");
    for _ in 0..3 {
        let answer = ask(&app, Method::GET, "/", &[]).await;
        assert_eq!(answer.body, "0");
        assert!(answer.members().iter().any(|it| it.contains("; hit")));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// Some routes have a layer of their own, are merged with the others, and the whole has a layer.
#[tokio::test(start_paused = true)]
async fn merged_routers_keep_their_own_policies() {
    let cache = in_memory();
    let own = |name: &'static str, policy: PolicyBuilder| {
        let body =
            move |request: Request| async move { with("max-age=60", cookie(&request) + name) };
        Router::new()
            .route(name, any(body))
            .layer(layer(&cache, policy))
    };
    let new = Policy::builder;
    let plain = |request: Request| async move { with("max-age=60", cookie(&request)) };
    let app = Router::new()
        .route("/plain", any(plain))
        .merge(own("/never", new().store_if(|_, _| false)))
        .merge(own(
            "/each",
            new().key_cookies(["sid"]).cookies(CookieRule::Ignore),
        ))
        .layer(layer(&cache, new().cookies(CookieRule::Ignore)));
    let mut statuses = Vec::new();
    for path in ["/plain", "/never", "/each"] {
        for fields in [
            &[("cookie", "sid=a")] as Fields,
            &[("cookie", "sid=b")],
            &[("cookie", "sid=a")],
        ] {
            let answer = ask(&app, Method::GET, path, fields).await;
            assert_eq!(answer.members().len(), 1);
            statuses.push((path, answer.body.clone(), answer.is_hit()));
        }
    }
    let expected = [
        ("/plain", "sid=a", false),
        ("/plain", "sid=a", true),
        ("/plain", "sid=a", true),
        ("/never", "sid=a/never", false),
        ("/never", "sid=b/never", false),
        ("/never", "sid=a/never", false),
        ("/each", "sid=a/each", false),
        ("/each", "sid=b/each", false),
        ("/each", "sid=a/each", true),
    ];
    let expected = expected.map(|(path, body, hit)| (path, body.to_owned(), hit));
    assert_eq!(statuses, expected);
}

/// A refresh in the background, and a failure for which a stale response stands in, are the inner
/// layer's too.
#[tokio::test(start_paused = true)]
async fn stale_responses_are_served_by_the_inner_policy() {
    for (policies, outer, inner) in pairs() {
        let fails = HeaderName::from_static("x-fail");
        let site = Site::new(&in_memory(), outer, inner, move |call, request| {
            let fails = request.headers().contains_key(&fails);
            async move {
                sleep(Duration::from_millis(100)).await;
                match fails {
                    true => StatusCode::BAD_GATEWAY.into_response(),
                    false => with(
                        "max-age=1, stale-while-revalidate=5, stale-if-error=60",
                        call.to_string(),
                    ),
                }
            }
        });
        site.get("/").await;
        sleep(Duration::from_secs(3)).await;
        let began = Instant::now();
        assert_eq!(site.get("/").await.body, "0", "{policies}");
        assert_eq!(began.elapsed(), Duration::ZERO, "{policies}");
        sleep(Duration::from_millis(200)).await;
        assert_eq!(site.get("/").await.body, "1", "{policies}");
        sleep(Duration::from_secs(30)).await;
        let failed = site.send(Method::GET, "/", &[("x-fail", "1")]).await;
        assert_eq!(failed.body, "1", "{policies}");
        assert!(
            failed.members()[0].ends_with("stale-if-error"),
            "{policies}"
        );
        assert_eq!(site.calls(), 3, "{policies}");
    }
}

/// The same in one layer, by the request.
#[tokio::test(start_paused = true)]
async fn a_layer_may_have_other_policies_for_some_requests() {
    let new = || Policy::builder().cookies(CookieRule::Ignore);
    let starts = |path: &'static str| {
        move |request: &http::request::Parts| request.uri.path().starts_with(path)
    };
    let store = InProcessStore::new();
    let config = CacheConfig::builder().clock(TokioClock::default());
    let cache = Cache::with_store(config.build().unwrap(), Arc::new(store.instance()));
    let (routes, _) = routes(|_, request| async move { with("max-age=60", cookie(&request)) });
    let each = new().key_cookies(["sid"]).build().unwrap();
    let never = new().bypass_if(|_| true).build().unwrap();
    let silent = new().invalidate_on_unsafe_method(false).build().unwrap();
    let app = routes.layer(
        CacheLayer::new(cache)
            .policy_if(starts("/each"), each)
            .policy_if(starts("/each/never"), never.clone())
            .policy_if(starts("/never"), never)
            .policy_if(starts("/silent"), silent)
            .policy(new().build().unwrap()),
    );
    let alice: Fields = &[("cookie", "sid=a")];
    let bob: Fields = &[("cookie", "sid=b")];
    let table = [
        ("/plain", ["sid=a", "sid=a", "sid=a"], [false, true, true]),
        ("/never", ["sid=a", "sid=b", "sid=a"], [false, false, false]),
        ("/each", ["sid=a", "sid=b", "sid=a"], [false, false, true]),
        (
            "/each/never",
            ["sid=a", "sid=b", "sid=a"],
            [false, false, true],
        ),
    ];
    for (path, bodies, hits) in table {
        for ((fields, body), is_hit) in [alice, bob, alice].into_iter().zip(bodies).zip(hits) {
            let answer = ask(&app, Method::GET, path, fields).await;
            assert_eq!((&*answer.body, answer.is_hit()), (body, is_hit), "{path}");
        }
    }
    ask(&app, Method::PUT, "/silent", &[]).await;
    assert_eq!(store.records().len(), 0);
    ask(&app, Method::PUT, "/plain", &[]).await;
    assert_eq!(store.records().len(), 1);
}
