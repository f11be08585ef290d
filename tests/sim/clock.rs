//! The time of day as it follows tokio's paused time.

use std::time::Duration;

use tokio::time::Instant;
use tower_response_cache::{Clock, Timestamp};

/// A clock that runs as tokio's does, so many seconds behind.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    began: Instant,
    at_first: Timestamp,
}

impl SimClock {
    pub fn behind(seconds: u64) -> Self {
        Self {
            began: Instant::now(),
            at_first: FIRST.saturating_sub(Duration::from_secs(seconds)),
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.at_first.saturating_add(self.began.elapsed())
    }
}

/// In the year 2027, long before the dates that handlers send.
const FIRST: Timestamp = Timestamp::from_secs(1_800_000_000);
