//! Asking the handler: the call, and what its answer does to the cache.

mod revalidate;
mod store;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, response};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::util::Oneshot;
use tower_service::Service;

use crate::base::clock::Timestamp;
use crate::base::position::LogPosition;
use crate::base::task;
use crate::cache::Cache;
use crate::entry::Head;
use crate::flight::{Leader, Uncacheable};
use crate::request::handler::Content;
use crate::request::{Fallback, Inner, Miss};
use crate::response::body::ResponseBody;
use crate::response::from_entry::ResponseBuilder;
use crate::semantics::{self, Admitted, CacheOptions, Exchange, MethodClass, RequestFacts};
use crate::service::future::passed;
use crate::service::layer::Settings;
use crate::status::{Outcome, Reason};
use crate::store::Lookup;

pin_project! {
    /// One call of the handler on behalf of a request that the cache could not answer, and what
    /// its answer does to the cache.
    pub(crate) struct Fetch<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        call: Oneshot<S, Request<B>>,
        // How long the handler may take where something stale may be served in its stead.
        patience: Option<Pin<Box<Sleep>>>,
        fetched: FetchContext,
    }
}

/// What of the request is still needed when the handler has answered.
struct FetchContext {
    settings: Arc<Settings>,
    facts: RequestFacts,
    /// The client's own, before the cache made the request conditional.
    headers: HeaderMap,
    lookup: Lookup,
    stale: Fallback,
    leader: Option<Leader>,
    /// How far the purge log had been read before the handler was called: a purge that comes
    /// while it works is later, and wins.
    position: LogPosition,
    request_time: Timestamp,
    response_time: Timestamp,
}

impl<S, B> Fetch<S, B>
where
    S: Service<Request<B>>,
{
    pub(crate) fn new(
        flow: Miss,
        stale: Fallback,
        leader: Option<Leader>,
        call: Inner<S, B>,
    ) -> Self {
        let Miss {
            settings,
            mut parts,
            facts,
            now,
            lookup,
            ..
        } = flow;
        let headers = parts.headers.clone();
        match &stale {
            Fallback::Refreshing(entry) => {
                semantics::make_conditional(&mut parts.headers, entry.head.headers.ready());
            }
            stale => {
                if let Some(entry) = stale.validated() {
                    semantics::make_conditional(&mut parts.headers, entry.head.headers.ready());
                }
            }
        }
        if let Some(traces) = &lookup.traces {
            // A change while the handler works has to know of it.
            let until = now.saturating_add(settings.cache.config().fill_deadline);
            settings.cache.tiers().note_under_way(traces, until, now);
        }
        parts.extensions.insert(settings.cache.clone());
        let Inner { inner, body } = call;
        let fetched = FetchContext {
            position: settings.cache.log().index().tail(),
            settings,
            facts,
            headers,
            lookup,
            stale,
            leader,
            request_time: now,
            response_time: now,
        };
        Self {
            call: Oneshot::new(inner, Request::from_parts(parts, body)),
            patience: fetched.patience().map(|patience| Box::pin(sleep(patience))),
            fetched,
        }
    }
}

impl<S, B, R> Future for Fetch<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Content,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(response) = this.call.poll(context) {
            return Poll::Ready(this.fetched.ended(response));
        }
        if let Some(patience) = this.patience
            && patience.as_mut().poll(context).is_ready()
        {
            *this.patience = None;
            if let Some(stale) = this.fetched.timed_out() {
                return Poll::Ready(Ok(stale));
            }
        }
        Poll::Pending
    }
}

impl FetchContext {
    /// The call of the handler has come to its end.
    fn ended<R, E>(
        &mut self,
        response: Result<Response<R>, E>,
    ) -> Result<Response<ResponseBody<R>>, E>
    where
        R: Content,
    {
        self.response_time = self.cache().now();
        match response {
            Err(error) => self.failed().ok_or(error),
            Ok(response) if semantics::is_failure(response.status()) => {
                Ok(self.server_error(response))
            }
            Ok(response) => Ok(self.answered(response)),
        }
    }

