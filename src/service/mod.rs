//! [`CacheService`]: the key, the memory hit, or over to the flow.

pub(crate) mod future;
pub(crate) mod layer;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use tower::util::Oneshot;
use tower_service::Service;

use crate::key::{KeyBuilder, Unkeyable};
use crate::request::decision::{Decision, Freshness};
use crate::request::handler::{BoxError, Content, Handler};
use crate::request::unsafe_method::Change;
use crate::request::{Inner, Miss};
use crate::response::body::ResponseBody;
use crate::response::from_entry::{self, ResponseBuilder};
use crate::semantics::{MethodClass, RequestFacts};
use crate::service::future::{Awaited, ResponseFuture};
use crate::service::layer::Settings;
use crate::status::{Forwarded, Outcome, Reason};
use crate::store::Lookup;

/// The service that a [`CacheLayer`](crate::CacheLayer) makes of another.
///
/// It is always ready: a request that needs the inner service calls a clone of it, made ready
/// for that request alone, so that a hit needs none of its capacity.
#[derive(Debug)]
pub struct CacheService<S> {
    /// Shared, since a router clones its services for every request, and a hit needs no clone of
    /// this one.
    inner: Arc<Mutex<S>>,
    settings: Arc<Settings>,
}

impl<S> CacheService<S> {
    pub(crate) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
            settings,
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
            settings: Arc::clone(&self.settings),
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
        if let Some(predicate) = &self.settings.policy.bypass_if
            && predicate.holds(&parts)
        {
            let outcome = Outcome::forward(Forwarded::Bypass, Some(Reason::Policy));
            return self.pass(parts, body, outcome);
        }
        let facts = RequestFacts::read(&parts.method, &parts.headers);
        match course(&facts, &body) {
            Course::Pass(outcome) => self.pass(parts, body, outcome),
            Course::Change => self.change(parts, body),
            Course::Refuse => {
                ResponseFuture::ready(from_entry::not_cached(self.settings.cache.status_name()))
            }
            Course::Lookup => {
                let policy = &self.settings.policy;
                policy.key.strip_request(&mut parts);
                match KeyBuilder::of_request(&parts, &policy.key) {
                    Ok(builder) => self.look_up(parts, body, facts, builder),
                    Err(why) => self.pass(parts, body, unkeyable(why)),
                }
            }
        }
    }
}

impl<S> CacheService<S> {
    /// Answers a memory hit here and now, and leaves all else to the flow.
    fn look_up<B, R>(
        &self,
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
        let cache = &self.settings.cache;
        let now = cache.now();
        let found = cache
            .tiers()
            .look_in_memory(&mut builder, &parts.headers, now);
        let mut freshness = Freshness::Enough;
        if let Some(entry) = &found.entry
            && let Decision::Serve(outcome) = self.settings.judge(&entry.head, &facts, now)
            && {
                freshness = self.settings.freshness(&entry.head, now);
                freshness == Freshness::Enough
            }
        {
            let asked = ResponseBuilder {
                facts: &facts,
                headers: &parts.headers,
                now,
                status_name: cache.status_name(),
            };
            return ResponseFuture::ready(asked.answer(&entry.head, &entry.body, outcome));
        }
        let flow = Miss {
            settings: Arc::clone(&self.settings),
            parts,
            facts,
            now,
            lookup: Lookup::new(&builder, found),
            freshness,
            budget: None,
            awaited: Awaited::known(false),
        };
        flow.begin(Inner {
            inner: self.inner(),
            body,
        })
    }

    fn pass<B, R>(&self, mut parts: Parts, body: B, outcome: Outcome) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        S::Error: Send + 'static,
        R: Send + 'static,
    {
        let cache = self.settings.cache.clone();
        parts.extensions.insert(cache.clone());
        let request = Request::from_parts(parts, body);
        let inner = Oneshot::new(self.inner(), request);
        ResponseFuture::passing(inner, outcome, cache)
    }

    /// RFC 9111 4.4: what an unsafe method changes is not served from the cache any more.
    fn change<B, R>(&self, mut parts: Parts, body: B) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        S::Error: Send + 'static,
        R: Send + 'static,
    {
        let change = Change::begin(&self.settings, &parts);
        parts.extensions.insert(self.settings.cache.clone());
        let inner = Oneshot::new(self.inner(), Request::from_parts(parts, body));
        ResponseFuture::changing(inner, change)
    }
}

/// What becomes of a request, by its head alone.
enum Course {
    Lookup,
    Change,
    Pass(Outcome),
    /// The handler would have to be asked, and the client does not want that.
    Refuse,
}

fn course<B: Body>(facts: &RequestFacts, body: &B) -> Course {
    let bypass = |detail| Course::Pass(Outcome::forward(Forwarded::Bypass, Some(detail)));
    match facts.method {
        MethodClass::Unsafe => Course::Change,
        MethodClass::Safe => {
            Course::Pass(Outcome::forward(Forwarded::Method, Some(Reason::Method)))
        }
        // An upgraded connection is no response.
        MethodClass::Get | MethodClass::Head if facts.upgrade => bypass(Reason::Upgrade),
        // No key covers the content of a GET, and a hit would leave it unread on the connection.
        MethodClass::Get | MethodClass::Head if facts.body || !body.is_end_stream() => {
            bypass(Reason::RequestBody)
        }
        MethodClass::Get | MethodClass::Head
            if facts.origin_precondition && facts.directives.only_if_cached =>
        {
            Course::Refuse
        }
        // RFC 9111 4.3.2: If-Match and If-Unmodified-Since are for the origin server.
        MethodClass::Get | MethodClass::Head if facts.origin_precondition => {
            bypass(Reason::Precondition)
        }
        MethodClass::Get | MethodClass::Head => Course::Lookup,
    }
}

fn unkeyable(why: Unkeyable) -> Outcome {
    let detail = match why {
        Unkeyable::ConflictingHost => Reason::ConflictingHost,
        Unkeyable::InvalidHost => Reason::InvalidHost,
    };
    Outcome::forward(Forwarded::Bypass, Some(detail))
}
