//! When to read no more of a value than may be there.
//!
//! Whoever may write to the server can leave half a gigabyte under a key of ours. A reply that
//! announces far too much ends the connection (`bounded`), and with it what others have asked for.
//! `GETRANGE` bounds the reply at its source, but a server that spares itself the copy of a long
//! value for `GET` (Valkey from 8.1 on, for values from 16 KiB on) does not for `GETRANGE`: with 64
//! reads on their way, one of 16 KiB took 22 µs instead of 6.5. So values are read by `GET` until
//! one took too long or was too long, and by `GETRANGE` for a minute after that, which tells which
//! value it was: a connection is lost in this way once a minute at most.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Until when reads are bounded.
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

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

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
