//! [`ResponseFuture`]: a response that is ready, that passes, or that is to come.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower_service::Service;

use crate::request::detached::{Answer, Detachable};
use crate::request::nesting::Passage;
use crate::response::body::ResponseBody;
use crate::response::error::BoxError;
use crate::semantics;
use crate::status::Outcome;

pin_project! {
    /// The response to come.
    ///
    /// If it is dropped while other requests wait for the same response, or once it has called the
    /// handler of an unsafe request, the handler is not cancelled: it goes on in the background,
    /// body included, within the fill deadline. Otherwise dropping it drops the handler.
    pub struct ResponseFuture<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>>,
        S::Error: Send,
        S::Error: 'static,
        R: Send,
        R: 'static,
    {
        #[pin]
        course: Course<S, B, R>,
        // Tags that are not for clients are taken from whatever comes.
        strips_tags: bool,
    }
}

pin_project! {
    #[project = CourseProjection]
    enum Course<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>>,
        S::Error: Send,
        S::Error: 'static,
        R: Send,
        R: 'static,
    {
        Ready { response: Option<Response<ResponseBody<R>>> },
        Passing { #[pin] call: Oneshot<S, Request<B>>, outcome: Outcome, passage: Passage },
        Pending { response: Detachable<R, S::Error> },
    }
}

impl<S, B, R> ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    pub(super) fn of(answer: Answer<R, S::Error>, strips_tags: bool) -> Self {
        match answer {
            Answer::Ready(response) => Self::ready(response),
            Answer::Pending(response) => Self {
                course: Course::Pending { response },
                strips_tags,
            },
        }
    }

    /// A stored response, which has no tags that are not for clients.
    pub(super) const fn ready(response: Response<ResponseBody<R>>) -> Self {
        let response = Some(response);
        Self {
            course: Course::Ready { response },
            strips_tags: false,
        }
    }

    /// The handler's response as it is.
    pub(super) const fn passing(
        call: Oneshot<S, Request<B>>,
        outcome: Outcome,
        passage: Passage,
        strips_tags: bool,
    ) -> Self {
        Self {
            course: Course::Passing {
                call,
                outcome,
                passage,
            },
            strips_tags,
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
        let this = self.project();
        let mut response = match this.course.project() {
            CourseProjection::Ready { response } => match response.take() {
                Some(response) => response,
                None => panic!("ResponseFuture polled after completion"),
            },
            CourseProjection::Passing {
                call,
                outcome,
                passage,
            } => {
                let response = ready!(call.poll(context))?;
                passage.passed(response, *outcome)
            }
            CourseProjection::Pending { response } => ready!(Pin::new(response).poll(context))?,
        };
        if *this.strips_tags {
            semantics::strip_tags(response.headers_mut());
        }
        Poll::Ready(Ok(response))
    }
}

impl<S, B, R> std::fmt::Debug for ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.course {
            Course::Ready { .. } => "ResponseFuture::Ready",
            Course::Passing { .. } => "ResponseFuture::Passing",
            Course::Pending { .. } => "ResponseFuture::Pending",
        })
    }
}
