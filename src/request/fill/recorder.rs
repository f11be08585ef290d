//! The reading of a body into its recording.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use super::{Commit, NewEntry};
use crate::base::task;
use crate::flight::SharedHead;
use crate::recording::{End, Recording};
use crate::request::handler::{BoxError, Content};
use crate::response::leader_body::{LeaderBody, PumpEnd, Remaining};
use crate::status::Reason;

/// Whether a body is being recorded, or why not.
pub(crate) enum Recorded {
    Yes,
    No(Reason),
}

/// A fill that is about to begin.
pub(crate) struct Fill {
    pub(crate) landing: Commit,
    pub(crate) new_entry: NewEntry,
    /// `Content-Length`, or the exact size hint.
    pub(crate) declared: Option<u64>,
    pub(crate) max_body: u64,
    /// How long the fill goes on when its own client has gone.
    pub(crate) deadline: Duration,
}

impl Fill {
    /// Starts to record `body`, if there is a runtime to record in, and the memory; what its own
    /// client is to read either way.
    pub(crate) fn start<R>(
        self,
        body: Pin<Box<R>>,
        frames: VecDeque<Result<Frame<Bytes>, R::Error>>,
    ) -> (LeaderBody<R>, Recorded)
    where
        R: Content,
    {
        if !task::is_possible() {
            return (
                LeaderBody::unrecorded(body, frames),
                Recorded::No(Reason::NoRuntime),
            );
        }
        // Followers of a declared length may read at once, so there must be room for all of it.
        let reserved = self.declared.unwrap_or(0);
        let memory = match reserved {
            0 => None,
            bytes => match self.landing.cache.fill_budget(bytes) {
                Some(memory) => Some(memory),
                None => {
                    self.landing.give_way();
                    let led = LeaderBody::unrecorded(body, frames);
                    return (led, Recorded::No(Reason::FillBudget));
                }
            },
        };
        let recording = Arc::new(Recording::new(self.declared, memory));
        let (here, gone) = oneshot::channel();
        let left = Remaining::of(&body, &frames);
        let deadline = self.deadline;
        let recorder = self.recorder(&recording, reserved);
        let frames = frames.into_iter().map(|frame| frame.map_err(Into::into));
        let pump = pump(body, frames.collect(), recorder, gone, deadline);
        let pump = task::spawn_joinable(pump.in_current_span());
        let led = LeaderBody::recorded(recording, left, pump, here);
        (led, Recorded::Yes)
    }
}

impl Fill {
    /// The followers may have the recording from here on.
    pub(crate) fn recorder(self, recording: &Arc<Recording>, reserved: u64) -> Recorder {
        let NewEntry { head, fields } = self.new_entry;
        let shared = SharedHead {
            head: Arc::new(head),
            fields,
        };
        if let Some(leader) = &self.landing.leader {
            leader.share(shared.clone(), Arc::clone(recording));
        }
        Recorder {
            recording: Arc::clone(recording),
            declared: self.declared,
            max_body: self.max_body,
            reserved,
            landing: Some(self.landing),
            shared,
        }
    }
}

/// The writing end of a recording. Dropped before the end, the recording has failed.
pub(crate) struct Recorder {
    recording: Arc<Recording>,
    declared: Option<u64>,
    max_body: u64,
    /// Bytes for which there is memory.
    reserved: u64,
    landing: Option<Commit>,
    shared: SharedHead,
}

impl Recorder {
    /// Records a frame, unless that makes too much of it: the cap, more than was declared, or than
    /// there is memory for.
    pub(crate) fn push(&mut self, data: &Bytes) -> PushResult {
        let length = self.recording.length().saturating_add(data.len() as u64);
        if length > self.max_body || self.declared.is_some_and(|declared| length > declared) {
            return PushResult::TooLong;
        }
        let Ok(memory) = self.reserve(length) else {
            return PushResult::NoMemory;
        };
        self.recording.push(data.clone(), memory);
        PushResult::Recorded
    }

