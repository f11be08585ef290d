//! Bad values: bytes in the shared store that are not a record of their key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::entry::codec::Undecodable;

/// Remembers for a while which keys had bad values, so that no key is treated over and over.
#[derive(Debug, Default)]
pub(super) struct BadValues {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The time until which each treated key is remembered.
    keys: HashMap<u128, Timestamp>,
    /// Until then a mismatch does not replace the connection again.
    calm_until: Timestamp,
}

/// What to do about a bad value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadValueAction {
    /// Leave it: another version wrote it, or its key was treated a moment ago.
    Leave,
    /// Delete the key: no instance can use the value.
    Delete,
    /// Replace the connection: its replies may have been crossed.
    Distrust,
    /// Delete the key if the connection proves to be in step.
    Verify,
}

impl BadValues {
    /// Decides what to do about a bad value that was read under a key.
    ///
    /// A value of another key most likely means crossed replies, and then the value under this key
    /// may be good. If the new connection brings such values too, they really are in the store:
    /// they were copied, or restored under wrong names. Replacing the connection for each of them
    /// would leave no connection to use. So they are deleted, once the connection has proved to be
    /// in step.
    pub(super) fn treat(&self, hash: u128, why: Undecodable, now: Timestamp) -> BadValueAction {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            // Other instances may read it, and the next write of this key replaces it.
            Undecodable::Version | Undecodable::TooLong => BadValueAction::Leave,
            Undecodable::OtherKey if now >= state.calm_until => {
                state.calm_until = now.saturating_add(CALM);
                BadValueAction::Distrust
            }
            Undecodable::OtherKey => state.once(hash, now, BadValueAction::Verify),
            Undecodable::Foreign | Undecodable::Corrupt => {
                state.once(hash, now, BadValueAction::Delete)
            }
        }
    }
}

impl State {
    /// The treatment, or [`BadValueAction::Leave`] if the key had it a moment ago.
    fn once(&mut self, hash: u128, now: Timestamp, treatment: BadValueAction) -> BadValueAction {
        if self.keys.len() >= MOST_KEYS {
            self.keys.retain(|_, until| now < *until);
        }
        if self.keys.len() >= MOST_KEYS {
            self.keys.clear();
        }
        match self.keys.insert(hash, now.saturating_add(MEMORY)) {
            Some(until) if now < until => {
                self.keys.insert(hash, until);
                BadValueAction::Leave
            }
            _ => treatment,
        }
    }
}

/// Counts of faults that no caller gets as an error.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Values that this crate did not write.
    pub(crate) foreign: AtomicU64,
    /// Values that another version or build of it wrote.
    pub(crate) other_version: AtomicU64,
    /// Damaged values.
    pub(crate) corrupt: AtomicU64,
    /// Values that are longer than this instance stores.
    pub(crate) too_long: AtomicU64,
    /// Values of another key.
    pub(crate) mismatched: AtomicU64,
    /// Values past their time, or from an instance whose clock is ahead.
    pub(crate) untimely: AtomicU64,
    pub(crate) dropped_writes: AtomicU64,
    pub(crate) failed_writes: AtomicU64,
    pub(crate) failed_reads: AtomicU64,
}

impl Counters {
    pub(super) fn refused(&self, why: Undecodable) {
        let counter = match why {
            Undecodable::Foreign => &self.foreign,
            Undecodable::Version => &self.other_version,
            Undecodable::Corrupt => &self.corrupt,
            Undecodable::TooLong => &self.too_long,
            Undecodable::OtherKey => &self.mismatched,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long a key is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// How long another mismatch does not replace the connection again.
const CALM: Duration = Duration::from_secs(10);

/// How many keys are remembered. Beyond that, some may be treated twice.
const MOST_KEYS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_bytes_are_deleted_once_a_minute() {
        let bad_values = BadValues::default();
        let now = Timestamp::from_secs(1000);
        for why in [Undecodable::Foreign, Undecodable::Corrupt] {
            let key = why as u128;
            assert_eq!(bad_values.treat(key, why, now), BadValueAction::Delete);
            assert_eq!(bad_values.treat(key, why, now), BadValueAction::Leave);
            let later = now.saturating_add(MEMORY);
            assert_eq!(bad_values.treat(key, why, later), BadValueAction::Delete);
        }
    }

    #[test]
    fn the_first_mismatch_costs_the_connection_and_those_that_follow_the_values() {
        let bad_values = BadValues::default();
        let now = Timestamp::from_secs(1000);
        let treated = [1, 1, 2, 2].map(|key| bad_values.treat(key, Undecodable::OtherKey, now));
        let expected = [
            BadValueAction::Distrust,
            BadValueAction::Verify,
            BadValueAction::Verify,
            BadValueAction::Leave,
        ];
        assert_eq!(treated, expected);
        let later = now.saturating_add(CALM);
        let treated = bad_values.treat(1, Undecodable::OtherKey, later);
        assert_eq!(treated, BadValueAction::Distrust);
    }

    #[test]
    fn another_versions_value_is_left_alone() {
        let bad_values = BadValues::default();
        let now = Timestamp::from_secs(1000);
        for _ in 0..2 {
            assert_eq!(
                bad_values.treat(1, Undecodable::Version, now),
                BadValueAction::Leave
            );
        }
    }

    #[test]
    fn no_more_keys_are_remembered_than_fit() {
        let bad_values = BadValues::default();
        let now = Timestamp::from_secs(1000);
        for key in 0..3 * MOST_KEYS as u128 {
            bad_values.treat(key, Undecodable::Corrupt, now);
        }
        assert!(bad_values.state.lock().unwrap().keys.len() <= MOST_KEYS);
    }
}
