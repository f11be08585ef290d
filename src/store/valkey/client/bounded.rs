//! A stream that ends before a reply which is too long is read.
//!
//! The client library reads a reply of any announced length into a buffer that never shrinks.
//! Another client of the server can leave half a gigabyte under one of our keys, and a faulty
//! server can announce anything. So this stream reads the headers of replies (RESP3) as they pass,
//! and fails at one that announces too much, before any of its content is read.

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
    bounded_reads: Arc<BoundedReads>,
    read_counter: Arc<ReadCounter>,
}

/// Counts how often bytes have come, so that a silent server is told from a slow one.
#[derive(Debug, Default)]
pub(crate) struct ReadCounter(AtomicU64);

/// Whether values are read by `GETRANGE` for a while, which bounds their replies at the source.
///
/// Another client of the server can leave half a gigabyte under one of our keys. A reply that
/// announces far too much ends the connection, and with it all other replies on their way.
/// `GETRANGE` avoids that, but is slower: Valkey from 8.1 on does not copy a value of 16 KiB or
/// more for `GET`, and does for `GETRANGE`. With 64 reads on their way, one of 16 KiB took 22 µs
/// instead of 6.5. So values are read by `GET`. For a minute after a read that took too long, or
/// whose value was too long, they are read by `GETRANGE`, which shows which value it was. In this
/// way a connection is lost once a minute at most.
pub(crate) struct BoundedReads {
    created: Instant,
    /// When they end, in milliseconds after `created`; 0 while reads are not bounded.
    until: AtomicU64,
}

impl BoundedReads {
    pub(crate) fn new() -> Self {
        Self {
            created: Instant::now(),
            until: AtomicU64::new(0),
        }
    }

    /// Bounds reads for a minute from now.
    pub(crate) fn begin(&self) {
        self.until.store(self.after(MINUTE), Ordering::Relaxed);
    }

    /// Whether reads are bounded now. Costs no look at the clock while they are not.
    pub(crate) fn are_on(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && self.after(Duration::ZERO) < until
    }

    fn after(&self, more: Duration) -> u64 {
        let after = self.created.elapsed() + more;
        u64::try_from(after.as_millis()).unwrap_or(u64::MAX)
    }
}

impl ReadCounter {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Bounded<S> {
    /// Allows strings of at most `longest` bytes, or [`LEAST`] if that is more. A longer one
    /// begins `bounded_reads`.
    pub(crate) fn new(stream: S, longest: u64, bounded_reads: Arc<BoundedReads>) -> Self {
        Self {
            stream,
            replies: Replies {
                longest: longest.max(LEAST),
                at: At::start(),
            },
            bounded_reads,
            read_counter: Arc::default(),
        }
    }

    pub(crate) fn read_counter(&self) -> Arc<ReadCounter> {
        Arc::clone(&self.read_counter)
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
        self.read_counter.0.fetch_add(1, Ordering::Relaxed);
        if self.replies.pass(read).is_err() {
            self.bounded_reads.begin();
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

/// Follows the lengths in a sequence of replies.
#[derive(Debug)]
struct Replies {
    longest: u64,
    at: At,
}

/// A position in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a line of some kind and length; `number` is its value if it has only digits so far.
    Line {
        kind: Option<u8>,
        number: Option<u64>,
        length: u64,
    },
    /// In the content that a line announced: so many bytes are left, the end of line included.
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
    /// Follows `bytes`; an error if they announce too much.
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

    /// The position after a line. The parser refuses a length that is not a number.
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

/// A number with one digit more; `None` if the byte is no digit, such as a sign.
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

/// More than the longest piece of the purge log: two million selectors.
pub(crate) const LEAST: u64 = 32 << 20;

/// How many parts a reply may have.
const MOST_PARTS: u64 = 1 << 20;

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// The result for `bytes` that come in pieces of every size.
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
    async fn a_reply_that_is_too_long_fails_the_stream_and_bounds_reads() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let bounded_reads = Arc::new(BoundedReads::new());
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut bounded = Bounded::new(ours, 0, Arc::clone(&bounded_reads));
        theirs.write_all(b"+OK\r\n").await.unwrap();
        let mut read = [0; 5];
        bounded.read_exact(&mut read).await.unwrap();
        assert_eq!(
            (&read[..], bounded_reads.are_on()),
            (&b"+OK\r\n"[..], false)
        );
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
        assert!(bounded_reads.are_on());
    }

    #[tokio::test(start_paused = true)]
    async fn reads_are_bounded_for_a_minute() {
        let bounded_reads = BoundedReads::new();
        assert!(!bounded_reads.are_on());
        bounded_reads.begin();
        assert!(bounded_reads.are_on());
        tokio::time::advance(MINUTE - Duration::from_millis(1)).await;
        assert!(bounded_reads.are_on());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!bounded_reads.are_on());
    }
}
