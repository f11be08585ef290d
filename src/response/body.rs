//! The response bodies that the layer gives.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::response::error::{BodyError, BoxError};
use crate::response::follower_body::FollowerBody;
use crate::response::leader_body::LeaderBody;

pin_project! {
    /// A stored body, the handler's own, or one that is being recorded.
    ///
    /// A stored body comes in one frame without a copy; the handler's own passes through frame
    /// by frame, trailers included.
    pub struct ResponseBody<R> {
        #[pin]
        source: Source<R>,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source<R> {
        Stored { bytes: Option<Bytes> },
        None,
        Passed { #[pin] body: R },
        Leader { body: Box<LeaderBody<R>> },
        Follower { body: Box<FollowerBody> },
    }
}

impl<R> ResponseBody<R> {
    pub(crate) fn stored(bytes: Bytes) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self {
            source: Source::Stored { bytes },
        }
    }

    /// The body of a response whose status allows no content. Its size hint is unknown rather
    /// than zero, since servers make a `Content-Length` of it. RFC 9110 8.6 forbids that field
    /// in a 204, and in a 304 unless its value is that of the 200.
    pub(crate) const fn none() -> Self {
        Self {
            source: Source::None,
        }
    }

    pub(crate) const fn passed(body: R) -> Self {
        Self {
            source: Source::Passed { body },
        }
    }

    pub(crate) fn leader(body: LeaderBody<R>) -> Self {
        Self {
            source: Source::Leader {
                body: Box::new(body),
            },
        }
    }

    pub(crate) fn follower(body: FollowerBody) -> Self {
        Self {
            source: Source::Follower {
                body: Box::new(body),
            },
        }
    }

    /// Drops the body without a reader. If it is being recorded, the recording goes on until
    /// the given time.
    pub(crate) fn abandon(self, until: Instant) {
        if let Source::Leader { body } = self.source {
            body.abandon(until);
        }
    }
}

impl<R> Body for ResponseBody<R>
where
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().source.project() {
            SourceProjection::Stored { bytes } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            SourceProjection::None => Poll::Ready(None),
            SourceProjection::Passed { body } => {
                let frame = ready!(body.poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from_handler)))
            }
            SourceProjection::Leader { body } => body.poll_frame(context),
            SourceProjection::Follower { body } => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Stored { bytes } => bytes.is_none(),
            Source::None => true,
            Source::Passed { body } => body.is_end_stream(),
            Source::Leader { body } => body.is_end_stream(),
            Source::Follower { body } => body.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Stored { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::None => SizeHint::default(),
            Source::Passed { body } => body.size_hint(),
            Source::Leader { body } => body.size_hint(),
            Source::Follower { body } => SizeHint::with_exact(body.remaining()),
        }
    }
}

impl<R> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Stored { .. } => "ResponseBody::Stored",
            Source::None => "ResponseBody::None",
            Source::Passed { .. } => "ResponseBody::Passed",
            Source::Leader { .. } => "ResponseBody::Leader",
            Source::Follower { .. } => "ResponseBody::Follower",
        })
    }
}
