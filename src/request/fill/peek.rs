//! The first look at a body.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::recording::concatenate;

/// What the first look at a body found.
pub(crate) enum Peeked<R: Body> {
    /// The whole body.
    Whole(Bytes),
    /// The body, and the frames taken from it so far, of which the last may be an error.
    Begun(Pin<Box<R>>, VecDeque<Result<Frame<Bytes>, R::Error>>),
}

/// Polls a body without waiting for it. Most bodies are complete, or nearly, once their head is
/// there.
///
/// The body keeps no waker from this: its next reader polls it anew.
pub(crate) fn peek<R: Body<Data = Bytes>>(body: R) -> Peeked<R> {
    if body.is_end_stream() {
        return Peeked::Whole(Bytes::new());
    }
    let mut body = Box::pin(body);
    let mut data: Vec<Bytes> = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    let last = loop {
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
        if data.len() == FRAMES_PEEKED {
            break None;
        }
    };
    let data = data.into_iter().map(|bytes| Ok(Frame::data(bytes)));
    Peeked::Begun(body, data.chain(last).collect())
}

/// How many frames are taken before a task of its own records the body.
const FRAMES_PEEKED: usize = 4;
