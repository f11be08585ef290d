//! The cost of the stages of a request: each row adds one thing to the row above it.
//!
//! ```sh
//! cargo bench --bench service
//! ```
//!
//! A service is called without a network, a router or a turn of a runtime, so that only this crate
//! is measured. The differences between rows are the costs of its stages. They survive internal
//! changes; benches of private functions would not.

#![allow(
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a benchmark"
)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::header::{ACCEPT_ENCODING, HOST, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{Empty, Full};
use tower::{Layer, Service};
use tower_response_cache::{
    Cache, CacheConfig, CacheLayer, CacheOptions, CacheService, Policy, Purge, QueryRule,
};

type Body = Empty<Bytes>;

fn hits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hit");
    let fields: [(&str, &[Line]); 4] = [
        ("fresh", &[FRESH]),
        ("etag", &[FRESH, TAG]),
        ("vary", &[FRESH, TAG, VARY]),
        ("tags", &[FRESH, TAG, VARY, KEYS]),
    ];
    for (name, lines) in fields {
        let mut service = serving(lines, Policy::default());
        let asked = get();
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || asked.clone(),
                |request| call(&mut service, request),
                SMALL,
            );
        });
    }
    let ways: [(&str, Asked); 4] = [
        ("head", || with(Method::HEAD, "/thing", &[])),
        ("304", || {
            with(Method::GET, "/thing", &[(IF_NONE_MATCH, "\"v1\"")])
        }),
        ("200 for another tag", || {
            with(Method::GET, "/thing", &[(IF_NONE_MATCH, "\"v2\"")])
        }),
        ("206", || {
            with(Method::GET, "/thing", &[(RANGE, "bytes=0-99")])
        }),
    ];
    for (name, asked) in ways {
        let mut service = serving(&[FRESH, TAG, VARY, KEYS], Policy::default());
        let asked = asked();
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || asked.clone(),
                |request| call(&mut service, request),
                SMALL,
            );
        });
    }
    group.finish();
}

/// A key from more than the URL as it is.
fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    let policy = Policy::builder();
    let policies = [
        ("query as it is", Policy::default()),
        (
            "query sorted",
            policy
                .clone()
                .query(QueryRule::Sorted)
                .build()
                .expect("a policy"),
        ),
        (
            "a header",
            policy
                .key_headers([HeaderName::from_static("x-tenant")])
                .build()
                .expect("a policy"),
        ),
    ];
    for (name, policy) in policies {
        let mut service = serving(&[FRESH], policy);
        let tenant = (HeaderName::from_static("x-tenant"), "one");
        let asked = with(Method::GET, "/thing?b=2&a=1&c=3&utm_source=mail", &[tenant]);
        call(&mut service, asked.clone());
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || asked.clone(),
                |request| call(&mut service, request),
                SMALL,
            );
        });
    }
    group.finish();
}

/// Requests that the handler answers.
fn passed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("passed");
    let asked = get();
    let mut handler = Handler {
        headers: headers(&[FRESH]),
        body: Bytes::from_static(&[b'x'; 1024]),
        tags: 0,
    };
    group.bench_function("the handler alone", |bencher| {
        let mut send = |request| drop(black_box(handler.call(request)));
        bencher.iter_batched(|| asked.clone(), &mut send, SMALL);
    });
    let ways: [(&str, Line, Asked); 4] = [
        ("OPTIONS", FRESH, || with(Method::OPTIONS, "/thing", &[])),
        ("POST", FRESH, || with(Method::POST, "/other", &[])),
        ("precondition", FRESH, || {
            with(Method::GET, "/other", &[(http::header::IF_MATCH, "\"v1\"")])
        }),
        ("no-store", ("cache-control", "no-store"), || {
            with(Method::GET, "/other", &[])
        }),
    ];
    for (name, line, asked) in ways {
        let mut service = serving(&[line], Policy::default());
        let asked = asked();
        call(&mut service, asked.clone());
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || asked.clone(),
                |request| call(&mut service, request),
                SMALL,
            );
        });
    }
    group.finish();
}