    /// Memory for the body up to `length`, in steps, so that a short one does not take the cap's.
    fn reserve(&mut self, length: u64) -> Result<Option<OwnedSemaphorePermit>, NoMemory> {
        if length <= self.reserved {
            return Ok(None);
        }
        let step = (length - self.reserved).max(MEMORY_STEP);
        let step = step.min(self.max_body - self.reserved);
        let cache = self.landing.as_ref().map(|landing| &landing.cache);
        let memory = cache.and_then(|cache| cache.fill_budget(step));
        self.reserved += step;
        memory.map(Some).ok_or(NoMemory)
    }

    /// The body ended cleanly; it is whole if it has the declared length.
    pub(crate) fn end(mut self) {
        let length = self.recording.length();
        let whole = self.declared.is_none_or(|declared| declared == length);
        if let Some(landing) = self.landing.take()
            && whole
        {
            let now = landing.cache.now();
            let new_entry = NewEntry {
                head: self.shared.head.again(),
                fields: Arc::clone(&self.shared.fields),
            };
            landing.commit(new_entry, self.recording.join(), now);
            self.recording.finish(End::Complete);
        }
    }

    /// Followers that read already must see a broken transfer; the others go on their own.
    pub(crate) fn give_up(mut self, room: &PushResult) {
        let Some(landing) = self.landing.take() else {
            return;
        };
        match room {
            PushResult::NoMemory => landing.give_way(),
            PushResult::Recorded | PushResult::TooLong => landing.give_up(),
        }
    }

    /// Trailers follow, which are not stored. Those who read the content already have all of it
    /// that was declared.
    fn stop_at_trailers(mut self) {
        let landing = self.landing.take();
        if self.declared == Some(self.recording.length()) {
            self.recording.finish(End::BeforeTrailers);
        }
        if let Some(landing) = landing {
            landing.give_up();
        }
    }
}

impl Drop for Recorder {
    /// First the flight, then the recording: who sees the recording fail can see why.
    fn drop(&mut self) {
        drop(self.landing.take());
        self.recording.finish(End::Failed);
    }
}

/// Whether a frame could be recorded.
pub(crate) enum PushResult {
    Recorded,
    TooLong,
    NoMemory,
}

struct NoMemory;

/// Reads a body into its recording, as fast as the handler gives it.
async fn pump<R>(
    mut body: Pin<Box<R>>,
    mut frames: VecDeque<Result<Frame<Bytes>, BoxError>>,
    mut recorder: Recorder,
    gone: oneshot::Receiver<Instant>,
    deadline: Duration,
) -> PumpEnd<R>
where
    R: Content,
{
    let abandoned = async {
        let until = gone
            .await
            .unwrap_or_else(|_just_now| Instant::now() + deadline);
        tokio::time::sleep_until(until).await;
    };
    tokio::pin!(abandoned);
    loop {
        let next = async {
            tokio::task::coop::consume_budget().await;
            match frames.pop_front() {
                Some(frame) => Some(frame),
                None => std::future::poll_fn(|context| body.as_mut().poll_frame(context))
                    .await
                    .map(|frame| frame.map_err(Into::into)),
            }
        };
        let frame = tokio::select! {
            biased;
            () = &mut abandoned => return PumpEnd::Abandoned,
            frame = next => frame,
        };
        let frame = match frame {
            None => {
                recorder.end();
                return PumpEnd::Recorded;
            }
            Some(Err(error)) => return PumpEnd::Failed(error),
            Some(Ok(frame)) => frame,
        };
        let Some(data) = frame.data_ref() else {
            recorder.stop_at_trailers();
            return PumpEnd::Rest(frame, frames, body);
        };
        match recorder.push(data) {
            PushResult::Recorded => {}
            // The client gets it all the same.
            room => {
                recorder.give_up(&room);
                return PumpEnd::Rest(frame, frames, body);
            }
        }
    }
}

/// Memory for a body of unknown length is taken in such steps, in bytes.
const MEMORY_STEP: u64 = 64 * 1024;
