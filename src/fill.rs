//! One response being recorded while it is served; committed or discarded.
//!
//! A body that is complete in its first frame is stored at once. Any other is read by a task
//! of its own, as fast as the handler gives it, into a [`Recording`] from which its client
//! and the followers read each at their own pace: neither a slow client nor one that goes
//! away holds anybody up. An entry is committed only after a clean end of the declared
//! length; anything else, `Drop` included, means "not stored".

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;

use crate::body::BodyError;
use crate::cache::Cache;
use crate::entry::Entry;
use crate::flight::{Leader, Offer, Uncacheable};
use crate::key::Key;
use crate::recording::{End, Reader, Recording};
use crate::store::Stored;
use crate::task;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a complete response goes, and who is told. Dropped, the fill has failed.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(crate) cache: Cache,
    pub(crate) base: Key,
    pub(crate) offer: Arc<Offer>,
    /// `None` when nobody could wait for this response.
    pub(crate) leader: Option<Leader>,
}

impl Landing {
    /// Stores the entry, then ends the flight: no request falls between the two.
    pub(crate) fn commit(self, body: Bytes) -> (Arc<Entry>, Stored) {
        let Self {
            cache,
            base,
            offer,
            leader,
        } = self;
        let entry = Arc::new(Entry {
            head: Arc::clone(&offer.head),
            body,
        });
        let now = cache.now();
        let stored = cache
            .tiers()
            .store_response(&base, &offer.fields, Arc::clone(&entry), now);
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
}

/// What the first look at a body found.
pub(crate) enum Gathered<R: Body> {
    /// All of it.
    Whole(Bytes),
    /// The beginning, or an error, or nothing yet.
    Begun(Pin<Box<R>>, Option<Result<Frame<Bytes>, R::Error>>),
}

/// Looks at a body once, without waiting.
pub(crate) async fn gather<R: Body<Data = Bytes>>(body: R) -> Gathered<R> {
    if body.is_end_stream() {
        return Gathered::Whole(Bytes::new());
    }
    let mut body = Box::pin(body);
    let first = std::future::poll_fn(|context| {
        Poll::Ready(match body.as_mut().poll_frame(context) {
            Poll::Ready(Some(frame)) => First::Frame(frame),
            Poll::Ready(None) => First::End,
            Poll::Pending => First::Nothing,
        })
    });
    match first.await {
        First::End => Gathered::Whole(Bytes::new()),
        First::Nothing => Gathered::Begun(body, None),
        First::Frame(Ok(frame)) if frame.is_data() && body.is_end_stream() => {
            Gathered::Whole(frame.into_data().unwrap_or_default())
        }
        First::Frame(frame) => Gathered::Begun(body, Some(frame)),
    }
}

enum First<E> {
    Frame(Result<Frame<Bytes>, E>),
    End,
    Nothing,
}

/// A fill that is about to begin.
pub(crate) struct Plan {
    pub(crate) landing: Landing,
    /// `Content-Length`, or the exact size hint.
    pub(crate) declared: Option<u64>,
    pub(crate) max_body: u64,
    /// How long the fill goes on when its own client has gone.
    pub(crate) deadline: Duration,
    /// This fill's part of the memory that all fills share.
    pub(crate) budget: OwnedSemaphorePermit,
}

impl Plan {
    /// Starts to record `body`; what its own client is to read. Without a runtime to record in,
    /// the error is the body to pass on unrecorded.
    pub(crate) fn start<R>(
        self,
        body: Pin<Box<R>>,
        first: Option<Result<Frame<Bytes>, R::Error>>,
    ) -> Result<Led<R>, Led<R>>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError> + Send,
    {
        if !task::is_possible() {
            return Err(Led::unrecorded(body, first));
        }
        let recording = Arc::new(Recording::new(self.declared));
        if let Some(leader) = &self.landing.leader {
            leader.share(Arc::clone(&self.landing.offer), Arc::clone(&recording));
        }
        let (here, gone) = oneshot::channel();
        let hint = body.size_hint();
        let carried = first.as_ref().and_then(|frame| frame.as_ref().ok());
        let carried = carried
            .and_then(Frame::data_ref)
            .map_or(0, |data| data.len() as u64);
        let recorder = Recorder {
            recording: Arc::clone(&recording),
            declared: self.declared,
            max_body: self.max_body,
            landing: Some(self.landing),
            _budget: self.budget,
        };
        let first = first.map(|frame| frame.map_err(Into::into));
        let pump = task::spawn_joinable(pump(body, first, recorder, gone, self.deadline));
        Ok(Led {
            recording,
            reader: Reader::default(),
            lower: hint.lower().saturating_add(carried),
            upper: hint.upper().map(|upper| upper.saturating_add(carried)),
            state: LedState::Recording { pump, _here: here },
        })
    }
}

/// The writing end of a recording. Dropped before the end, the recording has failed.
struct Recorder {
    recording: Arc<Recording>,
    declared: Option<u64>,
    max_body: u64,
    landing: Option<Landing>,
    _budget: OwnedSemaphorePermit,
}

impl Recorder {
    /// Records a frame, unless that makes too much of it: the cap, or more than was declared.
    fn push(&mut self, data: &Bytes) -> Room {
        let length = self.recording.length() + data.len() as u64;
        if length > self.max_body || self.declared.is_some_and(|declared| length > declared) {
            return Room::None;
        }
        self.recording.push(data.clone());
        Room::Left
    }

