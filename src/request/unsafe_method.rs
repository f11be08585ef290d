//! Requests with unsafe methods: the cache no longer serves what they change.
//!
//! Every such request that succeeds is announced, whatever is known to be stored: what one
//! instance does not know of, another may have. Where a request comes through two layers of one
//! cache, the inner one announces it.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LOCATION, LOCATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, Uri};

use crate::cache::Cache;
use crate::key::{Key, Target};
use crate::purge::Purge;
use crate::request::detached::{Detachable, KeepAlive};
use crate::request::handler::Content;
use crate::request::nesting::Passage;
use crate::request::settings::Settings;
use crate::response::body::ResponseBody;
use crate::semantics::{self, CacheOptions};
use crate::status::{Forwarded, Outcome, Reason};

/// What a request with an unsafe method may change, noted before its handler is called.
pub(crate) struct Change {
    settings: Arc<Settings>,
    passage: Passage,
    method: Method,
    /// The key under which a plain GET of the same target would be stored.
    target: Option<Key>,
}

impl Change {
    pub(crate) fn of(settings: &Arc<Settings>, parts: &mut Parts) -> Self {
        Self {
            settings: Arc::clone(settings),
            passage: Passage::go_on(&mut parts.extensions, &settings.cache),
            method: parts.method.clone(),
            target: Key::of_target(parts, &settings.policy.key).ok(),
        }
    }

    /// The response to come. If its client leaves once the handler was called, the handler goes on.
    pub(crate) fn detachable<R, E>(
        self,
        call: impl Future<Output = Result<Response<R>, E>> + Send + 'static,
    ) -> Detachable<R, E>
    where
        R: Content,
        E: Send + 'static,
    {
        let cache = &self.settings.cache;
        let deadline = cache.config().fill_deadline;
        let most = Arc::clone(cache.detached_changes());
        // From the first poll on the handler may have changed something already.
        let keep_alive = match self.settings.policy.ignores_changes {
            true => KeepAlive::Fixed(false),
            false => KeepAlive::OncePolled(false),
        };
        let future = Box::pin(self.run(call));
        Detachable::new(future, keep_alive, deadline).at_most(most)
    }

    /// Calls the handler, and announces what it has changed before its response goes out.
    async fn run<R, E>(
        self,
        call: impl Future<Output = Result<Response<R>, E>>,
    ) -> Result<Response<ResponseBody<R>>, E>
    where
        R: Content,
    {
        let cache = &self.settings.cache;
        cache.follow_log();
        let mut unanswered = Unanswered(None);
        if !self.settings.policy.ignores_changes {
            unanswered.0 = Some(&self);
        }
        let answer = call.await;
        let may_have_changed = unanswered.0.take();
        let purge = match &answer {
            _ if self.passage.has_reached_another() => None,
            Ok(response) if succeeded(response.status()) => self.outdated(response),
            Ok(response) if !is_unknown(response.status()) => None,
            Ok(_) | Err(_) => may_have_changed.and_then(Self::unknown),
        };
        if let Some(purge) = purge {
            announce(cache, &purge).await;
        }
        let outcome = Outcome::forward(Forwarded::Method, Some(Reason::Method));
        answer.map(|response| self.passage.passed(response, outcome))
    }

    /// One purge of all that the response says the request has changed.
    fn outdated<R>(&self, response: &Response<R>) -> Option<Purge> {
        let named = self.named(response);
        if self.settings.policy.ignores_changes {
            return named;
        }
        let others = self.others(response).into_iter();
        let changed = self.own_target().into_iter().chain(others);
        changed.chain(named).reduce(Purge::and)
    }

    /// RFC 9111 4.4: a cache "MUST invalidate the target URI when it receives a non-error status
    /// code in response to an unsafe request method".
    fn own_target(&self) -> Option<Purge> {
        let target = self.target.as_ref()?.target()?;
        Some(Purge::target(&target))
    }

    /// What else was changed, as the response says. Few do.
    fn others<R>(&self, response: &Response<R>) -> Option<Purge> {
        let headers = response.headers();
        if !headers.contains_key(LOCATION) && !headers.contains_key(CONTENT_LOCATION) {
            return None;
        }
        let target = absolute(self.target.as_ref()?)?;
        let uris = semantics::invalidated(&self.method, response.status(), &target, headers);
        let others = uris.iter().filter(|uri| **uri != target);
        let scheme = self.settings.policy.key.scheme;
        let others = others.filter_map(|uri| Target::of_uri(uri, scheme).ok());
        others
            .map(|target| Purge::target(&target))
            .reduce(Purge::and)
    }

    /// A purge of what the response names: the handler's tags, and groups (RFC 9875 3).
    fn named<R>(&self, response: &Response<R>) -> Option<Purge> {
        let options = response.extensions().get::<CacheOptions>();
        let tags = options.iter().flat_map(|options| &options.purges).cloned();
        let groups = semantics::invalidated_groups(response.headers());
        let target = self.target.as_ref();
        let groups = target.map_or_else(Vec::new, |target| target.group_tags(&groups));
        tags.chain(groups).map(Purge::tag).reduce(Purge::and)
    }

    /// The soft purge for an unknown outcome. The target may have changed, so it is stale, and may
    /// still be served if a fetch fails.
    fn unknown(&self) -> Option<Purge> {
        self.own_target().map(Purge::soft)
    }
}

/// RFC 9111 4.4: "a 'non-error response' is one with a 2xx (Successful) or 3xx (Redirection)
/// status code".
fn succeeded(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// Whether a status leaves the outcome unknown: a layer inside has given the handler up.
fn is_unknown(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Announces a purge. A fault of the store is no fault of the request: the purge is in force here,
/// and reaches other instances when the log takes it. Until then they trust what they have for no
/// longer than the purge bound, since a log that takes no writes is out of sight.
async fn announce(cache: &Cache, purge: &Purge) {
    if let Err(error) = cache.log().append(purge, cache.deadline()).await {
        tracing::debug!(%error, "a change was not announced to other instances yet");
    }
}

/// A change whose handler was called and has not answered. If it is dropped, the handler has
/// panicked or was given up, and its target is purged softly.
struct Unanswered<'a>(Option<&'a Change>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(change) = self.0
            && !change.passage.has_reached_another()
            && let Some(purge) = change.unknown()
        {
            let cache = &change.settings.cache;
            cache.log().append_behind(&purge, cache.deadline());
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