    /// The handler answered, whatever it was.
    fn answered<R>(&mut self, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Content,
    {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::NOT_MODIFIED
            && let Some(entry) = self.stale.validated().cloned()
        {
            return self.validated(&entry, &head);
        }
        if self.facts.method == MethodClass::Head {
            self.head_updates(&head);
        }
        let admission = self.admit(&head);
        if self.settings.policy.rules.strip_tags {
            semantics::strip_tags(&mut head.headers);
        }
        match admission {
            Ok(admitted) => self.record(head, body, admitted),
            Err(refusal) => {
                self.withdraw(head.status, refusal);
                match head.status.is_server_error() {
                    // A failure says nothing of what the next response will be like.
                    true => self.release_once(),
                    false => self.release(refusal),
                }
                let outcome = self.stale.outcome().because(refusal);
                passed(Response::from_parts(head, body), outcome, self.cache())
            }
        }
    }

    /// RFC 5861 4: an error is "any situation that would result in a 500, 502, 503, or 504 HTTP
    /// response status code being returned": of the inner service, or as its response.
    fn server_error<R>(&mut self, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Content,
    {
        match self.stand_in() {
            Some(stale) => stale,
            None => self.answered(response),
        }
    }

    /// How long the handler may take where a stale response may be served in its stead.
    fn patience(&self) -> Option<Duration> {
        let entry = self.stale.entry()?;
        let replaceable = self.may_stand_in(&entry.head, self.request_time);
        replaceable.then_some(self.cache().config().fill_deadline)
    }

    fn timed_out<R>(&mut self) -> Option<Response<ResponseBody<R>>> {
        self.response_time = self.cache().now();
        self.stand_in()
    }

    fn may_stand_in(&self, head: &Head, now: Timestamp) -> bool {
        self.settings.may_stand_in(head, &self.facts, now)
    }

    /// The inner service failed.
    fn failed<R>(&mut self) -> Option<Response<ResponseBody<R>>> {
        self.stand_in()
    }

    /// The stale response that may be served for a failed fetch, to this request and to those that
    /// wait; the key is let rest for a moment.
    fn stand_in<R>(&mut self) -> Option<Response<ResponseBody<R>>> {
        let entry = self.stale.entry().cloned()?;
        let now = self.response_time;
        self.cache().flights().rest(self.lookup.key(), now);
        if !self.may_stand_in(&entry.head, now) {
            return None;
        }
        if let Some(leader) = self.leader.take() {
            leader.land(Arc::clone(&entry), self.lookup.fields());
        }
        let outcome = Outcome::stale(entry.head.lifetimes.remaining(now), Reason::StaleIfError);
        Some(self.asked().answer(&entry.head, &entry.body, outcome))
    }

    /// What RFC 9111 lets be stored, if the policy does too.
    fn admit(&self, head: &response::Parts) -> Result<Admitted, Reason> {
        let policy = &self.settings.policy;
        let admitted = semantics::admit(&self.exchange(head), &policy.rules)?;
        if !policy.statuses.is_empty() && !policy.statuses.contains(&head.status) {
            return Err(Reason::Status);
        }
        match &policy.store_if {
            Some(predicate) if !predicate.holds(&self.headers, head) => Err(Reason::Policy),
            _ => Ok(admitted),
        }
    }

    /// Lets the followers go, and remembers why for those to come if it was no accident.
    fn release(&mut self, refusal: Reason) {
        match refusal {
            // The status may be another's next time, and so may the method.
            Reason::Status | Reason::Partial | Reason::Method => self.release_once(),
            _ if refusal.is_about_requester() => {
                self.release_and_mark(Uncacheable::ForCredentialed);
            }
            _ => self.release_and_mark(Uncacheable::ForAll),
        }
    }

    /// Lets the followers go, this time.
    fn release_once(&mut self) {
        if let Some(leader) = self.leader.take() {
            leader.release();
        }
    }

    fn release_and_mark(&mut self, whom: Uncacheable) {
        if let Some(leader) = self.leader.take() {
            leader.release_and_mark(whom, self.response_time);
        }
    }

    /// RFC 9111 4.3.3: "A full response … indicates that none of the stored responses nominated in
    /// the conditional request are suitable": neither now nor, stale, later on. What only this
    /// requester gets, or what a failure says, is no reason.
    fn withdraw(&self, status: StatusCode, refusal: Reason) {
        let is_of_resource = status.is_success()
            || status.is_redirection()
            || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        if self.stale.entry().is_some()
            && is_of_resource
            && status != StatusCode::PARTIAL_CONTENT
            && !refusal.is_about_requester()
        {
            self.forget();
        }
    }

    /// Takes the stored response away, in both tiers.
    fn forget(&self) {
        let cache = self.cache().clone();
        let key = self.lookup.key().clone();
        let base = &self.lookup.base;
        cache
            .tiers()
            .forget_in_memory(base, &key, self.response_time);
        let _dropped_without_a_runtime = task::spawn(async move {
            let deadline = cache.deadline();
            if let Err(error) = cache.tiers().remove(&[&key], deadline).await {
                tracing::debug!(%error, "an outdated response stays in the shared store");
            }
        });
    }

    fn exchange<'a>(&'a self, head: &'a response::Parts) -> Exchange<'a> {
        Exchange {
            facts: &self.facts,
            status: head.status,
            headers: &head.headers,
            options: head.extensions.get::<CacheOptions>(),
            request_time: self.request_time,
            response_time: self.response_time,
        }
    }

    fn asked(&self) -> ResponseBuilder<'_> {
        ResponseBuilder {
            facts: &self.facts,
            headers: &self.headers,
            now: self.response_time,
            status_name: self.cache().status_name(),
        }
    }

    fn cache(&self) -> &Cache {
        &self.settings.cache
    }
}
