//! The number of allocations of an exchange. Counts can be trusted; times cannot.
//!
//! The counts are those of this thread, whatever other tests do. Each bound was exact when it was
//! set. If a count falls below its bound, lower the bound.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, ETAG, HOST, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{Empty, Full};
use tower::{Layer, Service};
use tower_response_cache::{CacheConfig, CacheLayer, CacheService};

type Body = Empty<Bytes>;

/// For a varying response: both its keys, one allocation; the clone of its header map, two (places
/// and index); the value of `Cache-Status`, one. That of `Age` is cut from a table.
#[test]
fn a_hit_takes_memory_for_keys_header_map_and_one_value() {
    let mut cached = Cached::new("max-age=60");
    at_most(cached.count(Method::GET, &[]), HIT);
    assert!(cached.was_hit());
}

/// `Content-Length` is stored with the fields.
#[test]
fn a_head_takes_no_more_than_the_hit() {
    let mut cached = Cached::new("max-age=60");
    at_most(cached.count(Method::HEAD, &[]), HEAD);
    assert!(cached.was_hit());
}

#[test]
fn a_304_takes_no_more_than_the_hit() {
    let mut cached = Cached::new("max-age=60");
    at_most(
        cached.count(Method::GET, &[(IF_NONE_MATCH, "\"v1\"")]),
        NOT_MODIFIED,
    );
    assert!(cached.was_hit());
}

/// The body is shared: what it is long makes no difference.
#[test]
fn a_hit_of_a_long_body_takes_no_more_memory() {
    let mut cached = Cached::with_body("max-age=60", Bytes::from(vec![b'x'; 256 * 1024]));
    at_most(cached.count(Method::GET, &[]), HIT);
    assert!(cached.bytes_of(Method::GET) < 2048);
}

/// Beyond the handler's own: the request extensions by which a handler reaches the cache, and a
/// layer inside the one outside (their map and boxes), and `Cache-Status`, for which the header map
/// grows.
#[test]
fn what_passes_by_takes_memory_for_the_handle_and_cache_status() {
    let mut cached = Cached::new("max-age=60");
    at_most(cached.count(Method::OPTIONS, &[]), cached.bare() + PASSED);
    assert!(!cached.was_hit());
}

/// An unsafe method besides has a future of its own, and a purge of its target.
#[test]
fn an_unsafe_request_takes_memory_for_its_future_and_its_purge_besides() {
    let mut cached = Cached::new("max-age=60");
    at_most(cached.count(Method::POST, &[]), cached.bare() + UNSAFE);
    assert!(!cached.was_hit());
}

#[test]
fn a_response_that_is_not_stored_takes_memory_for_the_flow() {
    let mut cached = Cached::new("no-store");
    at_most(cached.count(Method::GET, &[]), cached.bare() + NO_STORE);
    assert!(!cached.was_hit());
}

fn at_most(counted: u64, bound: u64) {
    assert!(counted <= bound, "{counted}, not {bound}");
}

const HIT: u64 = 4;
const HEAD: u64 = 4;
const NOT_MODIFIED: u64 = 4;
const PASSED: u64 = 8;
const UNSAFE: u64 = 24;
const NO_STORE: u64 = 15;

/// A handler behind a cache that has been asked for the same before.
struct Cached {
    service: CacheService<Handler>,
    handler: Handler,
    status: String,
}

impl Cached {
    fn new(cache_control: &'static str) -> Self {
        Self::with_body(cache_control, Bytes::from(vec![b'x'; 1024]))
    }

    fn with_body(cache_control: &'static str, body: Bytes) -> Self {
        let lines = [
            (CACHE_CONTROL, cache_control),
            (VARY, "accept-encoding"),
            (ETAG, "\"v1\""),
            (HeaderName::from_static("surrogate-key"), "one two three"),
        ];
        let headers = lines.map(|(name, value)| (name, HeaderValue::from_static(value)));
        let headers = headers.into_iter().collect();
        let handler = Handler { headers, body };
        let service = CacheLayer::new(CacheConfig::default()).layer(handler.clone());
        let status = String::new();
        let mut cached = Self {
            service,
            handler,
            status,
        };
        // Twice, so that what is set up once is there.
        cached.count(Method::GET, &[]);
        cached.count(Method::GET, &[]);
        cached
    }

    /// Allocations of one exchange, but for those of the request itself.
    fn count(&mut self, method: Method, lines: &[(HeaderName, &'static str)]) -> u64 {
        // What a method needs once.
        self.exchange(request(method.clone(), lines));
        let asked = request(method, lines);
        let counted = measure(|| self.exchange(asked)).count_total;
        // The text of the status is this test's.
        counted - 1
    }

    fn bytes_of(&mut self, method: Method) -> u64 {
        let asked = request(method, &[]);
        measure(|| self.exchange(asked)).bytes_total
    }

    /// Allocations of the handler alone.
    fn bare(&mut self) -> u64 {
        let asked = request(Method::GET, &[]);
        measure(|| drop(self.handler.call(asked))).count_total
    }

    fn was_hit(&self) -> bool {
        self.status.contains("; hit")
    }

    /// One exchange; nothing here has to wait.
    fn exchange(&mut self, request: Request<Body>) {
        let response = pin!(self.service.call(request));
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(response)) = response.poll(&mut context) else {
            panic!("a response that is there at once")
        };
        let status = response.headers().get("cache-status").unwrap();
        self.status = status.to_str().unwrap().to_owned();
    }
}

fn request(method: Method, lines: &[(HeaderName, &'static str)]) -> Request<Body> {
    let mut request = Request::new(Body::new());
    *request.method_mut() = method;
    *request.uri_mut() = "/thing".parse().unwrap();
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("example.org"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br"));
    for (name, value) in lines {
        headers.insert(name, HeaderValue::from_static(value));
    }
    request
}

#[derive(Clone)]
struct Handler {
    headers: HeaderMap,
    body: Bytes,
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
        ready(Ok(response))
    }
}
