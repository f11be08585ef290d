//! Purges that are in force here and not in the log yet.

use std::collections::HashMap;

use super::table::Fingerprint;
use crate::base::position::Moment;
use crate::entry::Verdict;

/// What is pending, by selector. The log bounds how many these are.
#[derive(Debug, Default)]
pub(super) struct Pending {
    places: HashMap<Fingerprint, Place>,
}

/// The purges of one selector that are pending.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    purges: usize,
    /// The counter of the last hard one, and of the last soft one; zero if there is none.
    hard: u64,
    soft: u64,
}

/// A purge that was applied here before it was in the log: to be settled when it is there.
#[derive(Debug)]
#[must_use = "a purge that is never settled stays pending"]
pub(crate) struct PendingPurge(pub(super) Vec<Fingerprint>);

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn add(&mut self, fingerprint: Fingerprint, soft: bool, counter: u64) {
        let place = self.places.entry(fingerprint).or_default();
        place.purges += 1;
        if soft {
            place.soft = counter;
        } else {
            place.hard = counter;
        }
    }

    pub(super) fn remove(&mut self, purge: &PendingPurge) {
        for fingerprint in &purge.0 {
            if let Some(place) = self.places.get_mut(fingerprint) {
                place.purges -= 1;
                if place.purges == 0 {
                    self.places.remove(fingerprint);
                }
            }
        }
    }

    pub(super) fn has(&self, fingerprint: Fingerprint) -> bool {
        self.places.contains_key(&fingerprint)
    }

    /// What a purge that is pending makes of an entry that it matches. One that was read from the
    /// store has the counter zero: nobody here knows when it was fetched.
    pub(super) fn verdict(&self, fingerprint: Fingerprint, moment: Moment) -> Verdict {
        let Some(place) = self.places.get(&fingerprint) else {
            return Verdict::Valid;
        };
        if moment.counter < place.hard {
            Verdict::Purged
        } else if moment.counter < place.soft {
            Verdict::Soft
        } else {
            Verdict::Valid
        }
    }
}
