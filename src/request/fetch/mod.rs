//! The call of the handler, and what its answer does to the cache.

mod again;
mod context;
mod revalidate;
mod store;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode, response};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::util::Oneshot;
use tower_service::Service;

use crate::flight::{Leader, Uncacheable};
use crate::request::decision::stale_if_error;
use crate::request::fallback::Fallback;
use crate::request::handler::{Content, Inner};
use crate::request::miss::Miss;
use crate::request::nesting::Passage;
use crate::response::body::ResponseBody;
use crate::semantics::{self, Admitted, MethodClass};
use crate::status::Reason;

use again::Again;
use context::FetchContext;

pin_project! {
    /// The call of the handler for one request, and what its answer does to the cache.
    pub(crate) struct Fetch<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        call: Oneshot<S, Request<B>>,
        // The same request without conditions, if the call has those of the cache.
        again: Option<Box<Again<S, B>>>,
        // How long the handler may take if a stale response can be served instead.
        patience: Option<Pin<Box<Sleep>>>,
        fetch_context: FetchContext,
    }
}

impl<S, B> Fetch<S, B>
where
    S: Service<Request<B>> + Clone,
    B: 'static,
{
    pub(crate) fn new(
        miss: Miss,
        fallback: Fallback,
        leader: Option<Leader>,
        inner: Inner<S, B>,
    ) -> Self {
        let Miss {
            settings,
            mut parts,
            facts,
            now,
            mut lookup,
            ..
        } = miss;
        // The moment comes first. The judgement then finds any purge from before it, and a later one
        // is later than the moment. So nothing that was purged before the handler is called is
        // validated, updated, or served if the fetch fails.
        let moment = settings.cache.log().index().moment();
        let fallback = fallback.judged_again(|head| settings.judge(head, &facts, now));
        lookup.entry = lookup
            .entry
            .filter(|entry| settings.cache.validity(&entry.head, now).is_usable());
        let headers = parts.headers.clone();
        let to_validate = match &fallback {
            Fallback::Refreshing(entry) => Some(entry),
            fallback => fallback.to_validate(),
        };
        let passage = Passage::go_on(&mut parts.extensions, &settings.cache);
        let Inner { service, body } = inner;
        let mut again = None;
        if let Some(entry) = to_validate {
            again = Again::of(&service, &parts);
            semantics::make_conditional(&mut parts.headers, entry.head.headers.ready());
        }
        let has_replaced_conditions = to_validate.is_some() && (facts.conditional || facts.range);
        let fetch_context = FetchContext {
            moment,
            settings,
            passage,
            facts,
            headers,
            lookup,
            fallback,
            leader,
            has_replaced_conditions,
            request_time: now,
            response_time: now,
        };
        Self {
            call: Oneshot::new(service, Request::from_parts(parts, body)),
            again,
            patience: fetch_context
                .patience()
                .map(|patience| Box::pin(sleep(patience))),
            fetch_context,
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
        let mut this = self.project();
        loop {
            let polled = this.call.as_mut().poll(context);
            if this.fetch_context.passage.has_reached_another() {
                *this.patience = None;
                this.fetch_context.step_aside();
                return polled.map_ok(|response| this.fetch_context.hand_through(response));
            }
            let Poll::Ready(result) = polled else { break };
            match this.again.take() {
                Some(again) if this.fetch_context.is_contradicted(&result) => {
                    this.fetch_context.drop_contradicted();
                    this.call.set(again.call());
                }
                _ => return Poll::Ready(this.fetch_context.on_result(result)),
            }
        }
        if let Some(patience) = this.patience
            && patience.as_mut().poll(context).is_ready()
        {
            *this.patience = None;
            if let Some(stale) = this.fetch_context.on_timeout() {
                return Poll::Ready(Ok(stale));
            }
        }
        Poll::Pending
    }
}

impl FetchContext {
    fn on_result<R, E>(
        &mut self,
        result: Result<Response<R>, E>,
    ) -> Result<Response<ResponseBody<R>>, E>
    where
        R: Content,
    {
        self.response_time = self.cache().now();
        match result {
            Err(error) => self.serve_on_error().ok_or(error),
            Ok(response) if semantics::is_failure(response.status()) => {
                Ok(self.on_server_error(response))
            }
            Ok(response) => Ok(self.on_response(response)),
        }
    }

    /// RFC 5861 4: an error is "any situation that would result in a 500, 502, 503, or 504 HTTP
    /// response status code being returned". So it is one whether the inner service fails or
    /// answers with such a status.
    fn on_server_error<R>(&mut self, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Content,
    {
        match self.serve_on_error() {
            Some(stale) => stale,
            None => self.on_response(response),
        }
    }

    /// A layer of the same cache inside has the request. The followers go there too, and later
    /// requests do not wait here for each other.
    fn step_aside(&mut self) {
        if let Some(leader) = self.leader.take() {
            let now = self.cache().now();
            leader.release_as_uncacheable(Uncacheable::HandledInside, now);
        }
    }

    /// The response of a layer of the same cache inside. What this layer has stored for the request
    /// is of no use any more; its last use is to be what a 304 to its validators is about.
    fn hand_through<R>(&mut self, response: Response<R>) -> Response<ResponseBody<R>> {
        self.response_time = self.cache().now();
        if self.fallback.entry().is_some() {
            self.remove_stored();
        }
        match self.fallback.to_validate() {
            Some(entry) if response.status() == StatusCode::NOT_MODIFIED => {
                let outcome = self.outcome(StatusCode::NOT_MODIFIED);
                self.response_builder()
                    .answer(&entry.head, &entry.body, outcome)
            }
            _ => response.map(ResponseBody::passed),
        }
    }

    fn on_timeout<R>(&mut self) -> Option<Response<ResponseBody<R>>> {
        self.response_time = self.cache().now();
        self.serve_on_error()
    }

    fn on_response<R>(&mut self, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Content,
    {
        let (head, body) = response.into_parts();
        if head.status == StatusCode::NOT_MODIFIED
            && let Some(entry) = self.fallback.to_validate().cloned()
        {
            return self.validated(&entry, &head);
        }
        if self.facts.method == MethodClass::Head {
            self.update_by_head(&head);
        }
        let admission = self.admit(&head);
        match admission {
            Ok(admitted) => self.record(head, body, admitted),
            Err(refusal) => {
                self.withdraw_stored(head.status, refusal);
                if semantics::is_failure(head.status) {
                    // As if there were no response: the followers try again, one at a time.
                    self.leader = None;
                } else if head.status.is_server_error() {
                    // It does not tell what the next response will be like.
                    self.release();
                } else {
                    self.release_refused(refusal);
                }
                let outcome = self.fallback.outcome().because(refusal);
                self.passage
                    .passed(Response::from_parts(head, body), outcome)
            }
        }
    }

    /// How long the handler may take before the stale response is served instead.
    fn patience(&self) -> Option<Duration> {
        let entry = self.fallback.entry()?;
        let is_replaceable = self.may_serve_on_error(&entry.head, self.request_time);
        is_replaceable.then_some(self.cache().config().fill_deadline)
    }

    /// Serves the stale response to this request and its followers, if they may have it, since the
    /// fetch failed. The key backs off either way.
    fn serve_on_error<R>(&mut self) -> Option<Response<ResponseBody<R>>> {
        let entry = self.fallback.entry().cloned()?;
        let now = self.response_time;
        self.cache().flights().back_off(self.lookup.key(), now);
        if !self.may_serve_on_error(&entry.head, now) {
            return None;
        }
        if let Some(leader) = self.leader.take() {
            leader.share_entry(Arc::clone(&entry), self.lookup.fields());
        }
        let outcome = stale_if_error(&entry.head, now);
        let builder = self.response_builder();
        Some(builder.answer(&entry.head, &entry.body, outcome))
    }

    /// Whether RFC 9111 and the policy allow the response to be stored.
    fn admit(&self, head: &response::Parts) -> Result<Admitted, Reason> {
        let admitted = semantics::admit(&self.exchange(head), &self.settings.policy.rules)?;
        self.permit(head)?;
        Ok(admitted)
    }
}
