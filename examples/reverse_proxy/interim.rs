//! Interim responses (102, 103) on a client's HTTP/1.1 connection.
//!
//! hyper's client reports the interim responses of the origin, but its server cannot send
//! any. So they are written beneath it: [`ClientStream`] puts them ahead of what hyper
//! writes next, when hyper is between two messages. HTTP/1.0 does not know them, and on
//! HTTP/2 there is no such place: those clients do without.

use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A client's connection, and the line by which the handling of requests reaches it.
pub(crate) fn connection(stream: TcpStream) -> (ClientStream, Line) {
    let line = Line::default();
    let stream = ClientStream {
        stream,
        line: line.clone(),
        writing: BytesMut::new(),
        between_messages: true,
    };
    (stream, line)
}

/// The line from the handling of requests to the connection that they came on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// How many requests have begun.
    turn: u64,
    /// Whether the last request has no final response yet.
    waiting: bool,
    /// Interim responses not yet taken by the stream.
    pending: BytesMut,
    /// The connection's task.
    waker: Option<Waker>,
    reset_at_end: bool,
}

impl Line {
    /// A request begins: its interim responses may be sent until [`Line::close`].
    pub(crate) fn open(&self) -> Interim {
        let mut state = self.lock();
        state.turn += 1;
        state.waiting = true;
        Interim {
            line: self.clone(),
            turn: state.turn,
        }
    }

    /// The final response is there: whatever comes now for this request is too late.
    pub(crate) fn close(&self) {
        self.lock().waiting = false;
    }

    /// The connection shall end by a reset, as what was sent on it is not complete.
    pub(crate) fn reset_at_end(&self) {
        self.lock().reset_at_end = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's right to interim responses: a request extension.
#[derive(Clone, Debug)]
pub(crate) struct Interim {
    line: Line,
    turn: u64,
}

impl Interim {
    /// Sends an interim response, unless it comes too late or there are too many.
    pub(crate) fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let mut state = self.line.lock();
        if !state.waiting || state.turn != self.turn || state.pending.len() > MAX_PENDING {
            return;
        }
        let reason = status.canonical_reason().unwrap_or_default();
        let _ = write!(state.pending, "HTTP/1.1 {} {reason}\r\n", status.as_str());
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                state.pending.extend_from_slice(part);
            }
        }
        state.pending.extend_from_slice(b"\r\n");
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// A client's connection, beneath hyper.
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: TcpStream,
    line: Line,
    /// Interim responses being written.
    writing: BytesMut,
    /// Whether hyper has written everything. It flushes only then.
    between_messages: bool,
}

impl ClientStream {
    /// Writes the interim responses, if this is the moment for them.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.line.lock();
        if self.between_messages {
            self.writing.unsplit(state.pending.split());
        } else if !state.waiting {
            // The final response may have begun behind the end of an earlier one.
            state.pending.clear();
        }
        if !state
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.waker = Some(cx.waker().clone());
        }
        drop(state);
        while !self.writing.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.writing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.writing.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        self.between_messages = false;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.between_messages = true;
        ready!(self.poll_interim(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.line.lock().reset_at_end {
            let _ = self.stream.set_zero_linger();
        }
    }
}

/// The most bytes of interim responses kept for a client that does not read.
const MAX_PENDING: usize = 64 * 1024;
