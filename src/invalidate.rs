//! Requests with unsafe methods: what they change is not served from the cache any more.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LOCATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use tokio::time::Instant;
use tower::util::Oneshot;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::cache::Cache;
use crate::fetch::Posted;
use crate::flight::{Arrival, Requester, Role};
use crate::future::passed;
use crate::inner::Content;
use crate::key::{Key, KeyRules};
use crate::layer::Settings;
use crate::policy::{self, CacheOptions};
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
    R: Content,
{
    let cache = &settings.cache;
    let method = parts.method.clone();
    let target = target(&parts, &settings.policy.key);
    let posted = (method == Method::POST)
        .then(|| posted(&settings, target.as_ref()?, &parts.headers))
        .flatten();
    parts.extensions.insert(cache.clone());
    let response = Oneshot::new(inner, Request::from_parts(parts, body)).await?;
    let mut announced = Announced::Nothing;
    if succeeded(&response) {
        if let Some(target) = &target {
            let uris = outdated(target, &method, &response);
            let gate = Gate {
                cache,
                target,
                rules: &settings.policy.key,
                counts_posts: posted.is_none(),
            };
            announced = invalidate(&gate, &uris).await;
        }
        if let Some(purge) = named(target.as_ref(), &response) {
            announced = announce(cache, &purge, cache.deadline()).await;
        }
    }
    // What this very response purges is not stored from it: others have to let go of it first,
    // and a purge kills whatever was asked for before it. The next GET is stored.
    if let (Announced::Nothing, Some(posted)) = (announced, posted)
        && let Some(uri) = absolute(&posted.target)
    {
        return Ok(posted.keep(&uri, response).await);
    }
    let outcome = Outcome::forward(Forwarded::Method, Some("method"));
    Ok(passed(response, outcome, cache))
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
    let origin = target.and_then(Key::target);
    let groups = policy::invalidated_groups(response.headers());
    let groups = groups.iter().filter_map(|group| {
        let origin = origin.as_ref()?;
        let authority = origin.authority.as_deref().unwrap_or_default();
        Some(policy::group_tag(origin.scheme, authority, group))
    });
    tags.chain(groups).map(Purge::tag).reduce(Purge::and)
}

/// The key under which a GET of the same target is stored.
fn target(parts: &Parts, rules: &KeyRules) -> Option<Key> {
    let mut named = parts.clone();
    rules.strip_request(&mut named);
    for name in METHOD_OVERRIDES {
        named.headers.remove(name);
    }
    Key::of_request(&named, rules).ok()
}

/// What is needed to store the response to a POST. `None` while another one is under way.
fn posted(settings: &Arc<Settings>, target: &Key, headers: &HeaderMap) -> Option<Posted> {
    let cache = &settings.cache;
    cache.follow_log();
    let view = cache.log().view();
    let arrival = Arrival {
        requester: Requester::Anonymous,
        role: Role::Any,
        version: view.version(),
        now: cache.now(),
    };
    let leader = cache.flights().lead_if_idle(&post_of(target), &arrival)?;
    Some(Posted {
        settings: Arc::clone(settings),
        headers: headers.clone(),
        target: target.clone(),
        leader,
        position: view.tail(),
        request_time: cache.now(),
    })
}

/// A key that stands for a POST to `target` under way. Nothing is stored under it.
fn post_of(target: &Key) -> Key {
    target.variant(&[CONTENT_LOCATION], &HeaderMap::new())
}

fn outdated<R>(target: &Key, method: &Method, response: &Response<R>) -> Vec<Uri> {
    let uri = absolute(target);
    uri.map_or_else(Vec::new, |uri| {
        policy::invalidated(method, response.status(), &uri, response.headers())
    })
}

/// A fault of the store is no fault of the request: what could not be invalidated elsewhere
/// is trusted there no longer than the purge bound, since the log is out of sight as well.
async fn invalidate(gate: &Gate<'_>, uris: &[Uri]) -> Announced {
    if uris.is_empty() {
        return Announced::Nothing;
    }
    let cache = gate.cache;
    let deadline = cache.deadline();
    let others = uris.len() > 1;
    if !others && !gate.may_be_stored(deadline).await {
        return Announced::Nothing;
    }
    let selectors = uris.iter().filter_map(|uri| Purge::uri(uri).ok());
    let purge = selectors.reduce(Purge::and);
    match purge {
        Some(purge) => announce(cache, &purge, deadline).await,
        None => Announced::Nothing,
    }
}

async fn announce(cache: &Cache, purge: &Purge, deadline: Instant) -> Announced {
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
struct Gate<'a> {
    cache: &'a Cache,
    target: &'a Key,
    rules: &'a KeyRules,
    /// Whether a POST under way may be about to store: not where it is this very one.
    counts_posts: bool,
}

impl Gate<'_> {
    /// Whether the resource may be stored anywhere. The base key is removed on the way, which is
    /// what tells whether it was there.
    async fn may_be_stored(&self, deadline: Instant) -> bool {
        let Self {
            cache,
            target,
            rules,
            counts_posts,
        } = self;
        // Then the resource is stored under more keys than this request's.
        let many_keys = !(rules.headers.is_empty() && rules.cookies.is_empty());
        let known_here = many_keys
            || cache.tiers().memory().contains(target.hash())
            || cache.flights().has(target)
            || (*counts_posts && cache.flights().has(&post_of(target)));
        match cache.tiers().remove(target, deadline).await {
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

/// Fields by which a POST says that it is another method. A GET has none, so they are no part
/// of the key that an unsafe request invalidates.
const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];
