//! One response being recorded while it is served; committed or discarded.
//!
//! A body that is complete in its first frames is stored at once. Any other is read by a task
//! of its own, as fast as the handler gives it, into a [`Recording`] from which its client
//! and the followers read each at their own pace: neither a slow client nor one that goes
//! away holds anybody up. An entry is committed only after a clean end of the declared
//! length; anything else, `Drop` included, means "not stored".

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::body::BodyError;
use crate::cache::Cache;
use crate::entry::Entry;
use crate::flight::{Leader, Offer, Requester, Uncacheable};
use crate::key::Key;
use crate::purge::Validity;
use crate::recording::{End, Reader, Recording, concatenate};
use crate::store::Stored;
use crate::task;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a complete response goes, and who is told. Dropped, the fill has failed.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(crate) cache: Cache,
    pub(crate) base: Key,
    pub(crate) requester: Requester,
    pub(crate) offer: Arc<Offer>,
    /// `None` when nobody could wait for this response.
    pub(crate) leader: Option<Leader>,
    /// Whether a 200 without an `ETag` gets one of its content's digest.
    pub(crate) auto_etag: bool,
}

impl Landing {
    /// Stores the entry, then ends the flight: no request falls between the two. Without memory
    /// the flight stands for the entry until the shared store has it.
    pub(crate) fn commit(self, body: Bytes) -> (Arc<Entry>, Stored) {
        let Self {
            cache,
            base,
            requester,
            mut offer,
            mut leader,
            auto_etag,
        } = self;
        if auto_etag && let Some(head) = offer.head.with_etag_of(&body) {
            offer = Arc::new(Offer {
                head: Arc::new(head),
                fields: offer.fields.clone(),
            });
        }
        let entry = Arc::new(Entry {
            head: Arc::clone(&offer.head),
            body,
        });
        let now = cache.now();
        // Purged while it was fetched: it would only stand in the way of a newer one.
        if cache.validity(&offer.head, now) == Validity::Purged {
            return (entry, Stored::Purged);
        }
        cache.flights().unmark(&base, requester);
        cache.flights().unmark(&offer.head.key, requester);
        let tiers = cache.tiers();
        let lease = leader.as_mut().and_then(Leader::take_lease);
        let mut until_written = (lease, None);
        if tiers.memory().is_off()
            && let Some(leader) = leader.take()
        {
            leader.land(Arc::clone(&offer), entry.body.clone());
            until_written.1 = Some(leader);
        }
        let stored =
            tiers.store_response(&base, &offer.fields, Arc::clone(&entry), now, until_written);
        if let Some(leader) = leader {
            leader.land(offer, entry.body.clone());
        }
        (entry, stored)
    }

    /// Gives up: what came is not to be stored, nor will the next one be.
    fn give_up(self) {
        let now = self.cache.now();
        if let Some(leader) = self.leader {
            leader.release_and_mark(Uncacheable::ForAll, now);
        }
    }

    /// Gives up for lack of memory, which says nothing of the next time.
    fn give_way(self) {
        if let Some(leader) = self.leader {
            leader.release();
        }
    }
}

/// What the first look at a body found.
pub(crate) enum Gathered<R: Body> {
    /// All of it.
    Whole(Bytes),
    /// The beginning, or an error, or nothing yet.
    Begun(Pin<Box<R>>, VecDeque<Result<Frame<Bytes>, R::Error>>),
}

/// Looks at a body without waiting: most are complete, or nearly, once their head is there.
pub(crate) async fn gather<R: Body<Data = Bytes>>(body: R) -> Gathered<R> {
    if body.is_end_stream() {
        return Gathered::Whole(Bytes::new());
    }
    let mut body = Box::pin(body);
    let mut frames = VecDeque::new();
    let seen = std::future::poll_fn(|context| Poll::Ready(look(&mut body, &mut frames, context)));
    match seen.await {
        Seen::All => {
            let data = frames.into_iter().filter_map(Result::ok);
            let data: Vec<Bytes> = data.filter_map(|frame| frame.into_data().ok()).collect();
            Gathered::Whole(concatenate(&data))
        }
        Seen::Some => Gathered::Begun(body, frames),
    }
}

enum Seen {
    All,
    Some,
}

