//! A body that is recorded while it is served: one writer, many readers.

pub(crate) mod wakers;

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use crate::base::sync::{Mutex, MutexGuard};
use crate::recording::wakers::{Waiters, WakerKey};

/// The frames of a body so far, and how it ended. A slow reader never delays the writer.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// The length that the response declares. With it, followers stream the body while it grows.
    declared: Option<u64>,
    state: Mutex<RecordingState>,
}

#[derive(Debug, Default)]
struct RecordingState {
    frames: Vec<Bytes>,
    /// All frames as one. It replaces them.
    joined: Option<Bytes>,
    length: u64,
    end: Option<End>,
    /// The leader's client reads no more.
    leader_left: bool,
    /// The memory that the frames take. It is given back when an entry accounts for them, or when
    /// they are dropped.
    memory: Option<OwnedSemaphorePermit>,
    /// The tasks that wait for a frame.
    readers: Waiters,
    /// The tasks that wait for the end.
    end_waiters: Waiters,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The body ended cleanly, with the declared length.
    Complete,
    /// The recording has all the content, and trailers follow that are not recorded.
    BeforeTrailers,
    /// An error, a panic, the cap, or abandonment ended the recording. Its frames must not pass for
    /// the whole body.
    Failed,
}

/// How far one reader has read a recording.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The next frame, as long as the frames are not joined.
    next: usize,
    /// The bytes read so far, from which the reader goes on once the frames are joined.
    read: usize,
    waker_key: WakerKey,
}

/// The recording ended before the body did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incomplete;

impl Recording {
    pub(crate) fn new(declared: Option<u64>, memory: Option<OwnedSemaphorePermit>) -> Self {
        let state = RecordingState {
            memory,
            ..RecordingState::default()
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

    /// Adds a frame, and the memory that it takes beyond the memory reserved before.
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
            // The entry accounts for the memory now, and readers share it as they share any entry.
            End::Complete => (Vec::new(), state.memory.take()),
            End::BeforeTrailers => (Vec::new(), None),
            End::Failed => state.free_if_unread(),
        };
        let readers = state.readers.take();
        let end_waiters = state.end_waiters.take();
        drop(state);
        drop(freed);
        readers.wake();
        end_waiters.wake();
    }

    /// The next frame for a follower; `None` after the last. A failed recording gives followers no
    /// more frames, since they cannot get the rest.
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

    /// The next frame for the leader's client; `None` after the last, however the recording ended:
    /// the leader's body goes on with what the recording did not take.
    pub(crate) fn poll_as_leader(
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

    /// Whether the recording is complete and this reader has read all of it.
    pub(crate) fn is_read(&self, reader: &Reader) -> bool {
        let state = self.lock();
        state.end == Some(End::Complete) && reader.read as u64 == state.length
    }

    /// A follower reads no more.
    pub(crate) fn leave(&self, reader: &mut Reader) {
        let left = self.lock().readers.leave(&mut reader.waker_key);
        drop(left);
    }

    /// The leader's client reads no more.
    pub(crate) fn leave_as_leader(&self, reader: &mut Reader) {
        let mut state = self.lock();
        let left = state.readers.leave(&mut reader.waker_key);
        state.leader_left = true;
        let freed = match state.end {
            Some(End::Failed) => state.free(),
            _ => (Vec::new(), None),
        };
        drop(state);
        drop((left, freed));
    }

    /// The whole body once it is complete.
    pub(crate) async fn whole(&self) -> Result<Bytes, Incomplete> {
        let mut waiter = EndWaiter {
            recording: self,
            waker_key: WakerKey::default(),
        };
        match std::future::poll_fn(|context| waiter.poll(context)).await {
            End::Complete | End::BeforeTrailers => Ok(self.join()),
            End::Failed => Err(Incomplete),
        }
    }

    /// All frames so far as one, which replaces them. The frames are copied once, outside the
    /// lock, so that neither the writer nor a reader waits for the copy.
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

    fn lock(&self) -> MutexGuard<'_, RecordingState> {
        self.state.lock()
    }
}

impl RecordingState {
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
        self.readers.enter(&mut reader.waker_key, context);
        Poll::Pending
    }

    /// Drops the frame that was read last. Only the leader's client reads a failed recording on,
    /// so nobody needs the frame any more.
    fn forget_read(&mut self, reader: &Reader) {
        let last = reader.next.checked_sub(1);
        if let Some(frame) = last.and_then(|last| self.frames.get_mut(last)) {
            *frame = Bytes::new();
        }
    }

    fn free_if_unread(&mut self) -> (Vec<Bytes>, Option<OwnedSemaphorePermit>) {
        if self.leader_left {
            self.free()
        } else {
            (Vec::new(), None)
        }
    }

    /// Takes the frames and their memory. The caller drops them once it has released the lock.
    fn free(&mut self) -> (Vec<Bytes>, Option<OwnedSemaphorePermit>) {
        self.joined = None;
        (std::mem::take(&mut self.frames), self.memory.take())
    }
}

/// A task that waits for the end. Its waker is removed when it is dropped.
struct EndWaiter<'a> {
    recording: &'a Recording,
    waker_key: WakerKey,
}

impl EndWaiter<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<End> {
        let mut state = self.recording.lock();
        if let Some(end) = state.end {
            return Poll::Ready(end);
        }
        state.end_waiters.enter(&mut self.waker_key, context);
        Poll::Pending
    }
}

impl Drop for EndWaiter<'_> {
    fn drop(&mut self) {
        let left = self.recording.lock().end_waiters.leave(&mut self.waker_key);
        drop(left);
    }
}

/// Frames as one, in memory of its own.
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

/// The same bytes in an allocation that is not much longer than they are.
fn compact(bytes: Bytes) -> Bytes {
    to_send_and_to_keep(bytes).1
}

/// A body twice: as the handler gave it, to be sent, and in an allocation that is not much longer
/// than the body, to be kept.
///
/// A serializer may leave as much unused room as it wrote, and the frames that an HTTP client
/// reads at once are parts of one allocation, which a kept part would keep alive. A long shared
/// frame is not copied: its allocation is not much longer, or the application keeps it anyway.
pub(crate) fn to_send_and_to_keep(bytes: Bytes) -> (Bytes, Bytes) {
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
    let kept = if is_compact {
        sent.clone()
    } else {
        Bytes::copy_from_slice(&sent)
    };
    (sent, kept)
}

/// Shared frames below this length, in bytes, are copied: copying so little takes no longer than
/// the allocation for it.
const COPIED_IF_SHARED: usize = 4096;
