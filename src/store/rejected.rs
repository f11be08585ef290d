//! What is done about stored bytes that are not what they should be.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::entry::codec::Undecodable;

/// Remembers for a while which keys had something wrong under them, so that nothing is done
/// about the same key over and over.
#[derive(Debug, Default)]
pub(super) struct BadValues {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when each key is remembered to have been treated.
    keys: HashMap<u128, Timestamp>,
    /// Until when a mismatch is no reason to replace the connection again.
    calm_until: Timestamp,
}

/// What to do about refused bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadValueAction {
    /// Leave them: they are another version's, or were dealt with a moment ago.
    Leave,
    /// Delete the key: what is under it serves nobody.
    Delete,
    /// Replace the connection: replies may have been crossed.
    Distrust,
    /// Find out whether the connection is in step, and if it is, delete the key.
    Verify,
}

impl BadValues {
    /// Decides about bytes that were read under a key and refused.
    ///
    /// A value of another key means crossed replies, most likely, and then the value under this
    /// key may be fine. If there are more on a connection that is new since, then they are really
    /// there (copied, or restored under wrong names): replacing the connection for each would
    /// leave none to use, and so they are deleted, once the connection has proved to be in step.
    pub(super) fn treat(&self, hash: u128, why: Undecodable, now: Timestamp) -> BadValueAction {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            // Its own instances read it, and on this key's next write it is replaced.
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
    /// The treatment, or none if the key had it a moment ago.
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

/// What went wrong without anyone being told by an error.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Not written by this crate.
    pub(crate) foreign: AtomicU64,
    /// Written by another version or build of it.
    pub(crate) other_version: AtomicU64,
    /// Damaged.
    pub(crate) corrupt: AtomicU64,
    /// Longer than this instance stores.
    pub(crate) too_long: AtomicU64,
    /// Of another key.
    pub(crate) mismatched: AtomicU64,
    /// Past its time, or from the future.
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

/// How long a connection that replaced a distrusted one is believed to be in step unless it
/// proves not to be.
const CALM: Duration = Duration::from_secs(10);

/// How many keys are. Beyond it some may be treated twice.
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
