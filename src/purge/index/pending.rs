//! Purges that are in force in this instance and not in the log yet.

use std::collections::HashMap;

use super::fingerprint::Fingerprint;
use crate::base::position::Moment;
use crate::entry::Verdict;

/// The pending purges, by selector. The appender bounds their number.
#[derive(Debug, Default)]
pub(super) struct Pending {
    places: HashMap<Fingerprint, Place>,
}

/// The pending purges of one selector.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    purges: usize,
    /// The counters of the last hard purge and of the last soft one. Zero if there is none.
    hard: u64,
    soft: u64,
}

/// A purge that was applied before it was in the log. It is settled when the log has it.
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

    /// The verdict of a pending purge on an entry that it matches. An entry that was read from the
    /// store has the counter zero, since this instance does not know when it was fetched.
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
