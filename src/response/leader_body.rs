//! The body of a response while it is being recorded, as the client of the fetch reads it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::recording::{Reader, Recording};
use crate::response::error::{BodyError, BoxError};

/// Reads the recording, and then whatever the recording did not take.
pub(crate) struct LeaderBody<R> {
    recording: Arc<Recording>,
    reader: Reader,
    remaining: Remaining,
    state: LeaderBodyState<R>,
}

enum LeaderBodyState<R> {
    Recording {
        pump: JoinHandle<PumpEnd<R>>,
        /// Tells the pump that its client is gone, and how long it may go on. Dropping the sender
        /// gives the pump its usual deadline.
        abandoned: Option<oneshot::Sender<Instant>>,
    },
    /// The recording has ended early and has been read: these frames come next, then the rest of
    /// the body itself.
    Passing(VecDeque<Result<Frame<Bytes>, BodyError>>, Pin<Box<R>>),
    Ended,
}

/// How the pump that records a body ended, and where its client goes on.
pub(crate) enum PumpEnd<R> {
    /// The recording has the whole body.
    Recorded,
    /// The recording does not take the rest: this frame, the frames already taken from the body,
    /// and the frames that the body still has.
    Rest(
        Frame<Bytes>,
        VecDeque<Result<Frame<Bytes>, BoxError>>,
        Pin<Box<R>>,
    ),
    /// The handler's body failed.
    Failed(BoxError),
    /// The client had gone, and the deadline has passed.
    Abandoned,
}

/// How many bytes are still to come, as far as the body's size hint says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remaining {
    lower: u64,
    upper: Option<u64>,
}

impl Remaining {
    /// The size hint of `body`, and the frames that were taken from it already.
    pub(crate) fn of<R: Body<Data = Bytes>>(
        body: &Pin<Box<R>>,
        frames: &VecDeque<Result<Frame<Bytes>, R::Error>>,
    ) -> Self {
        let data = frames.iter().flatten().filter_map(Frame::data_ref);
        let taken: u64 = data.map(|data| data.len() as u64).sum();
        let hint = body.size_hint();
        Self {
            lower: hint.lower().saturating_add(taken),
            upper: hint.upper().map(|upper| upper.saturating_add(taken)),
        }
    }

    fn count(&mut self, length: u64) {
        self.lower = self.lower.saturating_sub(length);
        self.upper = self.upper.map(|upper| upper.saturating_sub(length));
    }

    fn hint(self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.lower.min(self.upper.unwrap_or(u64::MAX)));
        if let Some(upper) = self.upper {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<R> LeaderBody<R> {
    /// Drops the body, and lets the pump go on until the given time.
    pub(crate) fn abandon(mut self, until: Instant) {
        if let LeaderBodyState::Recording { abandoned, .. } = &mut self.state
            && let Some(abandoned) = abandoned.take()
        {
            // Sending fails if the pump has ended already, which is as good.
            let _ = abandoned.send(until);
        }
    }
}

impl<R> Drop for LeaderBody<R> {
    fn drop(&mut self) {
        self.recording.leave_as_leader(&mut self.reader);
    }
}

impl<R> LeaderBody<R>
where
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    pub(crate) fn recorded(
        recording: Arc<Recording>,
        remaining: Remaining,
        pump: JoinHandle<PumpEnd<R>>,
        abandoned: oneshot::Sender<Instant>,
    ) -> Self {
        Self {
            recording,
            reader: Reader::default(),
            remaining,
            state: LeaderBodyState::Recording {
                pump,
                abandoned: Some(abandoned),
            },
        }
    }

    pub(crate) fn unrecorded(
        body: Pin<Box<R>>,
        frames: VecDeque<Result<Frame<Bytes>, R::Error>>,
    ) -> Self {
        let remaining = Remaining::of(&body, &frames);
        let frames = frames
            .into_iter()
            .map(|frame| frame.map_err(BodyError::from_handler));
        Self {
            recording: Arc::default(),
            reader: Reader::default(),
            remaining,
            state: LeaderBodyState::Passing(frames.collect(), body),
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_source(context));
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.remaining.count(length);
            }
            Some(Err(_)) | None => self.state = LeaderBodyState::Ended,
        }
        Poll::Ready(frame)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.state {
            LeaderBodyState::Recording { .. } => self.recording.is_read(&self.reader),
            LeaderBodyState::Passing(frames, body) => frames.is_empty() && body.is_end_stream(),
            LeaderBodyState::Ended => true,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.state {
            LeaderBodyState::Ended => SizeHint::with_exact(0),
            LeaderBodyState::Recording { .. } | LeaderBodyState::Passing(..) => {
                self.remaining.hint()
            }
        }
    }

    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match &mut self.state {
                LeaderBodyState::Ended => return Poll::Ready(None),
                LeaderBodyState::Passing(frames, body) => {
                    if let Some(frame) = frames.pop_front() {
                        return Poll::Ready(Some(frame));
                    }
                    let frame = ready!(body.as_mut().poll_frame(context));
                    return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from_handler)));
                }
                LeaderBodyState::Recording { pump, .. } => {
                    // The frames come first: the pump ends after it has recorded the last of them.
                    if let Some(data) =
                        ready!(self.recording.poll_as_leader(&mut self.reader, context))
                    {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    let end = ready!(Pin::new(pump).poll(context));
                    self.state = LeaderBodyState::Ended;
                    match end {
                        Ok(PumpEnd::Recorded) => return Poll::Ready(None),
                        Ok(PumpEnd::Rest(frame, frames, body)) => {
                            self.state = rest(frame, frames, body);
                        }
                        Ok(PumpEnd::Failed(error)) => {
                            return Poll::Ready(Some(Err(BodyError::from_handler(error))));
                        }
                        Err(error) if error.is_panic() => {
                            std::panic::resume_unwind(error.into_panic())
                        }
                        Ok(PumpEnd::Abandoned) | Err(_) => {
                            return Poll::Ready(Some(Err(BodyError::incomplete())));
                        }
                    }
                }
            }
        }
    }
}

/// What the recording did not take goes to its client as it is.
fn rest<R>(
    frame: Frame<Bytes>,
    frames: VecDeque<Result<Frame<Bytes>, BoxError>>,
    body: Pin<Box<R>>,
) -> LeaderBodyState<R> {
    let frames = frames
        .into_iter()
        .map(|frame| frame.map_err(BodyError::from_handler));
    LeaderBodyState::Passing(std::iter::once(Ok(frame)).chain(frames).collect(), body)
}