fn misses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("miss");
    for (name, lines) in [
        ("stored", &[FRESH][..]),
        ("stored, a variant", &[FRESH, VARY]),
    ] {
        let mut service = serving(lines, Policy::default());
        let mut number = 0_u64;
        group.bench_function(name, |bencher| {
            let unique = || {
                number += 1;
                with(
                    Method::GET,
                    &format!("/thing?{number}"),
                    &[(ACCEPT_ENCODING, "gzip, br")],
                )
            };
            bencher.iter_batched(unique, |request| call(&mut service, request), SMALL);
        });
    }
    group.finish();
}

/// A hit whose entry has to be judged again, since there was another purge.
fn purges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("purge, then a hit");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    for tags in [0, 10, 50] {
        let cache = Cache::new(CacheConfig::default());
        let mut service = CacheLayer::new(cache.clone()).layer(Handler {
            headers: headers(&[FRESH]),
            body: Bytes::from_static(&[b'x'; 1024]),
            tags,
        });
        let asked = get();
        call(&mut service, asked.clone());
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{tags} tags"), |bencher| {
            bencher.iter_batched(
                || asked.clone(),
                |request| {
                    let purged = runtime.block_on(cache.purge(Purge::tag("another")));
                    purged.expect("a log in memory takes it");
                    call(&mut service, request);
                },
                SMALL,
            );
        });
    }
    group.finish();
}

/// A cache before a handler, with the response to [`get`] in it.
fn serving(lines: &[Line], policy: Policy) -> CacheService<Handler> {
    let layer = CacheLayer::new(CacheConfig::default()).policy(policy);
    let mut service = layer.layer(Handler {
        headers: headers(lines),
        body: Bytes::from_static(&[b'x'; 1024]),
        tags: 0,
    });
    call(&mut service, get());
    service
}

/// One exchange; nothing here has to wait.
fn call(service: &mut CacheService<Handler>, request: Request<Body>) {
    let mut response = pin!(service.call(request));
    let mut context = Context::from_waker(Waker::noop());
    match response.as_mut().poll(&mut context) {
        Poll::Ready(response) => drop(black_box(response)),
        Poll::Pending => panic!("a response that is there at once"),
    }
}

#[derive(Clone)]
struct Handler {
    headers: HeaderMap,
    body: Bytes,
    tags: usize,
}

impl Service<Request<Body>> for Handler {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        let mut response = Response::new(Full::new(self.body.clone()));
        *response.headers_mut() = self.headers.clone();
        if self.tags > 0 {
            let options = CacheOptions::new();
            let tag = |options: CacheOptions, number| options.tag(format!("tag-{number}"));
            response
                .extensions_mut()
                .insert((0..self.tags).fold(options, tag));
        }
        ready(Ok(response))
    }
}

fn get() -> Request<Body> {
    with(Method::GET, "/thing", &[(ACCEPT_ENCODING, "gzip, br")])
}

fn with(method: Method, uri: &str, lines: &[(HeaderName, &'static str)]) -> Request<Body> {
    let mut request = Request::new(Body::new());
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().expect("a URI");
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("bench.example"));
    for (name, value) in lines {
        headers.insert(name, HeaderValue::from_static(value));
    }
    request
}

fn headers(lines: &[Line]) -> HeaderMap {
    let field = |&(name, value): &Line| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    lines.iter().map(field).collect()
}

type Line = (&'static str, &'static str);
type Asked = fn() -> Request<Body>;

const FRESH: Line = ("cache-control", "max-age=36000");
const TAG: Line = ("etag", "\"v1\"");
const VARY: Line = ("vary", "accept-encoding");
const KEYS: Line = ("surrogate-key", "one two three");
const SMALL: BatchSize = BatchSize::SmallInput;

criterion_group!(benches, hits, keys, passed, misses, purges);
criterion_main!(benches);
