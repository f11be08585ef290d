//! What the client of a recorded response reads.

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
use crate::request::handler::BoxError;
use crate::response::body::BodyError;

/// What the client of the recorded response reads.
pub(crate) struct LeaderBody<R> {
    recording: Arc<Recording>,
    reader: Reader,
    left: Remaining,
    state: LeaderBodyState<R>,
}

enum LeaderBodyState<R> {
    Recording {
        pump: JoinHandle<PumpEnd<R>>,
        /// Dropped with this body: the pump then has a deadline. Or told which.
        here: Option<oneshot::Sender<Instant>>,
    },
    /// The recording ended early: the frames it had are read, then these, then the rest from the
    /// body itself.
    Passing(VecDeque<Result<Frame<Bytes>, BodyError>>, Pin<Box<R>>),
    Ended,
}

/// How the recording of a body ended, for its own client to go on from.
pub(crate) enum PumpEnd<R> {
    /// Everything is in the recording.
    Recorded,
    /// The rest does not belong in it: this frame, those already taken from the body, then what
    /// the body still has.
    Rest(
        Frame<Bytes>,
        VecDeque<Result<Frame<Bytes>, BoxError>>,
        Pin<Box<R>>,
    ),
    /// The body failed.
    Failed(BoxError),
    /// Nobody was left to wait for it.
    Abandoned,
}

/// How much is still to come, as far as the body itself can tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remaining {
    lower: u64,
    upper: Option<u64>,
}

impl Remaining {
    /// What `body` says, and the frames that were taken from it already.
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
    /// Its client is gone, and the fill has until then to finish.
    pub(crate) fn leave(mut self, until: Instant) {
        if let LeaderBodyState::Recording { here, .. } = &mut self.state
            && let Some(here) = here.take()
        {
            let _ended_already = here.send(until);
        }
    }
}

impl<R> Drop for LeaderBody<R> {
    fn drop(&mut self) {
        self.recording.leave_own(&mut self.reader);
    }
}

impl<R> LeaderBody<R>
where
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    pub(crate) fn recorded(
        recording: Arc<Recording>,
        left: Remaining,
        pump: JoinHandle<PumpEnd<R>>,
        here: oneshot::Sender<Instant>,
    ) -> Self {
        Self {
            recording,
            reader: Reader::default(),
            left,
            state: LeaderBodyState::Recording {
                pump,
                here: Some(here),
            },
        }
    }

    pub(crate) fn unrecorded(
        body: Pin<Box<R>>,
        frames: VecDeque<Result<Frame<Bytes>, R::Error>>,
    ) -> Self {
        let left = Remaining::of(&body, &frames);
        let frames = frames
            .into_iter()
            .map(|frame| frame.map_err(BodyError::from_handler));
        Self {
            recording: Arc::default(),
            reader: Reader::default(),
            left,
            state: LeaderBodyState::Passing(frames.collect(), body),
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_any(context));
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left.count(length);
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
            LeaderBodyState::Recording { .. } | LeaderBodyState::Passing(..) => self.left.hint(),
        }
    }

    fn poll_any(
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
                    // Frames first: the pump's own end comes after the last of them.
                    if let Some(data) = ready!(self.recording.poll_own(&mut self.reader, context)) {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    let ending = ready!(Pin::new(pump).poll(context));
                    self.state = LeaderBodyState::Ended;
                    match ending {
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
