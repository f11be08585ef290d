//! The future that the service gives: a ready hit, a pass-through, or the flow.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, timeout_at};
use tower::util::Oneshot;
use tower_service::Service;

use crate::base::task;
use crate::cache::Cache;
use crate::request::handler::BoxError;
use crate::request::unsafe_method::{Change, Settled};
use crate::response::body::ResponseBody;
use crate::status::Outcome;

pub(crate) type BoxFlow<R, E> =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody<R>>, E>> + Send>>;

pin_project! {
    /// The response to come.
    ///
    /// Dropped while others wait for the same response, the handler is not cancelled: it goes on
    /// in the background, body included, within the fill deadline. Otherwise dropping it drops the handler.
    pub struct ResponseFuture<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>>,
        S::Error: Send,
        S::Error: 'static,
        R: Send,
        R: 'static,
    {
        #[pin]
        kind: Kind<S, B, R>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>>,
        S::Error: Send,
        S::Error: 'static,
        R: Send,
        R: 'static,
    {
        Ready { response: Option<Response<ResponseBody<R>>> },
        Passing { #[pin] inner: Oneshot<S, Request<B>>, outcome: Outcome, cache: Cache },
        Changing { #[pin] inner: Oneshot<S, Request<B>>, change: Option<Change> },
        Flowing { flow: Running<R, S::Error> },
    }
}

impl<S, B, R> ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    pub(crate) const fn ready(response: Response<ResponseBody<R>>) -> Self {
        Self {
            kind: Kind::Ready {
                response: Some(response),
            },
        }
    }

    pub(crate) const fn passing(
        inner: Oneshot<S, Request<B>>,
        outcome: Outcome,
        cache: Cache,
    ) -> Self {
        Self {
            kind: Kind::Passing {
                inner,
                outcome,
                cache,
            },
        }
    }

    pub(crate) const fn changing(inner: Oneshot<S, Request<B>>, change: Change) -> Self {
        Self {
            kind: Kind::Changing {
                inner,
                change: Some(change),
            },
        }
    }

    pub(crate) const fn flowing(flow: Running<R, S::Error>) -> Self {
        Self {
            kind: Kind::Flowing { flow },
        }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    #[expect(
        clippy::panic,
        reason = "polling a finished future is the caller's error, as always"
    )]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut kind = self.project().kind;
        let flow = match kind.as_mut().project() {
            KindProjection::Ready { response } => match response.take() {
                Some(response) => return Poll::Ready(Ok(response)),
                None => panic!("ResponseFuture polled after completion"),
            },
            KindProjection::Passing {
                inner,
                outcome,
                cache,
            } => {
                let response = ready!(inner.poll(context))?;
                return Poll::Ready(Ok(passed(response, *outcome, cache)));
            }
            KindProjection::Changing { inner, change } => {
                let response = ready!(inner.poll(context))?;
                let Some(change) = change.take() else {
                    panic!("ResponseFuture polled after completion");
                };
                let deadline = change.deadline();
                match change.settle(response) {
                    Settled::Nothing(response) => return Poll::Ready(Ok(response)),
                    Settled::Pending(flow) => Running::for_others(flow, deadline),
                }
            }
            KindProjection::Flowing { flow } => return flow.poll(context),
        };
        kind.set(Kind::Flowing { flow });
        match kind.project() {
            KindProjection::Flowing { flow } => flow.poll(context),
            _ => Poll::Pending,
        }
    }
}

/// The handler's response as it is, with this cache's line in `Cache-Status`.
pub(crate) fn passed<R>(
    response: Response<R>,
    outcome: Outcome,
    cache: &Cache,
) -> Response<ResponseBody<R>> {
    let mut response = response.map(ResponseBody::passed);
    outcome
        .with_status(response.status())
        .append_to(response.headers_mut(), cache.status_name());
    response
}

impl<S, B, R> std::fmt::Debug for ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Kind::Ready { .. } => "ResponseFuture::Ready",
            Kind::Passing { .. } => "ResponseFuture::Passing",
            Kind::Changing { .. } => "ResponseFuture::Changing",
            Kind::Flowing { .. } => "ResponseFuture::Flowing",
        })
    }
}

/// A flow under way, which outlives its client while others wait for what it fetches.
pub(crate) struct Running<R: Send + 'static, E: Send + 'static> {
    flow: Option<BoxFlow<R, E>>,
    awaited: Awaited,
    deadline: Duration,
    /// Still set when the flow has panicked: then there is nothing to go on with.
    polling: bool,
}

/// Whether others may be waiting for what a flow fetches.
#[derive(Clone, Debug)]
pub(crate) enum Awaited {
    /// From the start.
    Known(bool),
    /// Set once the flow knows.
    Told(Arc<AtomicBool>),
}

impl Awaited {
    pub(crate) const fn known(awaited: bool) -> Self {
        Self::Known(awaited)
    }

    pub(crate) fn told_later() -> Self {
        Self::Told(Arc::default())
    }

    pub(crate) fn set(&self) {
        if let Self::Told(awaited) = self {
            awaited.store(true, Ordering::Release);
        }
    }

    fn is_set(&self) -> bool {
        match self {
            Self::Known(awaited) => *awaited,
            Self::Told(awaited) => awaited.load(Ordering::Acquire),
        }
    }
}

impl<R: Send + 'static, E: Send + 'static> Running<R, E> {
    pub(crate) fn new(flow: BoxFlow<R, E>, awaited: Awaited, deadline: Duration) -> Self {
        Self {
            flow: Some(flow),
            awaited,
            deadline,
            polling: false,
        }
    }

    /// A flow that goes on without its client, for the sake of others.
    fn for_others(flow: BoxFlow<R, E>, deadline: Duration) -> Self {
        Self::new(flow, Awaited::known(true), deadline)
    }

    #[expect(
        clippy::panic,
        reason = "polling a finished future is the caller's error, as always"
    )]
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Response<ResponseBody<R>>, E>> {
        let Some(flow) = &mut self.flow else {
            panic!("ResponseFuture polled after completion");
        };
        self.polling = true;
        let polled = flow.as_mut().poll(context);
        self.polling = false;
        if polled.is_ready() {
            self.flow = None;
        }
        polled
    }
}

impl<R: Send + 'static, E: Send + 'static> Drop for Running<R, E> {
    fn drop(&mut self) {
        if self.polling || !self.awaited.is_set() {
            return;
        }
        if let Some(flow) = self.flow.take() {
            let until = Instant::now() + self.deadline;
            let _dropped_without_a_runtime = task::spawn(async move {
                if let Ok(Ok(response)) = timeout_at(until, flow).await {
                    response.into_body().leave(until);
                }
            });
        }
    }
}
