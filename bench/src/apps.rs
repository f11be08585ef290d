//! The app of all measurements: bare, behind this crate, and behind layers that do less.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tower_response_cache::{CacheConfig, CacheLayer};

#[path = "../../tests/it/support/copies.rs"]
mod copies;

/// The headers of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// The headers that a handler sends.
    Handler,
    /// The headers that a cache sends: also `Age`, `Cache-Status` and `Date`.
    Answered,
    /// The headers of a handler that does not permit storing.
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

/// The app behind a layer that does nothing.
pub fn behind_nothing(size: usize) -> Router {
    copies::behind_nothing(plain(size, Headers::Handler))
}

/// The app behind the least that can be called a cache.
pub fn behind_copies(size: usize) -> Router {
    copies::behind_copies(plain(size, Headers::Handler))
}