    /// The body ended cleanly; it is whole if it has the declared length.
    fn end(mut self) {
        let length = self.recording.length();
        let whole = self.declared.is_none_or(|declared| declared == length);
        if let Some(landing) = self.landing.take()
            && whole
        {
            landing.commit(self.recording.joined());
            self.recording.finish(End::Complete);
        }
    }

    /// Followers that read already must see a broken transfer; the others go on their own.
    fn give_up(mut self) {
        if let Some(landing) = self.landing.take() {
            landing.give_up();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.recording.finish(End::Failed);
    }
}

enum Room {
    Left,
    None,
}

/// How the recording of a body ended, for its own client to go on from.
enum Ending<R> {
    /// Everything is in the recording.
    Recorded,
    /// The rest does not belong in it: this frame, then what the body still has.
    Rest(Frame<Bytes>, Pin<Box<R>>),
    /// The body failed.
    Failed(BoxError),
    /// Nobody was left to wait for it.
    Abandoned,
}

/// Reads a body into its recording, as fast as the handler gives it.
async fn pump<R>(
    mut body: Pin<Box<R>>,
    mut first: Option<Result<Frame<Bytes>, BoxError>>,
    mut recorder: Recorder,
    gone: oneshot::Receiver<Infallible>,
    deadline: Duration,
) -> Ending<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let abandoned = async {
        let _closed = gone.await;
        tokio::time::sleep(deadline).await;
    };
    tokio::pin!(abandoned);
    loop {
        let next = async {
            match first.take() {
                Some(frame) => Some(frame),
                None => std::future::poll_fn(|context| body.as_mut().poll_frame(context))
                    .await
                    .map(|frame| frame.map_err(Into::into)),
            }
        };
        let frame = tokio::select! {
            biased;
            frame = next => frame,
            () = &mut abandoned => return Ending::Abandoned,
        };
        let frame = match frame {
            None => {
                recorder.end();
                return Ending::Recorded;
            }
            Some(Err(error)) => return Ending::Failed(error),
            Some(Ok(frame)) => frame,
        };
        match frame.data_ref().map(|data| recorder.push(data)) {
            Some(Room::Left) => {}
            // Over the cap, or trailers, which are not stored: the client gets them all the same.
            Some(Room::None) | None => {
                recorder.give_up();
                return Ending::Rest(frame, body);
            }
        }
    }
}

/// What the client of the recorded response reads.
pub(crate) struct Led<R> {
    recording: Arc<Recording>,
    reader: Reader,
    lower: u64,
    upper: Option<u64>,
    state: LedState<R>,
}

enum LedState<R> {
    Recording {
        pump: JoinHandle<Ending<R>>,
        /// Dropped with this body: the pump then has a deadline.
        _here: oneshot::Sender<Infallible>,
    },
    /// The recording ended early: the frames it had are read, then the rest from the body itself.
    Passing(Option<Result<Frame<Bytes>, BodyError>>, Pin<Box<R>>),
    Ended,
}

impl<R> Led<R>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    fn unrecorded(body: Pin<Box<R>>, first: Option<Result<Frame<Bytes>, R::Error>>) -> Self {
        let hint = body.size_hint();
        Self {
            recording: Arc::default(),
            reader: Reader::default(),
            lower: hint.lower(),
            upper: None,
            state: LedState::Passing(
                first.map(|frame| frame.map_err(BodyError::from_handler)),
                body,
            ),
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_any(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let length = data.len() as u64;
            self.lower = self.lower.saturating_sub(length);
            self.upper = self.upper.map(|upper| upper.saturating_sub(length));
        }
        Poll::Ready(frame)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.state {
            LedState::Recording { .. } => false,
            LedState::Passing(next, body) => next.is_none() && body.is_end_stream(),
            LedState::Ended => true,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.lower.min(self.upper.unwrap_or(u64::MAX)));
        if let Some(upper) = self.upper {
            hint.set_upper(upper);
        }
        hint
    }

    fn poll_any(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match &mut self.state {
                LedState::Ended => return Poll::Ready(None),
                LedState::Passing(next, body) => {
                    if let Some(frame) = next.take() {
                        return Poll::Ready(Some(frame));
                    }
                    let frame = ready!(body.as_mut().poll_frame(context));
                    return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from_handler)));
                }
                LedState::Recording { pump, .. } => {
                    // Frames first: the pump's own end comes after the last of them.
                    match self.recording.poll_own(&mut self.reader, context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                        Poll::Ready(None) => {}
                    }
                    let ending = match ready!(Pin::new(pump).poll(context)) {
                        Ok(ending) => ending,
                        Err(error) if error.is_panic() => {
                            std::panic::resume_unwind(error.into_panic())
                        }
                        Err(_cancelled) => Ending::Abandoned,
                    };
                    self.state = LedState::Ended;
                    match ending {
                        Ending::Recorded => return Poll::Ready(None),
                        Ending::Rest(frame, body) => {
                            self.state = LedState::Passing(Some(Ok(frame)), body);
                        }
                        Ending::Failed(error) => {
                            return Poll::Ready(Some(Err(BodyError::from_handler(error))));
                        }
                        Ending::Abandoned => {
                            return Poll::Ready(Some(Err(BodyError::incomplete())));
                        }
                    }
                }
            }
        }
    }
}
