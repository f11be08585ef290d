//! The task that reads a body into its recording.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use super::{Commit, NewEntry};
use crate::base::task;
use crate::flight::SharedHead;
use crate::recording::{End, Recording};
use crate::request::handler::Content;
use crate::response::error::BoxError;
use crate::response::leader_body::{LeaderBody, PumpEnd, Remaining};
use crate::status::Reason;

/// Whether a body is being recorded, or why not.
pub(crate) enum Recorded {
    Yes,
    No(Reason),
}

/// A response whose body is about to be recorded.
pub(crate) struct Fill {
    pub(crate) commit: Commit,
    pub(crate) new_entry: NewEntry,
    /// The fields of the request.
    pub(crate) headers: HeaderMap,
    /// `Content-Length`, or the exact size hint.
    pub(crate) declared: Option<u64>,
    pub(crate) max_body: u64,
    /// How long the recording goes on once its client has gone.
    pub(crate) deadline: Duration,
}

impl Fill {
    /// Starts to record `body`, if there is a runtime to record in and memory to record to. The
    /// client gets the body either way.
    pub(crate) fn start<R>(
        self,
        body: Pin<Box<R>>,
        frames: VecDeque<Result<Frame<Bytes>, R::Error>>,
    ) -> (LeaderBody<R>, Recorded)
    where
        R: Content,
    {
        if !task::is_possible() {
            self.commit.release();
            let body = LeaderBody::unrecorded(body, frames);
            return (body, Recorded::No(Reason::NoRuntime));
        }
        // Followers read a body of declared length at once, so there must be memory for all of it.
        let reserved = self.declared.unwrap_or(0);
        let memory = match reserved {
            0 => None,
            bytes => match self.commit.cache.fill_budget(bytes) {
                Some(memory) => Some(memory),
                None => {
                    self.commit.release();
                    let body = LeaderBody::unrecorded(body, frames);
                    return (body, Recorded::No(Reason::FillBudget));
                }
            },
        };
        let recording = Arc::new(Recording::new(self.declared, memory));
        let (abandon, abandoned) = oneshot::channel();
        let remaining = Remaining::of(&body, &frames);
        let deadline = self.deadline;
        let recorder = self.recorder(&recording, reserved);
        let frames = frames.into_iter().map(|frame| frame.map_err(Into::into));
        let pump = pump(body, frames.collect(), recorder, abandoned, deadline);
        let pump = task::spawn_joinable(pump.in_current_span());
        let body = LeaderBody::recorded(recording, remaining, pump, abandon);
        (body, Recorded::Yes)
    }

    /// The writing end of `recording`, which the followers read from now on.
    pub(crate) fn recorder(self, recording: &Arc<Recording>, reserved: u64) -> Recorder {
        let NewEntry { head, fields, vary } = self.new_entry;
        let shared = SharedHead {
            head: Arc::new(head),
            fields,
        };
        if let Some(leader) = &self.commit.leader {
            leader.share_recording(shared.clone(), Arc::clone(recording));
        }
        Recorder {
            recording: Arc::clone(recording),
            declared: self.declared,
            max_body: self.max_body,
            reserved,
            commit: Some(self.commit),
            shared,
            vary,
            headers: self.headers,
        }
    }
}

/// The writing end of a recording. The recording fails if it is dropped before the end.
pub(crate) struct Recorder {
    recording: Arc<Recording>,
    declared: Option<u64>,
    max_body: u64,
    /// Bytes for which there is memory.
    reserved: u64,
    commit: Option<Commit>,
    shared: SharedHead,
    /// What the response's own `Vary` names.
    vary: Arc<[HeaderName]>,
    /// The fields of the request.
    headers: HeaderMap,
}

impl Recorder {
    /// Records a frame, unless the body gets longer than the cap or its declared length, or there is
    /// no memory for it.
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

    /// Reserves memory for the body up to `length`, in steps, so that a short body does not take as
    /// much as the longest.
    fn reserve(&mut self, length: u64) -> Result<Option<OwnedSemaphorePermit>, NoMemory> {
        if length <= self.reserved {
            return Ok(None);
        }
        let step = (length - self.reserved).max(MEMORY_STEP);
        let step = step.min(self.max_body - self.reserved);
        let cache = self.commit.as_ref().map(|commit| &commit.cache);
        let memory = cache.and_then(|cache| cache.fill_budget(step));
        self.reserved += step;
        memory.map(Some).ok_or(NoMemory)
    }

    /// Commits the body after its clean end, if it has the declared length.
    pub(crate) fn end(mut self) {
        let length = self.recording.length();
        let is_whole = self.declared.is_none_or(|declared| declared == length);
        let Some(commit) = self.commit.take() else {
            return;
        };
        if !is_whole {
            commit.withdraw_replaced();
            return;
        }
        let now = commit.cache.now();
        let new_entry = NewEntry {
            head: self.shared.head.again(),
            fields: Arc::clone(&self.shared.fields),
            vary: Arc::clone(&self.vary),
        };
        commit.commit(new_entry, self.recording.join(), &self.headers, now);
        self.recording.finish(End::Complete);
    }

    /// Ends the recording early. Followers that have read some of it see a broken transfer; the
    /// others call the handler.
    pub(crate) fn give_up(mut self, result: &PushResult) {
        let Some(commit) = self.commit.take() else {
            return;
        };
        match result {
            PushResult::NoMemory => commit.release(),
            PushResult::Recorded | PushResult::TooLong => commit.release_as_uncacheable(),
        }
    }

    /// Ends the recording at trailers, which are not stored. Followers of a declared length have
    /// all of it.
    fn stop_at_trailers(mut self) {
        let commit = self.commit.take();
        if self.declared == Some(self.recording.length()) {
            self.recording.finish(End::BeforeTrailers);
        }
        if let Some(commit) = commit {
            commit.release_as_uncacheable();
        }
    }
}

impl Drop for Recorder {
    /// Ends the flight before the recording, so that a follower that sees the recording fail can
    /// see why.
    fn drop(&mut self) {
        drop(self.commit.take());
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
    abandoned: oneshot::Receiver<Instant>,
    deadline: Duration,
) -> PumpEnd<R>
where
    R: Content,
{
    let timeout = async {
        // The client either says how long the recording may go on, or just drops its body.
        let until = abandoned
            .await
            .unwrap_or_else(|_dropped| Instant::now() + deadline);
        tokio::time::sleep_until(until).await;
    };
    tokio::pin!(timeout);
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
            () = &mut timeout => return PumpEnd::Abandoned,
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
            // The client gets the frame all the same.
            result => {
                recorder.give_up(&result);
                return PumpEnd::Rest(frame, frames, body);
            }
        }
    }
}

/// The steps in which memory for a body of unknown length is reserved, in bytes.
const MEMORY_STEP: u64 = 64 * 1024;
