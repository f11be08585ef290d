//! Requests with unsafe methods: what they change is not served from the cache any more.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use http_body::Body;
use tower::util::Oneshot;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::cache::Cache;
use crate::future::passed;
use crate::key::Key;
use crate::layer::Settings;
use crate::policy;
use crate::purge::Purge;
use crate::status::{Forwarded, Outcome};

/// Calls the handler, and then invalidates what it may have changed (RFC 9111 4.4).
pub(crate) async fn run<S, B, R>(
    settings: Arc<Settings>,
    inner: S,
    mut parts: Parts,
    body: B,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    let cache = &settings.cache;
    parts.extensions.insert(cache.clone());
    let method = parts.method.clone();
    let target = Key::of_request(&parts, &settings.policy.key).ok();
    let response = Oneshot::new(inner, Request::from_parts(parts, body)).await?;
    if let Some(target) = target {
        let uris = outdated(&target, &method, &response);
        invalidate(cache, &target, &uris).await;
    }
    let outcome = Outcome::forward(Forwarded::Method, Some("method"));
    Ok(passed(response, outcome, cache))
}

fn outdated<R>(target: &Key, method: &Method, response: &Response<R>) -> Vec<Uri> {
    let uri = absolute(target);
    uri.map_or_else(Vec::new, |uri| {
        policy::invalidated(method, response.status(), &uri, response.headers())
    })
}

/// A fault of the store is no fault of the request: what could not be invalidated elsewhere
/// is trusted there no longer than the purge bound, since the log is out of sight as well.
async fn invalidate(cache: &Cache, target: &Key, uris: &[Uri]) {
    if uris.is_empty() {
        return;
    }
    let deadline = cache.deadline();
    let others = uris.len() > 1;
    if !others && !may_be_stored(cache, target, deadline).await {
        return;
    }
    let selectors = uris.iter().filter_map(|uri| Purge::uri(uri).ok());
    let purge = selectors.reduce(Purge::and);
    if let Some(purge) = purge
        && let Err(error) = cache.log().append(&purge, deadline).await
    {
        tracing::debug!(%error, "a change was not announced to other instances");
    }
}

/// Whether the resource may be stored anywhere, so that a write-heavy API does not flood the log.
/// The base key is removed on the way, which is what tells whether it was there.
async fn may_be_stored(cache: &Cache, target: &Key, deadline: tokio::time::Instant) -> bool {
    let known_here = cache.tiers().memory().contains(target.hash()) || cache.flights().has(target);
    match cache.tiers().remove(target, deadline).await {
        Ok(existed) => existed || known_here,
        Err(_store_trouble) => true,
    }
}

/// The target URI of a request, as a URI.
fn absolute(key: &Key) -> Option<Uri> {
    let target = key.target()?;
    let mut path = target.path.to_vec();
    if let Some(query) = target.query {
        path.push(b'?');
        path.extend_from_slice(query);
    }
    let path = PathAndQuery::from_maybe_shared(Bytes::from(path)).ok()?;
    let Some(authority) = &target.authority else {
        return Some(Uri::from(path));
    };
    Uri::builder()
        .scheme(target.scheme)
        .authority(&**authority)
        .path_and_query(path)
        .build()
        .ok()
}
