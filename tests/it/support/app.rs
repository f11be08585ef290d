//! A handler behind a cache whose clock stands still, called without a network.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceExt};
use tower_response_cache::{
    Cache, CacheConfig, CacheConfigBuilder, CacheLayer, CacheService, InProcessStore, Policy,
    TestClock, Timestamp,
};

type Script = Arc<dyn Fn(&Parts, usize) -> Response<Body> + Send + Sync>;

/// Field lines.
pub(crate) type Lines<'a> = &'a [(&'a str, &'a str)];

/// A handler, the cache before it, and the requests that the handler got.
pub(crate) struct App {
    service: CacheService<Handler>,
    pub(crate) cache: Cache,
    pub(crate) clock: TestClock,
    calls: Calls,
}

/// The requests that the handler got, in order.
type Calls = Arc<Mutex<Vec<Parts>>>;

impl App {
    /// An app with the default policy. `script` gets the request and the number of requests before
    /// it.
    pub(crate) fn new(
        script: impl Fn(&Parts, usize) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        Self::with(Policy::default(), script)
    }

    /// An app whose every response has these fields, and its number as its body.
    pub(crate) fn sending(lines: Lines<'_>) -> Self {
        Self::sending_with(Policy::default(), lines)
    }

    pub(crate) fn sending_with(policy: Policy, lines: Lines<'_>) -> Self {
        let headers = headers(lines);
        Self::with(policy, move |_, number| {
            let mut response = Response::new(Body::from(number.to_string()));
            *response.headers_mut() = headers.clone();
            response
        })
    }

    pub(crate) fn with(
        policy: Policy,
        script: impl Fn(&Parts, usize) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        Self::configured(CacheConfig::builder(), policy, script)
    }

    /// An app with settings of its own. Its clock stands still like that of any app.
    pub(crate) fn configured(
        config: CacheConfigBuilder,
        policy: Policy,
        script: impl Fn(&Parts, usize) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let clock = TestClock::new(Timestamp::from_secs(2_000_000_000));
        let config = config.clock(clock.clone()).build().unwrap();
        Self::at(clock, &CacheLayer::new(config).policy(policy), script)
    }

    /// One of several instances that share a store.
    pub(crate) fn sharing(
        store: &InProcessStore,
        script: impl Fn(&Parts, usize) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let clock = TestClock::new(Timestamp::from_secs(2_000_000_000));
        let config = CacheConfig::builder().clock(clock.clone()).build().unwrap();
        let cache = Cache::with_store(config, Arc::new(store.clone()));
        Self::at(clock, &CacheLayer::new(cache), script)
    }

    fn at(
        clock: TestClock,
        layer: &CacheLayer,
        script: impl Fn(&Parts, usize) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let calls = Calls::default();
        let handler = Handler {
            script: Arc::new(script),
            calls: Arc::clone(&calls),
        };
        Self {
            cache: layer.cache().clone(),
            service: layer.layer(handler),
            clock,
            calls,
        }
    }

    /// The response to a request, without its body.
    pub(crate) async fn open<T>(
        &self,
        request: Request<T>,
    ) -> Response<tower_response_cache::ResponseBody<Body>>
    where
        Body: From<T>,
    {
        let request = request.map(Body::from);
        let mut service = self.service.clone();
        service.ready().await.unwrap().call(request).await.unwrap()
    }

    pub(crate) async fn ask<T>(&self, request: Request<T>) -> Answer
    where
        Body: From<T>,
    {
        let (head, body) = self.open(request).await.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        }
    }

    pub(crate) async fn get(&self, path: &str, lines: Lines<'_>) -> Answer {
        self.send(Method::GET, path, lines).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, lines: Lines<'_>) -> Answer {
        self.ask(request(method, path, lines)).await
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// The fields of the handler's last request.
    pub(crate) fn last_call(&self) -> HeaderMap {
        let calls = self.calls.lock().unwrap();
        calls.last().unwrap().headers.clone()
    }

    pub(crate) fn wait(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }
}

/// A complete response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(HeaderValue::to_str);
        value.unwrap_or(Ok("")).unwrap()
    }

    /// The value of `Cache-Status`.
    pub(crate) fn cache(&self) -> &str {
        self.field("cache-status")
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.cache().contains("; hit")
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.cache().contains("; stored")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The field lines in order, without those that a cache adds, and without those that any server
    /// adds to a body of known length.
    pub(crate) fn own_lines(&self) -> Vec<(HeaderName, HeaderValue)> {
        let length = self.body.len().to_string();
        let own = |name: &HeaderName, value: &HeaderValue| match name.as_str() {
            "age" | "cache-status" => false,
            "content-length" => *value != length,
            _ => true,
        };
        let lines = self.headers.iter().filter(|(name, value)| own(name, value));
        lines
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

pub(crate) fn headers(lines: Lines<'_>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

pub(crate) fn request(method: Method, path: &str, lines: Lines<'_>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    *request.headers_mut() = headers(lines);
    let host = HeaderValue::from_static("example.org");
    request.headers_mut().entry("host").or_insert(host);
    request
}

pub(crate) fn response(status: u16, lines: Lines<'_>, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    *response.headers_mut() = headers(lines);
    response
}

#[derive(Clone)]
struct Handler {
    script: Script,
    calls: Calls,
}

impl Service<Request<Body>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (parts, _body) = request.into_parts();
        let mut calls = self.calls.lock().unwrap();
        let number = calls.len();
        calls.push(parts.clone());
        drop(calls);
        ready(Ok((self.script)(&parts, number)))
    }
}

/// The sender of a [`feed`]: it sends frames, or the error that ends the body.
pub(crate) type Feed = mpsc::UnboundedSender<Result<Frame<Bytes>, &'static str>>;

/// A body whose frames come when they are sent. Dropping the sender ends it cleanly.
pub(crate) fn feed() -> (Feed, Body) {
    let (feed, frames) = mpsc::unbounded_channel();
    (feed, Body::new(Fed(frames)))
}

/// A body of these frames, one after the other.
pub(crate) fn frames(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Body {
    let (feed, body) = feed();
    for frame in frames {
        feed.send(Ok(frame)).unwrap();
    }
    body
}

struct Fed(mpsc::UnboundedReceiver<Result<Frame<Bytes>, &'static str>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.0.poll_recv(context)
    }
}
