//! One response being recorded while it is served; committed or discarded.
//!
//! A body that is complete in its first frames is stored at once. Any other is read by a task
//! of its own, as fast as the handler gives it, into a [`Recording`] from which its client
//! and the followers read each at their own pace: neither a slow client nor one that goes
//! away holds anybody up. An entry is committed only after a clean end of the declared
//! length; anything else, `Drop` included, means "not stored".

mod recorder;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame};

#[cfg(all(test, shuttle))]
pub(crate) use recorder::PushResult;
pub(crate) use recorder::{Fill, Recorded};

use crate::base::clock::Timestamp;
use crate::cache::Cache;
use crate::entry::{Entry, Head};
use crate::flight::{Credentials, Leader, Uncacheable};
use crate::key::{Key, Traces};
use crate::purge::Validity;
use crate::recording::concatenate;
use crate::store::Stored;

/// The head of a response that is to be stored.
#[derive(Debug)]
pub(crate) struct NewEntry {
    pub(crate) head: Head,
    /// What the response varies on.
    pub(crate) fields: Arc<[HeaderName]>,
}

/// Where a complete response goes, and who is told. Dropped, the fill has failed.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) cache: Cache,
    pub(crate) base: Key,
    pub(crate) traces: Option<Traces>,
    pub(crate) credentials: Credentials,
    /// `None` when nobody could wait for this response.
    pub(crate) leader: Option<Leader>,
    /// Whether a 200 without an `ETag` gets one of its content's digest.
    pub(crate) auto_etag: bool,
}

impl Commit {
    /// Stores the entry, then ends the flight: no request falls between the two. Without memory
    /// the flight stands for the entry until the shared store has it.
    pub(crate) fn commit(
        self,
        new_entry: NewEntry,
        body: Bytes,
        now: Timestamp,
    ) -> (Arc<Entry>, Stored) {
        let Self {
            cache,
            base,
            traces,
            credentials,
            mut leader,
            auto_etag,
        } = self;
        let NewEntry { mut head, fields } = new_entry;
        if auto_etag && let Some(tagged) = head.with_etag_of(&body) {
            head = tagged;
        }
        let entry = Arc::new(Entry { head, body });
        // Purged while it was fetched: it would only stand in the way of a newer one.
        if cache.validity(&entry.head, now) == Validity::Purged {
            return (entry, Stored::Purged);
        }
        cache.flights().unmark(&base, credentials);
        cache.flights().unmark(&entry.head.key, credentials);
        let tiers = cache.tiers();
        let lease = leader.as_mut().and_then(Leader::take_lease);
        let mut until_written = (lease, None);
        if tiers.memory().is_off()
            && let Some(leader) = leader.take()
        {
            leader.land(Arc::clone(&entry), Arc::clone(&fields));
            until_written.1 = Some(leader);
        }
        let stored = tiers.store_response(
            &base,
            &fields,
            traces.as_ref(),
            Arc::clone(&entry),
            now,
            until_written,
        );
        if let Some(leader) = leader {
            leader.land_stored(&entry, fields);
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
pub(crate) enum Peeked<R: Body> {
    /// All of it.
    Whole(Bytes),
    /// The beginning, or an error, or nothing yet.
    Begun(Pin<Box<R>>, VecDeque<Result<Frame<Bytes>, R::Error>>),
}

/// Looks at a body without waiting: most are complete, or nearly, once their head is there.
///
/// Nobody is woken for what is not: whoever takes the body over polls it anew.
pub(crate) fn peek<R: Body<Data = Bytes>>(body: R) -> Peeked<R> {
    if body.is_end_stream() {
        return Peeked::Whole(Bytes::new());
    }
    let mut body = Box::pin(body);
    let mut data: Vec<Bytes> = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    let rest = loop {
        let frame = match body.as_mut().poll_frame(&mut context) {
            Poll::Pending => break None,
            Poll::Ready(None) => return Peeked::Whole(concatenate(data)),
            Poll::Ready(Some(frame)) => frame,
        };
        match frame.map(Frame::into_data) {
            Ok(Ok(bytes)) if body.is_end_stream() && data.is_empty() => {
                return Peeked::Whole(bytes);
            }
            Ok(Ok(bytes)) => data.push(bytes),
            Ok(Err(other)) => break Some(Ok(other)),
            Err(error) => break Some(Err(error)),
        }
        if body.is_end_stream() {
            return Peeked::Whole(concatenate(data));
        }
        if data.len() == FRAMES_GATHERED {
            break None;
        }
    };
    let data = data.into_iter().map(|bytes| Ok(Frame::data(bytes)));
    Peeked::Begun(body, data.chain(rest).collect())
}

/// How many frames are looked at before a body is recorded by a task of its own.
const FRAMES_GATHERED: usize = 4;
