//! The body of a response that another request's fetch is recording.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use crate::recording::{Incomplete, Reader, Recording};
use crate::response::error::BodyError;

/// A recording of known length, read while it grows.
#[derive(Debug)]
pub(crate) struct FollowerBody {
    recording: Arc<Recording>,
    reader: Reader,
    remaining: u64,
}

impl FollowerBody {
    pub(crate) fn new(recording: Arc<Recording>, length: u64) -> Self {
        Self {
            recording,
            reader: Reader::default(),
            remaining: length,
        }
    }

    /// How many bytes are still to be read.
    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    pub(crate) fn poll_frame(
        &mut self,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The declared length has been read, so the way in which the recording ends does not
        // matter any more.
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        match ready!(self.recording.poll_frame(&mut self.reader, context)) {
            Some(Ok(data)) => {
                self.remaining = self.remaining.saturating_sub(data.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(Incomplete)) | None => {
                self.remaining = 0;
                Poll::Ready(Some(Err(BodyError::incomplete())))
            }
        }
    }
}

impl Drop for FollowerBody {
    fn drop(&mut self) {
        self.recording.leave(&mut self.reader);
    }
}
