//! A body that is recorded while it is served: written by one, read by many.

pub(crate) mod wakers;

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use crate::base::sync::{Mutex, MutexGuard};
use crate::recording::wakers::{Waiters, WakerKey};

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
    /// All frames as one, which then stands in their place.
    joined: Option<Bytes>,
    length: u64,
    end: Option<End>,
    /// The client whose response is recorded reads no more.
    own_client_left: bool,
    /// The memory that the frames take, until an entry accounts for it, or they are gone.
    memory: Option<OwnedSemaphorePermit>,
    /// Those who wait for a frame.
    readers: Waiters,
    /// Those who wait for the end.
    whole: Waiters,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Cleanly, with the length that was declared.
    Complete,
    /// All the content is here, and trailers follow that are not recorded.
    BeforeTrailers,
    /// By an error, a panic, the cap, or abandonment: what there is must not pass for the whole.
    Failed,
}

/// A reader's place in a recording.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The next frame, and the bytes before it: frames may be joined at any time.
    next: usize,
    read: usize,
    place: WakerKey,
}

/// The recording ended before the body did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incomplete;

impl Recording {
    pub(crate) fn new(declared: Option<u64>, memory: Option<OwnedSemaphorePermit>) -> Self {
        let state = State {
            memory,
            ..State::default()
        };
        Self {
            declared,
            state: Mutex::new(state),
        }
    }

    pub(crate) const fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// The length recorded so far.
    pub(crate) fn length(&self) -> u64 {
        self.lock().length
    }

    /// Adds a frame, and the memory that it takes beyond what is reserved already.
    pub(crate) fn push(&self, frame: Bytes, memory: Option<OwnedSemaphorePermit>) {
        let mut state = self.lock();
        state.length += frame.len() as u64;
        state.frames.push(frame);
        match (&mut state.memory, memory) {
            (Some(held), Some(more)) => held.merge(more),
            (held @ None, more) => *held = more,
            (Some(_), None) => {}
        }
        let wakers = state.readers.take();
        drop(state);
        wakers.wake();
    }

    /// Ends the recording. The first end stands.
    pub(crate) fn finish(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        let freed = match end {
            // The entry accounts for it, and readers share it as they share any entry.
            End::Complete => (Vec::new(), state.memory.take()),
            End::BeforeTrailers => (Vec::new(), None),
            End::Failed => state.free_if_useless(),
        };
        let readers = state.readers.take();
        let whole = state.whole.take();
        drop(state);
        drop(freed);
        readers.wake();
        whole.wake();
    }

