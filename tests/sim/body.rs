//! Bodies that come in frames, with delays, and may break off.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::step::{End, Length, Mode};

/// The handler's failure, with the number of the call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimError(pub usize);

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} failed", self.0)
    }
}

impl std::error::Error for SimError {}

/// What is still to come of a body.
#[derive(Debug, Default)]
pub struct Frames {
    frames: VecDeque<Bytes>,
    gap: Duration,
    /// The length is told by the size hint too.
    exact: bool,
    end: End,
    call: usize,
}

impl Frames {
    /// `body` as the mode has it come.
    pub fn of(body: Vec<u8>, call: usize, mode: &Mode) -> Self {
        let parts = usize::from(mode.frames) + 1;
        let size = body.len().div_ceil(parts).max(1);
        let body = Bytes::from(body);
        let starts = (0..body.len()).step_by(size);
        let frames = starts.map(|start| body.slice(start..(start + size).min(body.len())));
        Self {
            frames: frames.collect(),
            gap: Duration::from_millis(mode.gap.into()),
            exact: mode.length == Length::Declared && mode.end != End::Trailers,
            end: mode.end,
            call,
        }
    }
}

/// What requests have for a body.
pub type NoBody = http_body_util::Empty<Bytes>;

/// The body of a response.
#[derive(Debug, Default)]
pub struct SimBody {
    rest: Frames,
    /// Before the next frame; the first one is there with the head.
    pause: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl SimBody {
    pub fn empty() -> Self {
        Self {
            ended: true,
            ..Self::default()
        }
    }

    pub fn new(rest: Frames) -> Self {
        Self {
            rest,
            ..Self::default()
        }
    }
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = SimError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SimError>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if self.rest.end == End::Broken && self.rest.frames.len() <= 1 {
            self.ended = true;
            return Poll::Ready(Some(Err(SimError(self.rest.call))));
        }
        let Some(frame) = self.rest.frames.pop_front() else {
            self.ended = true;
            return match self.rest.end {
                End::Trailers => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-sum", "1".parse().unwrap());
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                End::Clean | End::Broken => Poll::Ready(None),
            };
        };
        if !self.rest.gap.is_zero() {
            self.pause = Some(Box::pin(sleep(self.rest.gap)));
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.rest.exact && self.rest.frames.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        let left = self
            .rest
            .frames
            .iter()
            .map(|frame| frame.len() as u64)
            .sum();
        match self.ended || self.rest.exact {
            true => SizeHint::with_exact(left),
            false => SizeHint::default(),
        }
    }
}
