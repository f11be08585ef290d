//! Requests with unsafe methods: what they change is not served from the cache any more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, Uri};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::key::{Key, KeyBuilder, Traces};
use crate::purge::Purge;
use crate::request::handler::Content;
use crate::response::body::ResponseBody;
use crate::semantics::{self, CacheOptions};
use crate::service::future::{BoxFlow, passed};
use crate::service::layer::Settings;
use crate::status::{Forwarded, Outcome, Reason};

/// What a request with an unsafe method may change, noted before its handler is called.
pub(crate) struct Change {
    settings: Arc<Settings>,
    method: Method,
    /// The key under which a plain GET of the same target is stored.
    target: Option<KeyBuilder>,
}

/// What is left to do about a change once its handler has answered.
pub(crate) enum Settled<R: Send + 'static, E: Send + 'static> {
    Nothing(Response<ResponseBody<R>>),
    /// The store or the purge log is told, and then the response goes out.
    Pending(BoxFlow<R, E>),
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

    /// For how long it may go on without its client.
    pub(crate) fn deadline(&self) -> Duration {
        self.settings.cache.config().fill_deadline
    }

    /// RFC 9111 4.4: a cache "MUST invalidate the target URI when it receives a non-error status
    /// code in response to an unsafe request method".
    pub(crate) fn settle<R: Content, E: Send>(mut self, response: Response<R>) -> Settled<R, E> {
        if !succeeded(&response) {
            return Settled::Nothing(self.pass(response));
        }
        match self.is_of_nothing_known(&response) {
            true => Settled::Nothing(self.pass(response)),
            false => Settled::Pending(Box::pin(async { Ok(self.announce(response).await) })),
        }
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
            announce(cache, &purge, deadline).await;
        }
        self.pass(response)
    }

    fn pass<R>(&self, response: Response<R>) -> Response<ResponseBody<R>> {
        let outcome = Outcome::forward(Forwarded::Method, Some(Reason::Method));
        passed(response, outcome, &self.settings.cache)
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
fn succeeded<R>(response: &Response<R>) -> bool {
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

/// A fault of the store is no fault of the request: what could not be invalidated elsewhere
/// is trusted there no longer than the purge bound, since the log is out of sight as well.
async fn announce(cache: &Cache, purge: &Purge, deadline: Instant) {
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
            Err(_store_trouble) => true,
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
