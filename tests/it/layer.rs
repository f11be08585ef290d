//! The layer around real services, in process and without a shared store.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_response_cache::{
    Cache, CacheConfig, CacheConfigBuilder, CacheLayer, Policy, QueryRule, TestClock,
};

#[tokio::test]
async fn it_applies_without_adapters() {
    let layer = || CacheLayer::new(CacheConfig::default());
    let nested = |name| Router::new().nest(name, Router::new().route("/", get(minute)));
    let plain = tower::service_fn(|_request| async { Ok::<_, Infallible>(fresh("plain")) });
    let shapes: [(&str, Router); 9] = [
        (
            "Router::layer",
            Router::new().route("/", get(minute)).layer(layer()),
        ),
        (
            "Router::route_layer",
            Router::new().route("/", get(minute)).route_layer(layer()),
        ),
        (
            "MethodRouter::layer",
            Router::new().route("/", get(minute).layer(layer())),
        ),
        (
            "MethodRouter::route_layer",
            Router::new().route("/", get(minute).route_layer(layer())),
        ),
        (
            "a layer around a nest",
            nested("/nested")
                .merge(Router::new().route("/", get(minute)))
                .layer(layer()),
        ),
        (
            "ServiceBuilder in Router::layer",
            Router::new()
                .route("/", get(minute))
                .layer(ServiceBuilder::new().concurrency_limit(8).layer(layer())),
        ),
        (
            "under another layer",
            Router::new()
                .route("/", get(minute))
                .layer(layer())
                .layer(axum::middleware::from_fn(
                    async |request: Request<Body>, next: axum::middleware::Next| {
                        next.run(request).await
                    },
                )),
        ),
        (
            "ServiceBuilder around a router",
            Router::new().fallback_service(
                ServiceBuilder::new()
                    .layer(layer())
                    .service(Router::new().route("/", get(minute))),
            ),
        ),
        (
            "ServiceBuilder around a plain service",
            Router::new().fallback_service(ServiceBuilder::new().layer(layer()).service(plain)),
        ),
    ];
    for (name, app) in shapes {
        let first = ask(&app, Request::get("/")).await;
        assert_eq!(first.status, StatusCode::OK, "{name}");
        assert!(first.says("fwd=uri-miss"), "{name}: {first:?}");
        assert!(first.says("stored"), "{name}: {first:?}");
        let second = ask(&app, Request::get("/")).await;
        assert!(second.says("hit"), "{name}: {second:?}");
        assert_eq!(second.body, first.body, "{name}");
    }
}

#[tokio::test]
async fn it_wraps_a_hyper_service_on_a_real_socket() {
    let calls = Calls::default();
    let counted = calls.clone();
    let handler = tower::service_fn(move |_request: Request<hyper::body::Incoming>| {
        let call = counted.count();
        async move { Ok::<_, Infallible>(fresh(&format!("call {call}"))) }
    });
    let service = CacheLayer::new(CacheConfig::default()).layer(handler);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ended = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });

    let http1 = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let http2 = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Empty<Bytes>>();
    // HTTP/1.1's Host and HTTP/2's :authority are the same key.
    for client in [&http1, &http1, &http2, &http2] {
        let response = client
            .get(format!("http://{address}/p").parse().unwrap())
            .await
            .unwrap();
        let seen = Seen::of(response).await;
        assert_eq!(seen.status, StatusCode::OK);
        assert_eq!(seen.body, "call 1", "{seen:?}");
    }
    assert_eq!(calls.so_far(), 1);
}

