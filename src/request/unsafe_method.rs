//! Requests with unsafe methods, which invalidate the stored responses that they may have changed.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LOCATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, Uri};
use tokio::time::Instant;

use crate::base::position::LogPosition;
use crate::cache::Cache;
use crate::flight::{Credentials, JoinRequest, Leader, Role};
use crate::key::{Key, KeyBuilder, KeyRef, Traces};
use crate::purge::Purge;
use crate::request::detached::{Answer, Detachable, KeepAlive};
use crate::request::fetch::posted::Posted;
use crate::request::handler::Content;
use crate::request::settings::Settings;
use crate::response::body::ResponseBody;
use crate::response::passed::passed;
use crate::semantics::{self, CacheOptions, MethodClass, RequestFacts};
use crate::status::{Forwarded, Outcome, Reason};

/// A request with an unsafe method and what it may change, noted before its handler is called.
pub(crate) struct Change {
    settings: Arc<Settings>,
    method: Method,
    /// The key under which a plain GET of the same target is stored.
    target: Option<KeyBuilder>,
    /// Of a `POST`, whose response may be stored for GET.
    posting: Option<Posting>,
}

impl Change {
    pub(crate) fn begin(settings: &Arc<Settings>, parts: &Parts, facts: RequestFacts) -> Self {
        let target = KeyBuilder::of_target(parts, &settings.policy.key).ok();
        // What depends on further fields is not what a bare GET would get.
        let bare = target.as_ref().filter(|target| !target.has_fields());
        let posting = bare
            .filter(|_| parts.method == Method::POST)
            .map(|target| Posting::begin(&settings.cache, facts, target.base().hash()));
        Self {
            settings: Arc::clone(settings),
            method: parts.method.clone(),
            target: target.map(KeyBuilder::into_bare),
            posting,
        }
    }

    /// RFC 9111 4.4: a cache "MUST invalidate the target URI when it receives a non-error status
    /// code in response to an unsafe request method".
    ///
    /// The response waits until the store and the purge log know of the change.
    pub(crate) fn settle<R: Content, E: Send>(mut self, response: Response<R>) -> Answer<R, E> {
        if !is_non_error(&response) {
            return Answer::Ready(self.pass(response));
        }
        if let Some(target) = &self.target {
            let flights = self.settings.cache.flights();
            flights.note_change(target.base().hash());
        }
        if self.is_of_nothing_known(&response) {
            return Answer::Ready(self.pass(response));
        }
        let deadline = self.settings.cache.config().fill_deadline;
        let future = Box::pin(async { Ok(self.announce(response).await) });
        Answer::Pending(Detachable::new(future, KeepAlive::Fixed(true), deadline))
    }

    /// Whether it is certain, without asking anybody, that nothing of what may have changed is
    /// stored, and nothing of the response is to be.
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

    async fn announce<R: Content>(mut self, response: Response<R>) -> Response<ResponseBody<R>> {
        let gate = self.target.take().map(Gate::of);
        let cache = &self.settings.cache;
        let own = gate
            .as_ref()
            .and_then(|gate| self.own_flight(&gate.post, response.headers()));
        // One budget for all that the store is asked, and one record for all that is purged.
        let deadline = cache.deadline();
        let mut purge = None;
        if let Some(gate) = &gate {
            let uris = outdated(&gate.target, &self.method, &response);
            purge = invalidated(cache, gate, own.as_ref(), &uris, deadline).await;
        }
        let target = gate.map(|gate| gate.target);
        let named = named(target.as_ref(), &response);
        let purge = purge.into_iter().chain(named).reduce(Purge::and);
        let announced = match purge {
            Some(purge) => append_to_log(cache, &purge, deadline).await,
            None => Announced::Nothing,
        };
        // What this very response purges is not stored from it: others have to let go of it
        // first, and a purge kills whatever was asked for before it. The next GET is stored.
        if let (Announced::Nothing, Some(posting), Some(leader), Some(target)) =
            (announced, &self.posting, own, target)
            && let Some(uri) = absolute(&target)
        {
            let posted = posting.answered(&self.settings, target, leader);
            return posted.keep(&uri, response);
        }
        self.pass(response)
    }

