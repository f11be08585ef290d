//! A body that is recorded while it is served: written by one, read by many.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use crate::waiters::{Place, Waiters, wake};

/// The frames of a body so far, and how it ended. Readers never hold the writer up.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// The length that the response declares: readers may stream it while it grows.
    declared: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<Bytes>,
    length: u64,
    end: Option<End>,
    waiters: Waiters,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Cleanly, with the length that was declared.
    Complete,
    /// By an error, a panic, the cap, or abandonment: what there is must not pass for the whole.
    Failed,
}

/// A reader's place in a recording.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    next: usize,
    place: Place,
}

/// The recording ended before the body did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incomplete;

impl Recording {
    pub(crate) fn new(declared: Option<u64>) -> Self {
        Self {
            declared,
            state: Mutex::default(),
        }
    }

    pub(crate) const fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// The length recorded so far.
    pub(crate) fn length(&self) -> u64 {
        self.lock().length
    }

    /// Adds a frame.
    pub(crate) fn push(&self, frame: Bytes) {
        let mut state = self.lock();
        state.length += frame.len() as u64;
        state.frames.push(frame);
        let wakers = state.waiters.take();
        drop(state);
        wake(wakers);
    }

    /// Ends the recording. The first end stands.
    pub(crate) fn finish(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        let wakers = state.waiters.take();
        drop(state);
        wake(wakers);
    }

    /// The next frame for a follower; `None` after the last. Nothing of a failed recording.
    pub(crate) fn poll_frame(
        &self,
        reader: &mut Reader,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Bytes, Incomplete>>> {
        if self.lock().end == Some(End::Failed) {
            return Poll::Ready(Some(Err(Incomplete)));
        }
        self.poll_own(reader, context).map(|frame| frame.map(Ok))
    }

    /// The next frame for the client whose response is recorded; `None` after the last, however
    /// the recording ended: that client's body goes on by itself.
    pub(crate) fn poll_own(
        &self,
        reader: &mut Reader,
        context: &Context<'_>,
    ) -> Poll<Option<Bytes>> {
        let mut state = self.lock();
        if let Some(frame) = state.frames.get(reader.next) {
            reader.next += 1;
            return Poll::Ready(Some(frame.clone()));
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        state.waiters.enter(&mut reader.place, context);
        Poll::Pending
    }

    /// Waits for the end.
    pub(crate) fn poll_end(&self, place: &mut Place, context: &Context<'_>) -> Poll<End> {
        let mut state = self.lock();
        if let Some(end) = state.end {
            return Poll::Ready(end);
        }
        state.waiters.enter(place, context);
        Poll::Pending
    }

    /// The whole body once it is complete; copied only if it came in several frames.
    pub(crate) async fn whole(&self) -> Result<Bytes, Incomplete> {
        let mut place = Place::default();
        let end = std::future::poll_fn(|context| {
            let end = ready!(self.poll_end(&mut place, context));
            Poll::Ready(end)
        });
        match end.await {
            End::Complete => Ok(self.joined()),
            End::Failed => Err(Incomplete),
        }
    }

    /// All frames so far as one. A single frame is not copied, and several are joined once:
    /// readers in the middle keep their place, since the frames they have read stay counted.
    pub(crate) fn joined(&self) -> Bytes {
        let state = self.lock();
        match state.frames.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            frames => {
                let length = frames.iter().map(Bytes::len).sum();
                let mut joined = BytesMut::with_capacity(length);
                frames
                    .iter()
                    .for_each(|frame| joined.extend_from_slice(frame));
                joined.freeze()
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
