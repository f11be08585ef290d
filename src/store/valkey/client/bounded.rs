//! A stream that is not read beyond what a reply may be long.
//!
//! The client library takes a reply whole, however long its header says that it is, and reads it
//! into a buffer that never shrinks. Whoever may write to the server can leave half a gigabyte
//! under a key of ours, and a server that is out of its mind can announce anything. So the
//! headers are read on their way (RESP3), and one that says too much ends the connection before
//! anything of what it announces is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A stream of replies.
pub(crate) struct Bounded<S> {
    stream: S,
    replies: Replies,
    care: Arc<BoundedReads>,
    heard: Arc<ReadCounter>,
}

/// How often bytes have come, for those who wait for their own.
#[derive(Debug, Default)]
pub(crate) struct ReadCounter(AtomicU64);

impl ReadCounter {
    pub(crate) fn times(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Bounded<S> {
    /// Of strings of at most `longest` bytes, or [`LEAST`] if that is more. When one is longer,
    /// care is taken from then on.
    pub(crate) fn new(stream: S, longest: u64, care: Arc<BoundedReads>) -> Self {
        Self {
            stream,
            replies: Replies {
                longest: longest.max(LEAST),
                at: At::start(),
            },
            care,
            heard: Arc::default(),
        }
    }

    pub(crate) fn heard(&self) -> Arc<ReadCounter> {
        Arc::clone(&self.heard)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        self.heard.0.fetch_add(1, Ordering::Relaxed);
        if self.replies.pass(read).is_err() {
            self.care.take();
            return Poll::Ready(Err(io::Error::other("a reply is too long")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// When to read no more of a value than may be there.
///
/// Whoever may write to the server can leave half a gigabyte under a key of ours. A reply that
/// announces far too much ends the connection (`bounded`), and with it what others have asked for.
/// `GETRANGE` bounds the reply at its source, but a server that spares itself the copy of a long
/// value for `GET` (Valkey from 8.1 on, for values from 16 KiB on) does not for `GETRANGE`: with 64
/// reads on their way, one of 16 KiB took 22 µs instead of 6.5. So values are read by `GET` until
/// one took too long or was too long, and by `GETRANGE` for a minute after that, which tells which
/// value it was: a connection is lost in this way once a minute at most.
pub(crate) struct BoundedReads {
    began: Instant,
    /// Milliseconds after that; 0 for never.
    until: AtomicU64,
}

impl BoundedReads {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            until: AtomicU64::new(0),
        }
    }

    /// A read took too long, or its value was too long.
    pub(crate) fn take(&self) {
        self.until.store(self.since(MINUTE), Ordering::Relaxed);
    }

    /// Whether to be careful now. Costs no look at the clock while all is well.
    pub(crate) fn is_due(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && self.since(Duration::ZERO) < until
    }

    fn since(&self, more: Duration) -> u64 {
        let since = self.began.elapsed() + more;
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What has gone by of a sequence of replies, as far as lengths are concerned.
#[derive(Debug)]
struct Replies {
    longest: u64,
    at: At,
}

/// Where in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a line: of which kind, what number it has if all so far are digits, and how long it is.
    Line {
        kind: Option<u8>,
        number: Option<u64>,
        length: u64,
    },
    /// In what a line announced: so many bytes are to come, the line's end included.
    Content(u64),
}

#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl At {
    const fn start() -> Self {
        Self::Line {
            kind: None,
            number: Some(0),
            length: 0,
        }
    }
}

impl Replies {
    /// Lets `bytes` go by, unless more is announced than may be.
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some((first, rest)) = bytes.split_first() {
            self.at = match self.at {
                At::Content(left) => {
                    let here = left.min(bytes.len() as u64);
                    bytes = bytes.get(here as usize..).unwrap_or_default();
                    match left - here {
                        0 => At::start(),
                        left => At::Content(left),
                    }
                }
                At::Line { kind: None, .. } => {
                    bytes = rest;
                    At::Line {
                        kind: Some(*first),
                        number: Some(0),
                        length: 1,
                    }
                }
                At::Line {
                    kind: Some(kind),
                    number,
                    ..
                } if *first == b'\n' => {
                    bytes = rest;
                    self.after(kind, number)?
                }
                At::Line {
                    kind,
                    number,
                    length,
                } if length < self.longest => {
                    bytes = rest;
                    At::Line {
                        kind,
                        number: with_digit(number, *first),
                        length: length + 1,
                    }
                }
                At::Line { .. } => return Err(TooLong),
            };
        }
        Ok(())
    }

    /// What comes after a line. A length that is none is the parser's to refuse.
    fn after(&self, kind: u8, number: Option<u64>) -> Result<At, TooLong> {
        let most = match kind {
            b'$' | b'=' | b'!' => self.longest,
            b'*' | b'%' | b'~' | b'>' | b'|' => MOST_PARTS,
            _ => return Ok(At::start()),
        };
        match (kind, number) {
            (_, Some(number)) if number > most => Err(TooLong),
            (b'$' | b'=' | b'!', Some(number)) => Ok(At::Content(number + 2)),
            _ => Ok(At::start()),
        }
    }
}

/// A number with one digit more; `None` if it is none, as with a sign.
fn with_digit(number: Option<u64>, byte: u8) -> Option<u64> {
    match byte {
        b'\r' => number,
        b'0'..=b'9' => {
            let digit = u64::from(byte - b'0');
            number.map(|number| number.saturating_mul(10).saturating_add(digit))
        }
        _ => None,
    }
}

/// The purge log is never longer in one piece: two million selectors.
pub(crate) const LEAST: u64 = 32 << 20;

/// How many parts a reply may have.
const MOST_PARTS: u64 = 1 << 20;

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of `bytes` if they come in pieces of every size.
    fn pass(bytes: &[u8]) -> Result<At, TooLong> {
        let results: Vec<_> = (1..=bytes.len())
            .map(|size| {
                let mut replies = Replies {
                    longest: 100,
                    at: At::start(),
                };
                bytes
                    .chunks(size)
                    .try_for_each(|piece| replies.pass(piece))
                    .map(|()| replies.at)
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        results.into_iter().next().unwrap()
    }

    #[test]
    fn replies_go_by_whole() {
        let long = format!("$100\r\n{}\r\n", "\n".repeat(100));
        for reply in [
            "+OK\r\n",
            "-ERR no 99999999999\r\n",
            ":12345678901234\r\n",
            "$-1\r\n",
            "$?\r\n",
            "_\r\n",
            "$0\r\n\r\n",
            "$5\r\n$999\r\r\n",
            "=15\r\ntxt:Some string\r\n",
            "*2\r\n$1\r\na\r\n%1\r\n+a\r\n:1\r\n",
            "*-1\r\n",
            "(3492890328409238509324850943850943825024385\r\n",
            &long,
        ] {
            assert_eq!(pass(reply.as_bytes()), Ok(At::start()), "{reply}");
            let twice = reply.repeat(2);
            assert_eq!(pass(twice.as_bytes()), Ok(At::start()), "{twice}");
        }
        assert_eq!(pass(b"$10\r\nabc"), Ok(At::Content(9)));
    }

    #[test]
    fn what_is_announced_to_be_too_long_is_not_read() {
        let endless = "x".repeat(101);
        for reply in [
            "$101\r\n",
            "=101\r\n",
            "!101\r\n",
            "+OK\r\n$536870912\r\n",
            "$18446744073709551615\r\n",
            "$99999999999999999999999999\r\n",
            "*1048577\r\n",
            "%99999999\r\n",
            "*2\r\n$3\r\nabc\r\n$101\r\n",
            &endless,
        ] {
            assert_eq!(pass(reply.as_bytes()), Err(TooLong), "{reply}");
        }
    }

    #[tokio::test]
    async fn the_stream_fails_and_care_is_taken() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let care = Arc::new(BoundedReads::new());
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut bounded = Bounded::new(ours, 0, Arc::clone(&care));
        theirs.write_all(b"+OK\r\n").await.unwrap();
        let mut read = [0; 5];
        bounded.read_exact(&mut read).await.unwrap();
        assert_eq!((&read[..], care.is_due()), (&b"+OK\r\n"[..], false));
        let longer = format!("${}\r\n", LEAST + 1);
        theirs.write_all(longer.as_bytes()).await.unwrap();
        assert!(bounded.read(&mut read).await.is_ok(), "half of the line");
        let failed = async {
            loop {
                if let Err(error) = bounded.read(&mut read).await {
                    return error;
                }
            }
        };
        assert_eq!(failed.await.to_string(), "a reply is too long");
        assert!(care.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_taken_for_a_minute() {
        let care = BoundedReads::new();
        assert!(!care.is_due());
        care.take();
        assert!(care.is_due());
        tokio::time::advance(MINUTE - Duration::from_millis(1)).await;
        assert!(care.is_due());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!care.is_due());
    }
}