    /// A flight that keeps other changes from overlooking a response that is about to be stored,
    /// under a key that nobody waits for. `None` where it is not, or if there was another change
    /// of the target while the handler worked.
    fn own_flight(&self, post: &Key, headers: &HeaderMap) -> Option<Leader> {
        let posting = self.posting.as_ref()?;
        if !headers.contains_key(CONTENT_LOCATION) {
            return None;
        }
        let flights = self.settings.cache.flights();
        let leader = flights.lead_if_idle(post, &posting.join_request)?;
        // This very change has been counted.
        (flights.changes(posting.target) == posting.changes + 1).then_some(leader)
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
    let is_under_way = |hash| flights.has(hash);
    is_stored(target.base().hash())
        || (tiers.has_traces() && target.hashes_of_traces().into_iter().any(is_stored))
        || (flights.len() > 0
            && (is_under_way(target.base().hash()) || is_under_way(post_of(target).hash())))
}

/// What is to be known of a `POST` when its response is stored.
struct Posting {
    facts: RequestFacts,
    join_request: JoinRequest,
    /// How far the purge log had been read before the handler was called.
    position: LogPosition,
    /// The hash of its target's key, and how many changes of that there had been.
    target: u128,
    changes: u64,
}

impl Posting {
    fn begin(cache: &Cache, facts: RequestFacts, target: u128) -> Self {
        cache.follow_log();
        let index = cache.log().index();
        let join_request = JoinRequest {
            credentials: Credentials::Anonymous,
            role: Role::Any,
            version: index.version(),
            now: cache.now(),
        };
        Self {
            facts: RequestFacts {
                // Stored as a GET's: the request's content is answered, not stored under.
                method: MethodClass::Get,
                body: false,
                ..facts
            },
            join_request,
            position: index.tail(),
            target,
            changes: cache.flights().changes(target),
        }
    }

    fn answered(&self, settings: &Arc<Settings>, target: Key, leader: Leader) -> Posted {
        Posted {
            settings: Arc::clone(settings),
            facts: self.facts,
            target,
            leader,
            position: self.position,
            request_time: self.join_request.now,
        }
    }
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

/// A key that stands for a POST to `target` whose response is being stored.
fn post_of(target: &mut KeyBuilder) -> KeyRef<'_> {
    KeyRef::of(target.vary(&[CONTENT_LOCATION], &HeaderMap::new()))
}

fn outdated<R>(target: &Key, method: &Method, response: &Response<R>) -> Vec<Uri> {
    let uri = absolute(target);
    uri.map_or_else(Vec::new, |uri| {
        semantics::invalidated(method, response.status(), &uri, response.headers())
    })
}

/// What is to be purged of what a change has outdated.
async fn invalidated(
    cache: &Cache,
    gate: &Gate,
    own: Option<&Leader>,
    uris: &[Uri],
    deadline: Instant,
) -> Option<Purge> {
    let others = uris.len() > 1;
    if uris.is_empty() || !others && !gate.may_be_stored(cache, own, deadline).await {
        return None;
    }
    let selectors = uris.iter().filter_map(|uri| Purge::target(uri).ok());
    selectors.reduce(Purge::and)
}

/// An error of the store does not fail the request. Other instances trust what they could not be
/// told to invalidate no longer than the purge bound, since they cannot read the log either.
async fn append_to_log(cache: &Cache, purge: &Purge, deadline: Instant) -> Announced {
    cache.follow_log();
    if let Err(error) = cache.log().append(purge, deadline).await {
        tracing::debug!(%error, "a change was not announced to other instances");
    }
    Announced::Purge
}

/// Whether a purge was appended to the log, or may have been.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Announced {
    Nothing,
    Purge,
}

/// Whether a change is worth a record of the purge log, so that a write-heavy API does not
/// flood it.
struct Gate {
    target: Key,
    traces: Traces,
    /// [`post_of`] the target.
    post: Key,
}

impl Gate {
    fn of(mut target: KeyBuilder) -> Self {
        Self {
            target: target.base().to_key(),
            traces: target.traces(),
            post: post_of(&mut target).to_key(),
        }
    }

    /// Whether the resource may be stored anywhere. The base key is removed on the way, which is
    /// what tells whether it was there. A POST under way may be about to store, unless it is this
    /// change's own.
    async fn may_be_stored(&self, cache: &Cache, own: Option<&Leader>, deadline: Instant) -> bool {
        let Self {
            target,
            traces,
            post,
        } = self;
        let known_here = cache.tiers().memory().contains(traces.under_way.hash())
            || cache.flights().has(target.hash())
            || (own.is_none() && cache.flights().has(post.hash()));
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
