//! The app that everything is measured on: bare, behind this crate, and behind layers that do less.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tower::layer::util::Identity;
use tower_response_cache::{CacheConfig, CacheLayer};

/// What the headers of an answer are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// What a handler sends.
    Handler,
    /// What a cache sends: `Age`, `Cache-Status` and `Date` besides.
    Answered,
    /// What a handler sends that permits no storing.
    Secret,
}

impl Headers {
    #[must_use]
    pub fn map(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set =
            |name: &'static str, value| headers.insert(name, HeaderValue::from_static(value));
        set("content-type", "text/plain; charset=utf-8");
        set(
            "cache-control",
            if self == Self::Secret {
                "no-store"
            } else {
                "max-age=3600"
            },
        );
        set("vary", "accept-encoding");
        set("etag", "\"v1\"");
        set("surrogate-key", "one two three");
        if self == Self::Answered {
            set("date", "Sun, 22 Nov 2026 12:00:00 GMT");
            set("age", "12");
            set("cache-status", "tower-response-cache; hit; ttl=3588");
        }
        headers
    }
}

/// A handler that has its headers and its body ready.
///
/// It sends `/thing` with these `headers`, by GET and POST, and `/secret`.
pub fn plain(size: usize, headers: Headers) -> Router {
    let handler = |headers: HeaderMap| {
        let body = Bytes::from(vec![b'x'; size]);
        move || {
            let answer = (headers.clone(), body.clone());
            async move { answer }
        }
    };
    let thing = handler(headers.map());
    Router::new()
        .route(
            "/thing",
            get(thing.clone()).post(thing.clone()).options(thing),
        )
        .route("/secret", get(handler(Headers::Secret.map())))
}

/// The same answer in the fewest steps that axum permits: the header map is cloned, not merged.
pub fn by_hand(size: usize) -> Router {
    let body = Bytes::from(vec![b'x'; size]);
    let headers = Headers::Answered.map();
    let answer = move || {
        let mut response: Response = Response::new(body.clone().into());
        *response.headers_mut() = headers.clone();
        async move { response.into_response() }
    };
    Router::new().route("/thing", get(answer))
}

/// The app behind this crate, everything in memory.
pub fn ours(size: usize) -> Router {
    plain(size, Headers::Handler).layer(CacheLayer::new(CacheConfig::default()))
}

/// The app behind a layer that does nothing: what any layer costs on a router.
pub fn behind_nothing(size: usize) -> Router {
    plain(size, Headers::Handler).layer(Identity::new())
}

/// The app behind the least that can be called a cache: it keeps a copy of every response under
/// the URL, in the map that this crate uses, of the size that it has by default. No method, no
/// field of the request or the response is looked at, no purge, and callers are not brought
/// together. What any cache costs that keeps what it passes.
pub fn behind_copies(size: usize) -> Router {
    let copies = Arc::new(Cache::with_weighter(BYTES / 2048, BYTES as u64, Weight));
    let keep = move |request: Request, next: Next| {
        let copies = Arc::clone(&copies);
        async move {
            let url: Box<str> = request.uri().to_string().into();
            if let Some((headers, body)) = copies.get(&url) {
                return (headers, body).into_response();
            }
            let (head, body) = next.run(request).await.into_parts();
            let body = body
                .collect()
                .await
                .map_or_else(|_broken| Bytes::new(), |body| body.to_bytes());
            copies.insert(url, (head.headers.clone(), Bytes::copy_from_slice(&body)));
            Response::from_parts(head, Body::from(body))
        }
    };
    plain(size, Headers::Handler).layer(from_fn(keep))
}

#[derive(Clone)]
struct Weight;

impl Weighter<Box<str>, (HeaderMap, Bytes)> for Weight {
    fn weight(&self, url: &Box<str>, (headers, body): &(HeaderMap, Bytes)) -> u64 {
        (url.len() + headers.capacity() * 100 + body.len() + 100) as u64
    }
}

const BYTES: usize = 64 << 20;
