//! [`CacheService`]: decides what happens to each request, and answers hits in memory.

pub(crate) mod future;
pub(crate) mod layer;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, Version};
use http_body::Body;
use tower::util::Oneshot;
use tower_service::Service;

use crate::config::CacheBypass;
use crate::key::{KeyBuilder, Unkeyable};
use crate::request::decision::{Decision, EarlyRefresh};
use crate::request::detached::{Answer, KeepAlive};
use crate::request::handler::{Content, Handler, Inner};
use crate::request::miss::Miss;
use crate::request::nesting::Passage;
use crate::request::settings::{Choice, Settings};
use crate::request::unsafe_method::Change;
use crate::response::body::ResponseBody;
use crate::response::error::BoxError;
use crate::response::from_entry::{self, ResponseBuilder};
use crate::semantics::{MethodClass, RequestFacts};
use crate::service::future::ResponseFuture;
use crate::status::{Forwarded, Outcome, Reason};
use crate::store::Lookup;

/// The service that a [`CacheLayer`](crate::CacheLayer) makes of another.
///
/// It is always ready. A request that needs the inner service calls a clone of it, which is made
/// ready for that request alone, so that hits take none of the inner service's capacity.
#[derive(Debug)]
pub struct CacheService<S> {
    /// Shared, since a router clones its services for every request, and a hit needs no clone of
    /// the inner one.
    inner: Arc<Mutex<S>>,
    choice: Arc<Choice>,
}

impl<S> CacheService<S> {
    pub(crate) fn new(inner: S, choice: Arc<Choice>) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
            choice,
        }
    }

    /// A clone of the inner service for one request.
    fn inner(&self) -> S
    where
        S: Clone,
    {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl<S> Clone for CacheService<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            choice: Arc::clone(&self.choice),
        }
    }
}

impl<S, B, R> Service<Request<B>> for CacheService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    B: Body + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError> + Send,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, R>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B, R> {
        let (mut parts, body) = request.into_parts();
        let settings = self.choice.of(&parts);
        let depth = Passage::arrive(&parts.extensions, &settings.cache);
        if let Some(predicate) = &settings.policy.bypass_if
            && predicate.holds(&parts)
        {
            let outcome = Outcome::forward(Forwarded::Bypass, Some(Reason::Policy));
            return self.pass(settings, parts, body, outcome);
        }
        let mut facts = RequestFacts::read(&parts.method, &parts.headers);
        match route(&parts, &facts, &body) {
            Route::Pass(outcome) => self.pass(settings, parts, body, outcome),
            Route::Change => self.change(settings, parts, body),
            Route::NotCached => {
                ResponseFuture::ready(from_entry::not_cached(settings.cache.status_name()))
            }
            Route::LookUp => {
                let policy = &settings.policy;
                policy.key.strip_request(&mut parts);
                policy.credentials.apply(&mut parts, &mut facts);
                match KeyBuilder::of_request(&parts, &policy.key, depth) {
                    Ok(builder) => {
                        if builder.names_requester() {
                            facts.requester_is_in_key();
                        }
                        self.look_up(settings, parts, body, facts, builder)
                    }
                    Err(why) => self.pass(settings, parts, body, unkeyable(why)),
                }
            }
        }
    }
}

