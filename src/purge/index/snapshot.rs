//! What one instance knows of purges, copied for another that starts.

use super::table::Place;
use crate::base::position::LogPosition;

/// All that is known up to a position in the log, or a share of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) known: Known,
    pub(crate) hard: Vec<Place>,
    pub(crate) soft: Vec<Place>,
}

/// What is known beside the selectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// No purge up to here is missing.
    pub(crate) tail: LogPosition,
    /// Entries with an earlier position cannot be verified.
    pub(crate) horizon: LogPosition,
    /// No purge comes after it.
    pub(crate) latest: LogPosition,
    /// When everything was last purged, for certain or perhaps.
    pub(crate) hard: LogPosition,
    /// When everything was last purged softly, for certain or perhaps.
    pub(crate) soft: LogPosition,
    /// No subtree deeper than this was ever purged.
    pub(crate) deepest: u16,
}

impl Known {
    /// What is known if either is, each of another share of the selectors.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            tail: self.tail.min(other.tail),
            horizon: self.horizon.max(other.horizon),
            latest: self.latest.max(other.latest),
            hard: self.hard.max(other.hard),
            soft: self.soft.max(other.soft),
            deepest: self.deepest.max(other.deepest),
        }
    }
}