    /// The next frame for a follower; `None` after the last. Nothing of a failed recording.
    pub(crate) fn poll_frame(
        &self,
        reader: &mut Reader,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Bytes, Incomplete>>> {
        let mut state = self.lock();
        if state.end == Some(End::Failed) {
            return Poll::Ready(Some(Err(Incomplete)));
        }
        if let Some(frame) = state.read(reader) {
            return Poll::Ready(Some(Ok(frame)));
        }
        state.wait_for_frame(reader, context).map(|()| None)
    }

    /// The next frame for the client whose response is recorded; `None` after the last, however
    /// the recording ended: that client's body goes on by itself.
    pub(crate) fn poll_own(
        &self,
        reader: &mut Reader,
        context: &Context<'_>,
    ) -> Poll<Option<Bytes>> {
        let mut state = self.lock();
        if let Some(frame) = state.read(reader) {
            if state.end == Some(End::Failed) {
                state.forget_read(reader);
            }
            return Poll::Ready(Some(frame));
        }
        if state.end == Some(End::Failed) {
            let freed = state.free();
            drop(state);
            drop(freed);
            return Poll::Ready(None);
        }
        state.wait_for_frame(reader, context).map(|()| None)
    }

    /// Whether there is nothing more to come for this reader.
    pub(crate) fn is_read(&self, reader: &Reader) -> bool {
        let state = self.lock();
        state.end == Some(End::Complete) && reader.read as u64 == state.length
    }

    /// A follower reads no more.
    pub(crate) fn leave(&self, reader: &mut Reader) {
        let left = self.lock().readers.leave(&mut reader.place);
        drop(left);
    }

    /// The client whose response is recorded reads no more.
    pub(crate) fn leave_own(&self, reader: &mut Reader) {
        let mut state = self.lock();
        let left = state.readers.leave(&mut reader.place);
        state.own_client_left = true;
        let freed = match state.end {
            Some(End::Failed) => state.free(),
            _ => (Vec::new(), None),
        };
        drop(state);
        drop((left, freed));
    }

    /// The whole body once it is complete.
    pub(crate) async fn whole(&self) -> Result<Bytes, Incomplete> {
        let mut waiting = WaitingForTheEnd {
            recording: self,
            place: WakerKey::default(),
        };
        match std::future::poll_fn(|context| waiting.poll(context)).await {
            End::Complete | End::BeforeTrailers => Ok(self.join()),
            End::Failed => Err(Incomplete),
        }
    }

    /// All frames so far as one, in whose place it then stands. They are copied once, without
    /// anyone waiting for it.
    pub(crate) fn join(&self) -> Bytes {
        let state = self.lock();
        if let Some(joined) = &state.joined {
            return joined.clone();
        }
        let frames = state.frames.clone();
        drop(state);
        let joined = concatenate(frames);
        let mut state = self.lock();
        state.joined = Some(joined.clone());
        let replaced = std::mem::take(&mut state.frames);
        drop(state);
        drop(replaced);
        joined
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn read(&self, reader: &mut Reader) -> Option<Bytes> {
        let frame = match &self.joined {
            Some(joined) if reader.read < joined.len() => joined.slice(reader.read..),
            Some(_) => return None,
            None => self.frames.get(reader.next)?.clone(),
        };
        reader.next += 1;
        reader.read += frame.len();
        Some(frame)
    }

    fn wait_for_frame(&mut self, reader: &mut Reader, context: &Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        self.readers.enter(&mut reader.place, context);
        Poll::Pending
    }

    /// Of a failed recording only its own client reads on: what it has read is of no more use.
    fn forget_read(&mut self, reader: &Reader) {
        let last = reader.next.checked_sub(1);
        if let Some(frame) = last.and_then(|last| self.frames.get_mut(last)) {
            *frame = Bytes::new();
        }
    }

    fn free_if_useless(&mut self) -> (Vec<Bytes>, Option<OwnedSemaphorePermit>) {
        if self.own_client_left {
            self.free()
        } else {
            (Vec::new(), None)
        }
    }

    /// What is to be dropped once the lock is released.
    fn free(&mut self) -> (Vec<Bytes>, Option<OwnedSemaphorePermit>) {
        self.joined = None;
        (std::mem::take(&mut self.frames), self.memory.take())
    }
}

/// One who waits for the end, and leaves no trace when it stops.
struct WaitingForTheEnd<'a> {
    recording: &'a Recording,
    place: WakerKey,
}

impl WaitingForTheEnd<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<End> {
        let mut state = self.recording.lock();
        if let Some(end) = state.end {
            return Poll::Ready(end);
        }
        state.whole.enter(&mut self.place, context);
        Poll::Pending
    }
}

impl Drop for WaitingForTheEnd<'_> {
    fn drop(&mut self) {
        let left = self.recording.lock().whole.leave(&mut self.place);
        drop(left);
    }
}

/// Frames as one, in memory of their own.
pub(crate) fn concatenate(mut frames: Vec<Bytes>) -> Bytes {
    if frames.len() <= 1 {
        return frames.pop().map_or_else(Bytes::new, compact);
    }
    let length = frames.iter().map(Bytes::len).sum();
    let mut joined = BytesMut::with_capacity(length);
    for frame in frames {
        joined.extend_from_slice(&frame);
    }
    joined.freeze()
}

/// The same bytes, with little or nothing that is kept in memory because of them.
fn compact(bytes: Bytes) -> Bytes {
    part(bytes).1
}

/// A body twice: as it came, to be sent, and to be kept, with little or nothing that is kept in
/// memory because of it. Serializers leave up to as much room behind what they write, and a
/// client's frames are parts of what it read at once. What a long frame is part of is not much
/// longer, or it is the application's own.
pub(crate) fn part(bytes: Bytes) -> (Bytes, Bytes) {
    let (sent, is_compact) = match bytes.try_into_mut() {
        Ok(own) => {
            let is_compact = own.capacity() - own.len() <= own.len() / 8;
            (own.freeze(), is_compact)
        }
        Err(shared) => {
            let is_long = shared.len() >= COPIED_IF_SHARED;
            (shared, is_long)
        }
    };
    let kept = match is_compact {
        true => sent.clone(),
        false => Bytes::copy_from_slice(&sent),
    };
    (sent, kept)
}

/// In bytes: as much as is copied in the time that it takes to get memory for it.
const COPIED_IF_SHARED: usize = 4096;