#[tokio::test]
async fn nested_routers_never_collide() {
    let cache = Cache::new(CacheConfig::default());
    let inner = |name: &'static str| {
        Router::new()
            .route("/", get(move || async move { fresh(name) }))
            .route("/p", get(move || async move { fresh(name) }))
            .layer(CacheLayer::new(cache.clone()))
    };
    let app = Router::new()
        .nest("/a", inner("a"))
        .nest("/b", inner("b"))
        .nest("/deep", Router::new().nest("/a", inner("deep")));
    for round in ["fwd=uri-miss", "hit"] {
        let table = [
            ("/a/p", "a"),
            ("/b/p", "b"),
            ("/deep/a/p", "deep"),
            ("/a", "a"),
            ("/b", "b"),
        ];
        for (path, expected) in table {
            let seen = ask(&app, Request::get(path)).await;
            assert_eq!(seen.body, expected, "{path}");
            assert!(seen.says(round), "{path}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn a_miss_and_a_hit_say_so() {
    let bench = Bench::new(|_call, _request| fresh("hello"));
    let miss = bench.get("/").await;
    assert_eq!(
        miss.cache_status(),
        "tower-response-cache; fwd=uri-miss; fwd-status=200; stored; detail=not-found"
    );
    assert!(!miss.headers.contains_key(AGE));
    assert_eq!(miss.body, "hello");

    bench.pass(12);
    let hit = bench.get("/").await;
    assert_eq!(hit.cache_status(), "tower-response-cache; hit; ttl=48");
    assert_eq!(hit.headers[AGE], "12");
    assert_eq!(hit.headers[CACHE_CONTROL], "max-age=60");
    assert_eq!(hit.body, "hello");
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn what_has_expired_is_asked_for_again() {
    let bench = Bench::new(|call, _request| fresh(&format!("{call}")));
    bench.get("/").await;
    bench.pass(59);
    assert_eq!(bench.get("/").await.body, "1");
    bench.pass(1);
    let seen = bench.get("/").await;
    assert_eq!(seen.body, "2");
    assert!(seen.says("stored"), "{seen:?}");
    assert_eq!(bench.get("/").await.body, "2");
}

#[tokio::test]
async fn a_get_answers_a_head_and_a_head_stores_nothing() {
    let bench = Bench::new(|_call, _request| fresh("hello"));
    assert!(bench.ask(Request::head("/")).await.says("fwd=uri-miss"));
    assert_eq!(bench.calls(), 1);
    assert!(bench.get("/").await.says("stored"));

    let head = bench.ask(Request::head("/")).await;
    assert!(head.says("hit"), "{head:?}");
    assert_eq!(head.headers[CONTENT_LENGTH], "5");
    assert_eq!(head.body, "");
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn a_client_that_has_it_gets_a_304_from_the_cache() {
    let bench = Bench::new(|_call, _request| tagged("\"v1\"", "hello"));
    bench.get("/").await;
    for condition in ["\"v1\"", "W/\"v1\"", "\"v0\", \"v1\"", "*"] {
        let seen = bench
            .ask(Request::get("/").header(IF_NONE_MATCH, condition))
            .await;
        assert_eq!(seen.status, StatusCode::NOT_MODIFIED, "{condition}");
        assert_eq!(seen.headers[ETAG], "\"v1\"");
        assert!(seen.says("hit"), "{seen:?}");
        assert_eq!(seen.body, "");
    }
    let changed = bench
        .ask(Request::get("/").header(IF_NONE_MATCH, "\"v0\""))
        .await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_eq!(changed.body, "hello");
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn a_range_comes_from_the_stored_whole() {
    let bench = Bench::new(|_call, _request| tagged("\"v1\"", "0123456789"));
    bench.get("/").await;
    let part = bench
        .ask(Request::get("/").header("range", "bytes=2-4"))
        .await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.body, "234");
    assert_eq!(part.headers[CONTENT_RANGE], "bytes 2-4/10");
    let beyond = bench
        .ask(Request::get("/").header("range", "bytes=10-"))
        .await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn what_is_stale_is_validated_with_its_own_etag() {
    let bench = Bench::new(
        |_call, request| match request.headers().get(IF_NONE_MATCH) {
            Some(known) if known == "\"v1\"" => {
                let mut response = tagged("\"v1\"", "");
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }
            _ => tagged("\"v1\"", "hello"),
        },
    );
    bench.get("/").await;
    bench.pass(90);
    let validated = bench.get("/").await;
    assert_eq!(validated.status, StatusCode::OK);
    assert_eq!(validated.body, "hello");
    assert!(validated.says("fwd=stale; fwd-status=304"), "{validated:?}");
    assert_eq!(bench.calls(), 2);

    bench.pass(30);
    let hit = bench.get("/").await;
    assert_eq!(hit.headers[AGE], "30");
    assert_eq!(hit.body, "hello");
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn variants_are_told_apart_by_what_vary_names() {
    let bench = Bench::new(|call, request| {
        let language = request.headers().get("accept-language");
        let language = language.map_or("none", |value| value.to_str().unwrap());
        let mut response = fresh(&format!("{language} {call}"));
        response
            .headers_mut()
            .insert(VARY, "Accept-Language".parse().unwrap());
        response
    });
    let table = [
        (Some("de"), "de 1", "fwd=uri-miss"),
        (Some("en"), "en 2", "fwd=vary-miss"),
        (None, "none 3", "fwd=vary-miss"),
        (Some("de"), "de 1", "hit"),
        (Some("en"), "en 2", "hit"),
        (None, "none 3", "hit"),
    ];
    for (language, body, status) in table {
        let mut request = Request::get("/");
        if let Some(language) = language {
            request = request.header("accept-language", language);
        }
        let seen = bench.ask(request).await;
        assert_eq!(seen.body, body);
        assert!(seen.says(status), "{language:?}: {seen:?}");
    }
}

#[tokio::test]
async fn what_is_not_stored_says_why_and_calls_the_handler_each_time() {
    type Fields = &'static [(&'static str, &'static str)];
    let table: [(&str, Fields, Fields); 12] = [
        ("no-freshness", &[], &[]),
        ("no-store", &[("cache-control", "no-store")], &[]),
        ("private", &[("cache-control", "private, max-age=60")], &[]),
        ("private", &[("cache-control", "Private, max-age=60")], &[]),
        (
            "set-cookie",
            &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
            &[],
        ),
        (
            "vary-any",
            &[("cache-control", "max-age=60"), ("vary", " * ")],
            &[],
        ),
        (
            "vary-any",
            &[
                ("cache-control", "max-age=60"),
                ("vary", "accept"),
                ("vary", "*"),
            ],
            &[],
        ),
        (
            "authorization",
            &[("cache-control", "max-age=60")],
            &[("authorization", "Basic eDp5")],
        ),
        (
            "cookie",
            &[("cache-control", "max-age=60")],
            &[("cookie", "session=1")],
        ),
        (
            "request-no-store",
            &[("cache-control", "max-age=60")],
            &[("cache-control", "no-store")],
        ),
        (
            "request-body",
            &[("cache-control", "max-age=60")],
            &[("content-length", "3")],
        ),
        (
            "precondition",
            &[("cache-control", "max-age=60")],
            &[("if-match", "\"x\"")],
        ),
    ];
    for (why, response, request) in table {
        let bench = Bench::new(move |call, _request| {
            let mut reply = Response::builder();
            for (name, value) in response {
                reply = reply.header(*name, *value);
            }
            reply.body(Body::from(call.to_string())).unwrap()
        });
        for call in ["1", "2"] {
            let mut builder = Request::get("/");
            for (name, value) in request {
                builder = builder.header(*name, *value);
            }
            let seen = bench.ask(builder).await;
            assert_eq!(seen.body, call, "{why}: {seen:?}");
            assert!(seen.says(why), "{why}: {seen:?}");
            assert!(!seen.says("stored"), "{why}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn a_body_over_the_cap_passes_whole_and_unstored() {
    let long = "x".repeat(1001);
    for known_length in [true, false] {
        let body = long.clone();
        let bench = Bench::with(
            CacheConfig::builder().max_body(1000),
            move |_call, _request| {
                let body = match known_length {
                    true => Body::from(body.clone()),
                    false => chunked(body.as_bytes().chunks(100)),
                };
                response_with(body)
            },
        );
        for call in 1..=2 {
            let seen = bench.get("/").await;
            assert_eq!(seen.body, long);
            assert_eq!(bench.calls(), call, "{seen:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_is_never_held_back() {
    // An event stream, and one that could be stored if only it ended.
    for fields in [
        ("content-type", "text/event-stream"),
        ("cache-control", "max-age=60"),
    ] {
        let (sender, receiver) = mpsc::unbounded_channel();
        let body = std::sync::Mutex::new(Some(from_channel(receiver)));
        let bench = Bench::new(move |_call, _request| {
            let body = body.lock().unwrap().take().unwrap();
            let response = Response::builder().header(fields.0, fields.1);
            response.body(body).unwrap()
        });
        let response = bench.send(Request::get("/")).await.unwrap();
        let mut body = response.into_body();
        for event in ["one", "two", "three"] {
            // Sent only now: nobody can have waited for more.
            sender.send(Ok(Bytes::from(event))).unwrap();
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event, "{fields:?}");
        }
        drop(sender);
        assert!(body.frame().await.is_none(), "{fields:?}");
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_stored_at_its_end() {
    let bench = Bench::new(|_call, _request| response_with(chunked(b"hello".chunks(2))));
    assert_eq!(bench.get("/").await.body, "hello");
    let hit = bench.get("/").await;
    assert!(hit.says("hit"), "{hit:?}");
    assert_eq!(hit.body, "hello");
}

#[tokio::test]
async fn a_body_that_fails_breaks_off_and_is_not_stored() {
    let bench = Bench::new(|call, _request| {
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(Ok(Bytes::from("hello"))).unwrap();
        if call == 1 {
            let gone = std::io::Error::other("the database is gone");
            sender.send(Err(gone)).unwrap();
        }
        response_with(from_channel(receiver))
    });
    let broken = bench.send(Request::get("/")).await.unwrap();
    let error = broken.into_body().collect().await.unwrap_err();
    let source = error.source().map(ToString::to_string);
    assert_eq!(source.as_deref(), Some("the database is gone"));

    let second = bench.get("/").await;
    assert!(!second.says("hit"), "{second:?}");
    assert_eq!(second.body, "hello");
    assert!(bench.get("/").await.says("hit"));
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn a_body_of_another_length_than_declared_is_not_stored() {
    let bench = Bench::new(|_call, _request| {
        let mut response = response_with(chunked(b"hello".chunks(2)));
        response.headers_mut().insert(CONTENT_LENGTH, 6.into());
        response
    });
    for call in 1..=2 {
        let response = bench.send(Request::get("/")).await.unwrap();
        let _short_or_broken = response.into_body().collect().await;
        assert_eq!(bench.calls(), call);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_the_fill() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let body = std::sync::Mutex::new(Some(from_channel(receiver)));
    let bench = Bench::new(move |call, _request| match call {
        1 => response_with(body.lock().unwrap().take().unwrap()),
        _ => fresh("another"),
    });
    let mut left = bench.send(Request::get("/")).await.unwrap().into_body();
    sender.send(Ok(Bytes::from("hel"))).unwrap();
    left.frame().await.unwrap().unwrap();
    drop(left);
    sender.send(Ok(Bytes::from("lo"))).unwrap();
    drop(sender);
    // It joins the fill, or finds what it stored.
    assert_eq!(bench.get("/").await.body, "hello");
    assert!(bench.get("/").await.says("hit"));
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn a_successful_unsafe_method_invalidates() {
    let table = [
        (Method::PUT, StatusCode::NO_CONTENT, "fwd=uri-miss"),
        (Method::POST, StatusCode::SEE_OTHER, "fwd=uri-miss"),
        (Method::DELETE, StatusCode::OK, "fwd=uri-miss"),
        (Method::PATCH, StatusCode::OK, "fwd=uri-miss"),
        (Method::PUT, StatusCode::BAD_REQUEST, "hit"),
        (Method::POST, StatusCode::INTERNAL_SERVER_ERROR, "hit"),
        (Method::OPTIONS, StatusCode::OK, "hit"),
    ];
    for (method, status, expected) in table {
        let bench = Bench::new(move |_call, request| match *request.method() {
            Method::GET => fresh("hello"),
            _ => {
                let mut response = fresh("done");
                *response.status_mut() = status;
                response
            }
        });
        bench.get("/p").await;
        bench.get("/other").await;
        let changed = bench
            .ask(Request::builder().method(&method).uri("/p"))
            .await;
        assert!(changed.says("fwd=method"), "{method} {status}: {changed:?}");
        let after = bench.get("/p").await;
        assert!(after.says(expected), "{method} {status}: {after:?}");
        assert!(bench.get("/other").await.says("hit"));
    }
}

#[tokio::test]
async fn an_unsafe_method_invalidates_what_the_query_rule_made_of_its_url() {
    let rules = [
        (QueryRule::Sorted, "/p?b=1&a=2"),
        (
            QueryRule::Except(vec!["utm_*".into()]),
            "/p?utm_source=x&a=2",
        ),
    ];
    for (rule, url) in rules {
        let policy = Policy::builder().query(rule.clone()).build().unwrap();
        let mut bench = Bench::new(|_call, request| fresh(&request.uri().to_string()));
        bench.layer = bench.layer.policy(policy);
        bench.get(url).await;
        assert!(bench.get(url).await.says("hit"), "{rule:?}");
        // The handler of a change sees all that was sent.
        assert_eq!(bench.ask(Request::put(url)).await.body, url);
        assert!(!bench.get(url).await.says("hit"), "{rule:?}");
    }
}

#[tokio::test]
async fn the_inner_service_s_error_is_the_layer_s() {
    #[derive(Debug, PartialEq)]
    struct Broken(u64);
    impl fmt::Display for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "broken")
        }
    }
    let calls = Calls::default();
    let counted = calls.clone();
    let inner = tower::service_fn(move |_request: Request<Body>| {
        let call = counted.count();
        async move { Err::<Response<Full<Bytes>>, Broken>(Broken(call)) }
    });
    let service = CacheLayer::new(CacheConfig::default()).layer(inner);
    for (call, method) in [Method::GET, Method::GET, Method::POST, Method::OPTIONS]
        .into_iter()
        .enumerate()
    {
        let request = Request::builder().method(&method).body(Body::empty());
        let error: Broken = service.clone().oneshot(request.unwrap()).await.unwrap_err();
        assert_eq!(error, Broken(call as u64 + 1), "{method}");
    }
}

#[tokio::test]
async fn a_stale_response_stands_in_for_a_failure_if_it_may() {
    let bench = Bench::new(|call, _request| match call {
        1 => {
            let mut response = fresh("hello");
            let value = "max-age=60, stale-if-error=600".parse().unwrap();
            response.headers_mut().insert(CACHE_CONTROL, value);
            response
        }
        _ => {
            let mut response = fresh("broken");
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
    });
    bench.get("/").await;
    bench.pass(61);
    let stale = bench.get("/").await;
    assert_eq!(stale.status, StatusCode::OK);
    assert_eq!(stale.body, "hello");
    assert!(stale.says("detail=stale-if-error"), "{stale:?}");
    bench.pass(600);
    assert_eq!(bench.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn only_if_cached_never_calls_the_handler() {
    let bench = Bench::new(|_call, _request| fresh("hello"));
    let ask = || Request::get("/").header(CACHE_CONTROL, "only-if-cached");
    assert_eq!(bench.ask(ask()).await.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(bench.calls(), 0);
    bench.get("/").await;
    assert_eq!(bench.ask(ask()).await.body, "hello");
}

/// A service with room for one request only, and that one taken.
#[derive(Clone)]
struct NeverReady;

impl Service<Request<Body>> for NeverReady {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        panic!("called without being ready")
    }
}

#[tokio::test]
async fn a_hit_needs_nothing_of_the_inner_service() {
    let layer = CacheLayer::new(CacheConfig::default());
    let good =
        tower::service_fn(|_request: Request<Body>| ready(Ok::<_, Infallible>(fresh("hello"))));
    let request = || Request::get("/").body(Body::empty()).unwrap();
    layer.layer(good).oneshot(request()).await.unwrap();
    let hit = layer.layer(NeverReady).oneshot(request()).await.unwrap();
    assert_eq!(Seen::of(hit).await.body, "hello");
}

#[tokio::test]
async fn handlers_find_the_cache_in_every_request() {
    let bench = Bench::new(|_call, request| {
        let found = request.extensions().get::<Cache>().is_some();
        fresh(&found.to_string())
    });
    for (method, path) in [
        (Method::GET, "/"),
        (Method::HEAD, "/head"),
        (Method::POST, "/"),
        (Method::OPTIONS, "/"),
    ] {
        let seen = bench
            .ask(Request::builder().method(&method).uri(path))
            .await;
        assert_eq!(seen.body, "true", "{method}");
    }
}

#[tokio::test]
async fn forwarding_headers_cannot_poison() {
    let bench = Bench::new(|_call, request| {
        let host = request.headers().get("x-forwarded-host");
        fresh(host.map_or("good", |host| host.to_str().unwrap()))
    });
    let evil = bench
        .ask(Request::get("/").header("x-forwarded-host", "evil"))
        .await;
    assert_eq!(evil.body, "evil");
    assert_eq!(bench.get("/").await.body, "good");
}

async fn minute() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CACHE_CONTROL, "max-age=60")], "hello")
}

/// A response that is good for a minute.
fn fresh(body: &str) -> Response<Body> {
    response_with(Body::from(body.to_owned()))
}

fn response_with(body: Body) -> Response<Body> {
    let response = Response::builder().header(CACHE_CONTROL, "max-age=60");
    response.body(body).unwrap()
}

fn tagged(etag: &'static str, body: &str) -> Response<Body> {
    let mut response = fresh(body);
    response.headers_mut().insert(ETAG, etag.parse().unwrap());
    response
}

/// A body that does not say how long it is.
fn chunked<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Body {
    let (sender, receiver) = mpsc::unbounded_channel();
    for chunk in chunks {
        sender.send(Ok(Bytes::copy_from_slice(chunk))).unwrap();
    }
    from_channel(receiver)
}

/// A body of what is sent, as it is sent; it ends when the sender is dropped.
fn from_channel(receiver: mpsc::UnboundedReceiver<std::io::Result<Bytes>>) -> Body {
    Body::new(Sent(receiver))
}

struct Sent(mpsc::UnboundedReceiver<std::io::Result<Bytes>>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let sent = self.0.poll_recv(context);
        sent.map(|sent| sent.map(|data| data.map(Frame::data)))
    }
}

/// How often a handler was called.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicU64>);

impl Calls {
    fn count(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

type Handler = Arc<dyn Fn(u64, &Request<Body>) -> Response<Body> + Send + Sync>;

/// A handler behind the layer, and a clock that stands until told.
struct Bench {
    clock: TestClock,
    calls: Calls,
    layer: CacheLayer,
    handler: Handler,
}

impl Bench {
    fn new(
        handler: impl Fn(u64, &Request<Body>) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        Self::with(CacheConfig::builder(), handler)
    }

    fn with(
        config: CacheConfigBuilder,
        handler: impl Fn(u64, &Request<Body>) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let clock = TestClock::default();
        let config = config.clock(clock.clone()).build().unwrap();
        Self {
            clock,
            calls: Calls::default(),
            layer: CacheLayer::new(config),
            handler: Arc::new(handler),
        }
    }

    fn pass(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    fn calls(&self) -> u64 {
        self.calls.so_far()
    }

    async fn send(
        &self,
        request: http::request::Builder,
    ) -> Result<Response<tower_response_cache::ResponseBody<Body>>, Infallible> {
        let (calls, handler) = (self.calls.clone(), Arc::clone(&self.handler));
        let inner = tower::service_fn(move |request: Request<Body>| {
            ready(Ok((*handler)(calls.count(), &request)))
        });
        let request = request.body(Body::empty()).unwrap();
        self.layer.layer(inner).oneshot(request).await
    }

    async fn ask(&self, request: http::request::Builder) -> Seen {
        Seen::of(self.send(request).await.unwrap()).await
    }

    async fn get(&self, path: &str) -> Seen {
        self.ask(Request::get(path)).await
    }
}

async fn ask(app: &Router, request: http::request::Builder) -> Seen {
    let request = request.body(Body::empty()).unwrap();
    Seen::of(app.clone().oneshot(request).await.unwrap()).await
}

/// A response as its client sees it.
#[derive(Debug)]
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    async fn of<B>(response: Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: fmt::Debug,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    fn cache_status(&self) -> &str {
        self.headers["cache-status"].to_str().unwrap()
    }

    fn says(&self, text: &str) -> bool {
        let members = self.cache_status();
        members.contains(&format!("; {text}")) || members.contains(&format!("={text}"))
    }
}
