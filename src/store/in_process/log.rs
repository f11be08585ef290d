//! The purge log, as a Valkey stream behaves.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::base::clock::Timestamp;
use crate::store::{LogBounds, LogPosition, Trimmed};

#[derive(Debug, Default)]
pub(super) struct Log {
    records: BTreeMap<LogPosition, Bytes>,
    last_generated: LogPosition,
    /// The last record that was trimmed.
    trimmed: LogPosition,
    added: u64,
}

impl Log {
    /// Appends at the next position, or right after `after` if the log ends before it.
    pub(super) fn append(
        &mut self,
        record: Bytes,
        after: Option<LogPosition>,
        now: Timestamp,
    ) -> LogPosition {
        let next = self
            .last_generated
            .next()
            .max(LogPosition::new(now.as_millis(), 0));
        let position = after
            .map(LogPosition::next)
            .filter(|wanted| *wanted > self.last_generated)
            .unwrap_or(next);
        self.records.insert(position, record);
        self.last_generated = position;
        self.added += 1;
        position
    }

    pub(super) fn trim(&mut self, length: usize) {
        while self.records.len() > length
            && let Some((position, _)) = self.records.pop_first()
        {
            self.trimmed = position;
        }
    }

    /// The log of a replica that never got the last `count` records.
    pub(super) fn without_last(mut self, count: usize) -> Option<Self> {
        for _ in 0..count {
            if self.records.pop_last().is_some() {
                self.added -= 1;
            }
        }
        self.last_generated = self
            .records
            .keys()
            .next_back()
            .copied()
            .unwrap_or(self.trimmed);
        (self.added > 0).then_some(self)
    }

    pub(super) fn after(&self, position: LogPosition, most: usize) -> Vec<(LogPosition, Bytes)> {
        self.records
            .range((Bound::Excluded(position), Bound::Unbounded))
            .take(most)
            .map(|(position, record)| (*position, record.clone()))
            .collect()
    }

    pub(super) fn holds(&self, position: LogPosition) -> bool {
        self.records.contains_key(&position)
    }

    pub(super) fn bounds(&self) -> LogBounds {
        let last_generated = self.last_generated;
        let added = Some(self.added);
        let first = self.records.keys().next();
        let Some((&first, &last)) = first.zip(self.records.keys().next_back()) else {
            return LogBounds::Empty {
                last_generated,
                added,
            };
        };
        let trimmed = if self.added == self.records.len() as u64 {
            Trimmed::Nothing
        } else {
            Trimmed::Some
        };
        LogBounds::Held {
            first,
            last,
            last_generated,
            trimmed,
            added,
        }
    }
}
