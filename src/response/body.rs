//! The response bodies that the layer gives.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::leader_body::LeaderBody;
use crate::recording::{Incomplete, Reader, Recording};
use crate::request::handler::BoxError;

pin_project! {
    /// A stored body, the handler's own, or one that is being recorded.
    ///
    /// A stored body comes in one frame without a copy; the handler's own passes through frame
    /// by frame, trailers included.
    pub struct ResponseBody<R> {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<R> {
        Stored { bytes: Option<Bytes> },
        None,
        Passed { #[pin] body: R },
        LeaderBody { led: Box<LeaderBody<R>> },
        FollowerBody { followed: Box<FollowerBody> },
    }
}

impl<R> ResponseBody<R> {
    pub(crate) fn stored(bytes: Bytes) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self {
            kind: Kind::Stored { bytes },
        }
    }

    /// That of a response which by its status has no content. Its length is not told, since servers
    /// make a `Content-Length` of it, which RFC 9110 8.6 forbids with a 204, and with a 304 unless it
    /// is that of the 200.
    pub(crate) const fn none() -> Self {
        Self { kind: Kind::None }
    }

    pub(crate) const fn passed(body: R) -> Self {
        Self {
            kind: Kind::Passed { body },
        }
    }

    pub(crate) fn led(led: LeaderBody<R>) -> Self {
        Self {
            kind: Kind::LeaderBody { led: Box::new(led) },
        }
    }

    pub(crate) fn followed(followed: FollowerBody) -> Self {
        Self {
            kind: Kind::FollowerBody {
                followed: Box::new(followed),
            },
        }
    }
}

impl<R> ResponseBody<R> {
    /// Nobody reads it: if it is being recorded, that goes on until then.
    pub(crate) fn leave(self, until: tokio::time::Instant) {
        if let Kind::LeaderBody { led } = self.kind {
            led.leave(until);
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
        match self.project().kind.project() {
            KindProjection::Stored { bytes } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            KindProjection::None => Poll::Ready(None),
            KindProjection::Passed { body } => {
                let frame = ready!(body.poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from_handler)))
            }
            KindProjection::LeaderBody { led } => led.poll_frame(context),
            KindProjection::FollowerBody { followed } => followed.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Stored { bytes } => bytes.is_none(),
            Kind::None => true,
            Kind::Passed { body } => body.is_end_stream(),
            Kind::LeaderBody { led } => led.is_end_stream(),
            Kind::FollowerBody { followed } => followed.remaining == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Stored { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::None => SizeHint::default(),
            Kind::Passed { body } => body.size_hint(),
            Kind::LeaderBody { led } => led.size_hint(),
            Kind::FollowerBody { followed } => SizeHint::with_exact(followed.remaining),
        }
    }
}

impl<R> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Stored { .. } => "ResponseBody::Stored",
            Kind::None => "ResponseBody::None",
            Kind::Passed { .. } => "ResponseBody::Passed",
            Kind::LeaderBody { .. } => "ResponseBody::LeaderBody",
            Kind::FollowerBody { .. } => "ResponseBody::FollowerBody",
        })
    }
}

/// Another request's fill of known length, read while it grows.
#[derive(Debug)]
pub(crate) struct FollowerBody {
    recording: std::sync::Arc<Recording>,
    reader: Reader,
    remaining: u64,
}

impl FollowerBody {
    pub(crate) fn new(recording: std::sync::Arc<Recording>, length: u64) -> Self {
        Self {
            recording,
            reader: Reader::default(),
            remaining: length,
        }
    }

    fn poll_frame(
        &mut self,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // All that was declared is read: how the recording ends is of no more interest.
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        match ready!(self.recording.poll_frame(&mut self.reader, context)) {
            Some(Ok(data)) => {
                self.remaining = self.remaining.saturating_sub(data.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(Incomplete)) | None => {
                self.remaining = 0;
                Poll::Ready(Some(Err(BodyError::incomplete())))
            }
        }
    }
}

impl Drop for FollowerBody {
    fn drop(&mut self) {
        self.recording.leave(&mut self.reader);
    }
}

/// The body could not be brought to its end.
///
/// The client must see a broken transfer, never a short body that looks whole.
#[derive(Debug)]
pub struct BodyError(Option<BoxError>);

impl BodyError {
    pub(crate) fn from_handler(error: impl Into<BoxError>) -> Self {
        Self(Some(error.into()))
    }

    pub(crate) const fn incomplete() -> Self {
        Self(None)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "the handler's response body failed",
            None => "the response body that this request shared ended early",
        })
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Some(error) => Some(&**error),
            None => None,
        }
    }
}
