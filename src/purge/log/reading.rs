//! What the reader of the log keeps between its steps.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::clock::Timestamp;
use crate::base::position::LogPosition;
use crate::store::LogBounds;

/// The reader's knowledge of the log.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The number of records that the log had ever been given when it was read to its end, plus
    /// those read since. By this the reader notices a log that was emptied and filled anew, which
    /// goes on with later positions.
    pub(super) count: Option<u64>,
    /// The last record that was read and applied, beyond the tail of the index. The tail follows
    /// when the log proves to have the record at the old tail still: only then were these its next
    /// records.
    pub(super) ahead: Option<LogPosition>,
    /// An earlier end of the log that was not read yet, and when it was seen. A log that grows all
    /// the time is never read to its present end.
    pub(super) end: Option<(LogPosition, Timestamp)>,
    /// When the log was last seen to take a write.
    pub(super) written: Option<Instant>,
    /// When it last took none. What others could not announce meanwhile follows soon.
    pub(super) refused: Option<Instant>,
    /// What other instances know has been asked for.
    pub(super) has_looked: bool,
    /// How many records were read since what is known was last stored.
    pub(super) unsaved: usize,
    /// When that was, or when it was first due.
    pub(super) saved: Option<Instant>,
}

/// How the log compares with what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// It is the log that was read so far.
    Same,
    /// Records were trimmed before they were read.
    Missed,
    /// The log has lost records.
    Lost,
}

impl Reading {
    pub(super) fn compare(&mut self, bounds: &LogBounds, read: LogPosition) -> Continuity {
        let last = bounds.last_generated();
        if last < read {
            return Continuity::Lost;
        }
        let found = match (self.count, bounds.added()) {
            (Some(count), Some(added)) if last == read => match added.cmp(&count) {
                std::cmp::Ordering::Less => Continuity::Lost,
                std::cmp::Ordering::Equal => Continuity::Same,
                std::cmp::Ordering::Greater => Continuity::Missed,
            },
            (Some(count), Some(added)) if added <= count => Continuity::Lost,
            _ => Continuity::Same,
        };
        if last == read {
            self.count = bounds.added();
        }
        found
    }

    /// Whether others have had the time to announce what the log did not take.
    pub(super) fn is_announced(&self) -> bool {
        let long_ago = |refused: Instant| refused.elapsed() >= ANNOUNCED;
        self.refused.is_none_or(long_ago)
    }

    pub(super) fn note(&mut self, position: LogPosition) {
        self.count = self.count.map(|count| count.saturating_add(1));
        self.unsaved += 1;
        self.ahead = Some(position);
    }
}

/// How soon every instance has announced what waited, once the log takes writes again. It finds that
/// out within a second, and an append takes no longer than that.
const ANNOUNCED: Duration = Duration::from_secs(2);
