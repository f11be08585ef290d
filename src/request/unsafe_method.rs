//! Requests with unsafe methods, which invalidate the stored responses that they may have changed.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, Uri};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::key::{Key, KeyBuilder, Traces};
use crate::purge::Purge;
use crate::request::detached::{Answer, Detachable, KeepAlive};
use crate::request::handler::Content;
use crate::request::settings::Settings;
use crate::response::body::ResponseBody;
use crate::response::passed::passed;
use crate::semantics::{self, CacheOptions};
use crate::status::{Forwarded, Outcome, Reason};

/// A request with an unsafe method and what it may change, noted before its handler is called.
pub(crate) struct Change {
    settings: Arc<Settings>,
    method: Method,
    /// The key under which a plain GET of the same target is stored.
    target: Option<KeyBuilder>,
}

impl Change {
    pub(crate) fn begin(settings: &Arc<Settings>, parts: &Parts) -> Self {
        let target = KeyBuilder::of_target(parts, &settings.policy.key).ok();
        Self {
            settings: Arc::clone(settings),
            method: parts.method.clone(),
            target: target.map(KeyBuilder::into_bare),
        }
    }

    /// RFC 9111 4.4: a cache "MUST invalidate the target URI when it receives a non-error status
    /// code in response to an unsafe request method".
    ///
    /// The response waits until the store and the purge log know of the change.
    pub(crate) fn settle<R: Content, E: Send>(mut self, response: Response<R>) -> Answer<R, E> {
        if !is_non_error(&response) || self.is_of_nothing_known(&response) {
            return Answer::Ready(self.pass(response));
        }
        let deadline = self.settings.cache.config().fill_deadline;
        let future = Box::pin(async { Ok(self.announce(response).await) });
        Answer::Pending(Detachable::new(future, KeepAlive::Fixed(true), deadline))
    }

    /// Whether it is certain, without asking anybody, that nothing of what may have changed is
    /// stored.
    fn is_of_nothing_known<R>(&mut self, response: &Response<R>) -> bool {
        let cache = &self.settings.cache;
        cache.tiers().store().is_none()
            && !semantics::concerns_others(response.headers())
            && response.extensions().get::<CacheOptions>().is_none()
            && !self
                .target
                .as_mut()
                .is_some_and(|target| is_known_here(cache, target))
    }

    async fn announce<R: Content>(self, response: Response<R>) -> Response<ResponseBody<R>> {
        let gate = self.target.as_ref().map(Gate::of);
        let cache = &self.settings.cache;
        // One budget for all that the store is asked, and one record for all that is purged.
        let deadline = cache.deadline();
        let mut purge = None;
        if let Some(gate) = &gate {
            let uris = outdated(&gate.target, &self.method, &response);
            purge = invalidated(cache, gate, &uris, deadline).await;
        }
        let target = gate.map(|gate| gate.target);
        let named = named(target.as_ref(), &response);
        let purge = purge.into_iter().chain(named).reduce(Purge::and);
        if let Some(purge) = purge {
            append_to_log(cache, &purge, deadline).await;
        }
        self.pass(response)
    }

    fn pass<R>(&self, response: Response<R>) -> Response<ResponseBody<R>> {
        let outcome = Outcome::forward(Forwarded::Method, Some(Reason::Method));
        passed(response, outcome, self.settings.cache.status_name())
    }
}

/// Whether this instance has, or is fetching, anything of the target.
fn is_known_here(cache: &Cache, target: &mut KeyBuilder) -> bool {
    let (tiers, flights) = (cache.tiers(), cache.flights());
    let is_stored = |hash| tiers.memory().contains(hash);
    is_stored(target.base().hash())
        || (tiers.has_traces() && target.hashes_of_traces().into_iter().any(is_stored))
        || (flights.len() > 0 && flights.has(target.base().hash()))
}

/// RFC 9111 4.4: "a 'non-error response' is one with a 2xx (Successful) or 3xx (Redirection)
/// status code".
fn is_non_error<R>(response: &Response<R>) -> bool {
    response.status().is_success() || response.status().is_redirection()
}

/// What the response itself says is to be purged: the handler's tags, and groups (RFC 9875 3).
fn named<R>(target: Option<&Key>, response: &Response<R>) -> Option<Purge> {
    let options = response.extensions().get::<CacheOptions>();
    let tags = options.iter().flat_map(|options| &options.purges).cloned();
    let groups = semantics::invalidated_groups(response.headers());
    let groups = target.map_or_else(Vec::new, |target| target.group_tags(&groups));
    tags.chain(groups).map(Purge::tag).reduce(Purge::and)
}

fn outdated<R>(target: &Key, method: &Method, response: &Response<R>) -> Vec<Uri> {
    let uri = absolute(target);
    uri.map_or_else(Vec::new, |uri| {
        semantics::invalidated(method, response.status(), &uri, response.headers())
    })
}

/// What is to be purged of what a change has outdated.
async fn invalidated(cache: &Cache, gate: &Gate, uris: &[Uri], deadline: Instant) -> Option<Purge> {
    let others = uris.len() > 1;
    if uris.is_empty() || !others && !gate.may_be_stored(cache, deadline).await {
        return None;
    }
    let selectors = uris.iter().filter_map(|uri| Purge::target(uri).ok());
    selectors.reduce(Purge::and)
}

/// An error of the store does not fail the request. Other instances trust what they could not be
/// told to invalidate no longer than the purge bound, since they cannot read the log either.
async fn append_to_log(cache: &Cache, purge: &Purge, deadline: Instant) {
    cache.follow_log();
    if let Err(error) = cache.log().append(purge, deadline).await {
        tracing::debug!(%error, "a change was not announced to other instances");
    }
}

/// Whether a change is worth a record of the purge log, so that a write-heavy API does not
/// flood it.
struct Gate {
    target: Key,
    traces: Traces,
}

impl Gate {
    fn of(target: &KeyBuilder) -> Self {
        Self {
            target: target.base().to_key(),
            traces: target.traces(),
        }
    }

    /// Whether the resource may be stored anywhere. The base key is removed on the way, which is
    /// what tells whether it was there.
    async fn may_be_stored(&self, cache: &Cache, deadline: Instant) -> bool {
        let Self { target, traces } = self;
        let known_here = cache.tiers().memory().contains(traces.under_way.hash())
            || cache.flights().has(target.hash());
        let keys = [target, &traces.stored];
        match cache.tiers().remove(&keys, deadline).await {
            Ok(existed) => existed || known_here,
            Err(_) => true,
        }
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
