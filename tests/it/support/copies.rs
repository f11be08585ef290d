//! Layers that do less than this crate's, to find out what each part costs.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tower::layer::util::Identity;

/// An app behind a layer that does nothing. It shows what any layer costs on a router.
pub(crate) fn behind_nothing(app: Router) -> Router {
    app.layer(Identity::new())
}

/// An app behind the least that can be called a cache. It shows what any cache costs that keeps
/// what it passes.
///
/// The layer keeps a copy of every response under its URL, in the map that this crate uses, with
/// its default size. It reads no method and no field, purges nothing, and does not coalesce
/// requests.
pub(crate) fn behind_copies(app: Router) -> Router {
    let copies = Arc::new(Cache::with_weighter(BYTES / 2048, BYTES as u64, Weight));
    let keep = move |request: Request, next: Next| {
        let copies = Arc::clone(&copies);
        async move {
            let url: Box<str> = request.uri().to_string().into();
            if let Some((headers, body)) = copies.get(&url) {
                return (headers, body).into_response();
            }
            let (head, body) = next.run(request).await.into_parts();
            let Ok(body) = body.collect().await else {
                return Response::from_parts(head, Body::empty());
            };
            let body = body.to_bytes();
            copies.insert(url, (head.headers.clone(), Bytes::copy_from_slice(&body)));
            Response::from_parts(head, Body::from(body))
        }
    };
    app.layer(from_fn(keep))
}

#[derive(Clone)]
struct Weight;

impl Weighter<Box<str>, (HeaderMap, Bytes)> for Weight {
    fn weight(&self, url: &Box<str>, (headers, body): &(HeaderMap, Bytes)) -> u64 {
        (url.len() + headers.capacity() * 100 + body.len() + 100) as u64
    }
}

const BYTES: usize = 64 << 20;