fn look<R: Body<Data = Bytes>>(
    body: &mut Pin<Box<R>>,
    frames: &mut VecDeque<Result<Frame<Bytes>, R::Error>>,
    context: &mut Context<'_>,
) -> Seen {
    for _ in 0..FRAMES_GATHERED {
        match body.as_mut().poll_frame(context) {
            Poll::Pending => return Seen::Some,
            Poll::Ready(None) => return Seen::All,
            Poll::Ready(Some(frame)) => {
                let is_data = frame.as_ref().is_ok_and(Frame::is_data);
                frames.push_back(frame);
                if !is_data {
                    return Seen::Some;
                }
            }
        }
        if body.is_end_stream() {
            return Seen::All;
        }
    }
    Seen::Some
}

/// Whether a body is being recorded, or why not.
pub(crate) enum Recorded {
    Yes,
    No(&'static str),
}

/// A fill that is about to begin.
pub(crate) struct Plan {
    pub(crate) landing: Landing,
    /// `Content-Length`, or the exact size hint.
    pub(crate) declared: Option<u64>,
    pub(crate) max_body: u64,
    /// How long the fill goes on when its own client has gone.
    pub(crate) deadline: Duration,
}

impl Plan {
    /// Starts to record `body`, if there is a runtime to record in, and the memory; what its own
    /// client is to read either way.
    pub(crate) fn start<R>(
        self,
        body: Pin<Box<R>>,
        frames: VecDeque<Result<Frame<Bytes>, R::Error>>,
    ) -> (Led<R>, Recorded)
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError> + Send,
    {
        if !task::is_possible() {
            return (Led::unrecorded(body, frames), Recorded::No("no-runtime"));
        }
        // Followers of a declared length may read at once, so there must be room for all of it.
        let reserved = self.declared.unwrap_or(0);
        let memory = match reserved {
            0 => None,
            bytes => match self.landing.cache.fill_budget(bytes) {
                Some(memory) => Some(memory),
                None => {
                    self.landing.give_way();
                    let led = Led::unrecorded(body, frames);
                    return (led, Recorded::No("fill-budget"));
                }
            },
        };
        let recording = Arc::new(Recording::new(self.declared, memory));
        let (here, gone) = oneshot::channel();
        let left = Left::of(&body, &frames);
        let deadline = self.deadline;
        let recorder = self.recorder(&recording, reserved);
        let frames = frames.into_iter().map(|frame| frame.map_err(Into::into));
        let pump = pump(body, frames.collect(), recorder, gone, deadline);
        let pump = task::spawn_joinable(pump.in_current_span());
        let led = Led {
            recording,
            reader: Reader::default(),
            left,
            state: LedState::Recording {
                pump,
                here: Some(here),
            },
        };
        (led, Recorded::Yes)
    }
}

impl Plan {
    /// The followers may have the recording from here on.
    pub(crate) fn recorder(self, recording: &Arc<Recording>, reserved: u64) -> Recorder {
        if let Some(leader) = &self.landing.leader {
            leader.share(Arc::clone(&self.landing.offer), Arc::clone(recording));
        }
        Recorder {
            recording: Arc::clone(recording),
            declared: self.declared,
            max_body: self.max_body,
            reserved,
            landing: Some(self.landing),
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
    landing: Option<Landing>,
}

impl Recorder {
    /// Records a frame, unless that makes too much of it: the cap, more than was declared, or than
    /// there is memory for.
    pub(crate) fn push(&mut self, data: &Bytes) -> Room {
        let length = self.recording.length().saturating_add(data.len() as u64);
        if length > self.max_body || self.declared.is_some_and(|declared| length > declared) {
            return Room::TooLong;
        }
        let Ok(memory) = self.reserve(length) else {
            return Room::NoMemory;
        };
        self.recording.push(data.clone(), memory);
        Room::Left
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
            landing.commit(self.recording.join());
            self.recording.finish(End::Complete);
        }
    }

    /// Followers that read already must see a broken transfer; the others go on their own.
    pub(crate) fn give_up(mut self, room: &Room) {
        let Some(landing) = self.landing.take() else {
            return;
        };
        match room {
            Room::NoMemory => landing.give_way(),
            Room::Left | Room::TooLong => landing.give_up(),
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
pub(crate) enum Room {
    Left,
    TooLong,
    NoMemory,
}

struct NoMemory;

/// How the recording of a body ended, for its own client to go on from.
enum Ending<R> {
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

/// Reads a body into its recording, as fast as the handler gives it.
async fn pump<R>(
    mut body: Pin<Box<R>>,
    mut frames: VecDeque<Result<Frame<Bytes>, BoxError>>,
    mut recorder: Recorder,
    gone: oneshot::Receiver<Instant>,
    deadline: Duration,
) -> Ending<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
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
            () = &mut abandoned => return Ending::Abandoned,
            frame = next => frame,
        };
        let frame = match frame {
            None => {
                recorder.end();
                return Ending::Recorded;
            }
            Some(Err(error)) => return Ending::Failed(error),
            Some(Ok(frame)) => frame,
        };
        let Some(data) = frame.data_ref() else {
            recorder.stop_at_trailers();
            return Ending::Rest(frame, frames, body);
        };
        match recorder.push(data) {
            Room::Left => {}
            // The client gets it all the same.
            room => {
                recorder.give_up(&room);
                return Ending::Rest(frame, frames, body);
            }
        }
    }
}

/// What the client of the recorded response reads.
pub(crate) struct Led<R> {
    recording: Arc<Recording>,
    reader: Reader,
    left: Left,
    state: LedState<R>,
}

enum LedState<R> {
    Recording {
        pump: JoinHandle<Ending<R>>,
        /// Dropped with this body: the pump then has a deadline. Or told which.
        here: Option<oneshot::Sender<Instant>>,
    },
    /// The recording ended early: the frames it had are read, then these, then the rest from the
    /// body itself.
    Passing(VecDeque<Result<Frame<Bytes>, BodyError>>, Pin<Box<R>>),
    Ended,
}

/// How much is still to come, as far as the body itself can tell.
#[derive(Clone, Copy, Debug)]
struct Left {
    lower: u64,
    upper: Option<u64>,
}

impl Left {
    /// What `body` says, and the frames that were taken from it already.
    fn of<R: Body<Data = Bytes>>(
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

impl<R> Led<R> {
    /// Its client is gone, and the fill has until then to finish.
    pub(crate) fn leave(mut self, until: Instant) {
        if let LedState::Recording { here, .. } = &mut self.state
            && let Some(here) = here.take()
        {
            let _ended_already = here.send(until);
        }
    }
}

impl<R> Drop for Led<R> {
    fn drop(&mut self) {
        self.recording.leave_own(&mut self.reader);
    }
}

impl<R> Led<R>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    fn unrecorded(body: Pin<Box<R>>, frames: VecDeque<Result<Frame<Bytes>, R::Error>>) -> Self {
        let left = Left::of(&body, &frames);
        let frames = frames
            .into_iter()
            .map(|frame| frame.map_err(BodyError::from_handler));
        Self {
            recording: Arc::default(),
            reader: Reader::default(),
            left,
            state: LedState::Passing(frames.collect(), body),
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
            Some(Err(_)) | None => self.state = LedState::Ended,
        }
        Poll::Ready(frame)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.state {
            LedState::Recording { .. } => self.recording.is_read(&self.reader),
            LedState::Passing(frames, body) => frames.is_empty() && body.is_end_stream(),
            LedState::Ended => true,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.state {
            LedState::Ended => SizeHint::with_exact(0),
            LedState::Recording { .. } | LedState::Passing(..) => self.left.hint(),
        }
    }

    fn poll_any(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match &mut self.state {
                LedState::Ended => return Poll::Ready(None),
                LedState::Passing(frames, body) => {
                    if let Some(frame) = frames.pop_front() {
                        return Poll::Ready(Some(frame));
                    }
                    let frame = ready!(body.as_mut().poll_frame(context));
                    return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from_handler)));
                }
                LedState::Recording { pump, .. } => {
                    // Frames first: the pump's own end comes after the last of them.
                    if let Some(data) = ready!(self.recording.poll_own(&mut self.reader, context)) {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    let ending = ready!(Pin::new(pump).poll(context));
                    self.state = LedState::Ended;
                    match ending {
                        Ok(Ending::Recorded) => return Poll::Ready(None),
                        Ok(Ending::Rest(frame, frames, body)) => {
                            self.state = rest(frame, frames, body);
                        }
                        Ok(Ending::Failed(error)) => {
                            return Poll::Ready(Some(Err(BodyError::from_handler(error))));
                        }
                        Err(error) if error.is_panic() => {
                            std::panic::resume_unwind(error.into_panic())
                        }
                        Ok(Ending::Abandoned) | Err(_) => {
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
) -> LedState<R> {
    let frames = frames
        .into_iter()
        .map(|frame| frame.map_err(BodyError::from_handler));
    LedState::Passing(std::iter::once(Ok(frame)).chain(frames).collect(), body)
}

/// How many frames are looked at before a body is recorded by a task of its own.
const FRAMES_GATHERED: usize = 4;

/// Memory for a body of unknown length is taken in such steps, in bytes.
const MEMORY_STEP: u64 = 64 * 1024;