impl<S> CacheService<S> {
    /// Answers a hit in memory at once. Any other request begins a [`Miss`].
    fn look_up<B, R>(
        &self,
        settings: &Arc<Settings>,
        parts: Parts,
        body: B,
        facts: RequestFacts,
        mut builder: KeyBuilder,
    ) -> ResponseFuture<S, B, R>
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        let cache = &settings.cache;
        let now = cache.now();
        let found = cache
            .tiers()
            .look_in_memory(&mut builder, &parts.headers, now);
        let mut early_refresh = EarlyRefresh::NotDue;
        if let Some(entry) = &found.entry {
            match settings.judge(&entry.head, &facts, now) {
                Decision::Serve(outcome) => {
                    early_refresh = settings.early_refresh(&entry.head, now);
                    if early_refresh == EarlyRefresh::NotDue {
                        let builder = ResponseBuilder {
                            facts: &facts,
                            headers: &parts.headers,
                            now,
                            status_name: cache.status_name(),
                        };
                        let response = builder.answer(&entry.head, &entry.body, outcome);
                        return ResponseFuture::ready(response);
                    }
                }
                Decision::PassBy(reason) if !facts.directives.only_if_cached => {
                    return self.pass(settings, parts, body, Outcome::not_shared(reason));
                }
                _ => {}
            }
        }
        let miss = Miss {
            settings: Arc::clone(settings),
            parts,
            facts,
            now,
            lookup: Lookup::new(&builder, found),
            early_refresh,
            store_deadline: None,
            keep_alive: KeepAlive::Fixed(false),
            arrived: cache.flights().begun(),
        };
        let service = self.inner();
        let strips_tags = settings.policy.rules.strip_tags;
        ResponseFuture::of(miss.begin(Inner { service, body }), strips_tags)
    }

    fn pass<B, R>(
        &self,
        settings: &Arc<Settings>,
        mut parts: Parts,
        body: B,
        outcome: Outcome,
    ) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        S::Error: Send + 'static,
        R: Send + 'static,
    {
        let passage = Passage::go_on(&mut parts.extensions, &settings.cache);
        let call = Oneshot::new(self.inner(), Request::from_parts(parts, body));
        let strips_tags = settings.policy.rules.strip_tags;
        ResponseFuture::passing(call, outcome, passage, strips_tags)
    }

    /// RFC 9111 4.4: stored responses that an unsafe method may have changed are invalidated.
    fn change<B, R>(
        &self,
        settings: &Arc<Settings>,
        mut parts: Parts,
        body: B,
    ) -> ResponseFuture<S, B, R>
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        let change = Change::of(settings, &mut parts);
        let call = Oneshot::new(self.inner(), Request::from_parts(parts, body));
        let strips_tags = settings.policy.rules.strip_tags;
        ResponseFuture::of(Answer::Pending(change.detachable(call)), strips_tags)
    }
}

/// Whether outer middleware has said that the request is none of the cache's.
fn is_bypass(parts: &Parts) -> bool {
    parts.extensions.get::<CacheBypass>().is_some()
}

/// What happens to a request, by its head alone.
enum Route {
    LookUp,
    Change,
    Pass(Outcome),
    /// Only the handler could answer, and the client forbids to call it.
    NotCached,
}

fn route<B: Body>(parts: &Parts, facts: &RequestFacts, body: &B) -> Route {
    let bypass = |detail| Route::Pass(Outcome::forward(Forwarded::Bypass, Some(detail)));
    match facts.method {
        MethodClass::Unsafe => Route::Change,
        MethodClass::Safe => Route::Pass(Outcome::forward(Forwarded::Method, Some(Reason::Method))),
        // A connection that is upgraded cannot be stored. RFC 9110 7.8: "A server MUST ignore an
        // Upgrade header field that is received in an HTTP/1.0 request", and 9113 8.2.2 has none.
        MethodClass::Get | MethodClass::Head
            if facts.upgrade && parts.version == Version::HTTP_11 =>
        {
            bypass(Reason::Upgrade)
        }
        MethodClass::Get | MethodClass::Head if is_bypass(parts) => bypass(Reason::CacheBypass),
        // The key does not cover the content of a GET, and a hit would leave that unread on the
        // connection.
        MethodClass::Get | MethodClass::Head if facts.body || !body.is_end_stream() => {
            bypass(Reason::RequestBody)
        }
        MethodClass::Get | MethodClass::Head
            if facts.origin_precondition && facts.directives.only_if_cached =>
        {
            Route::NotCached
        }
        // RFC 9111 4.3.2: If-Match and If-Unmodified-Since are for the origin server.
        MethodClass::Get | MethodClass::Head if facts.origin_precondition => {
            bypass(Reason::Precondition)
        }
        MethodClass::Get | MethodClass::Head => Route::LookUp,
    }
}

fn unkeyable(why: Unkeyable) -> Outcome {
    let detail = match why {
        Unkeyable::ConflictingHost => Reason::ConflictingHost,
        Unkeyable::InvalidHost => Reason::InvalidHost,
    };
    Outcome::forward(Forwarded::Bypass, Some(detail))
}
