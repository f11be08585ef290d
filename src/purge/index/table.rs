//! Selectors and the positions of their last purges, in bounded memory.
//!
//! A selector may stand in either of two buckets, and goes into the emptier one. If a bucket is
//! full and the table cannot grow, the bucket drops its oldest selector and raises its own horizon:
//! older entries that such a selector could match count as purged. At worst a valid entry counts as
//! purged, which is a miss.

use crate::base::position::LogPosition;

/// A position in the log, as 64 bits that sort as positions do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Compact(u64);

/// A selector, hashed with a key of this process, so that nobody can choose a bucket to fill.
/// The lowest four bits are its kind.
pub(crate) type Fingerprint = u64;

#[derive(Debug)]
pub(super) struct Table {
    buckets: Vec<Bucket>,
    /// The largest number of buckets.
    most: usize,
    /// The number of selectors.
    len: usize,
}

#[derive(Clone, Debug, Default)]
#[repr(align(128))]
struct Bucket {
    horizon: Compact,
    places: [Place; PLACES],
}

/// Empty if the fingerprint is zero, which no selector has.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    fingerprint: Fingerprint,
    position: Compact,
}

impl Compact {
    pub(super) const fn of(position: LogPosition) -> Self {
        if position.ms() > MOST_MS {
            return Self(u64::MAX);
        }
        let seq = position.seq();
        let seq = if seq > MOST_SEQ { MOST_SEQ } else { seq };
        Self((position.ms() << SEQ_BITS) | seq)
    }

    /// Whether this position is later than that of an entry, or may be.
    pub(super) const fn may_follow(self, entry: Self) -> bool {
        let is_saturated = self.0 & MOST_SEQ == MOST_SEQ;
        self.0 > entry.0 || (is_saturated && self.0 == entry.0)
    }
}

impl Table {
    /// An empty table of at most so many buckets.
    pub(super) const fn new(most: usize) -> Self {
        Self {
            buckets: Vec::new(),
            most,
            len: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The number of selectors.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The last purge of a selector, or a later position if that was forgotten.
    pub(super) fn last(&self, fingerprint: Fingerprint) -> Compact {
        let buckets = self.both(fingerprint).into_iter();
        let last = |bucket: &Bucket| {
            let place = bucket.find(fingerprint);
            place.map_or(bucket.horizon, |place| place.position.max(bucket.horizon))
        };
        let last = buckets.filter_map(|at| self.buckets.get(at)).map(last);
        last.max().unwrap_or_default()
    }

    /// Notes that the selector was purged at this position.
    pub(super) fn note(&mut self, fingerprint: Fingerprint, position: Compact) {
        if self.buckets.is_empty() {
            self.buckets.push(Bucket::default());
        }
        while !self.try_note(fingerprint, position) {
            if self.buckets.len() < self.most {
                self.grow();
            } else {
                self.displace(fingerprint, position);
                return;
            }
        }
    }

    /// Forgets all purges up to this position.
    pub(super) fn forget_up_to(&mut self, position: Compact) {
        for place in self
            .buckets
            .iter_mut()
            .flat_map(|bucket| &mut bucket.places)
        {
            if place.fingerprint != 0 && place.position <= position {
                *place = Place::default();
                self.len -= 1;
            }
        }
    }

    /// Notes a purge if one of its two buckets has room. Returns whether one has.
    fn try_note(&mut self, fingerprint: Fingerprint, position: Compact) -> bool {
        let both = self.both(fingerprint);
        for at in both {
            if let Some(place) = self
                .buckets
                .get_mut(at)
                .and_then(|bucket| bucket.find_mut(fingerprint))
            {
                place.position = place.position.max(position);
                return true;
            }
        }
        let free = |at: &usize| self.buckets.get(*at).map_or(0, Bucket::free);
        let [one, other] = both;
        let emptier = if free(&other) > free(&one) {
            other
        } else {
            one
        };
        let Some(place) = self
            .buckets
            .get_mut(emptier)
            .and_then(|bucket| bucket.find_mut(0))
        else {
            return false;
        };
        *place = Place {
            fingerprint,
            position,
        };
        self.len += 1;
        true
    }

    /// Notes a purge in place of the oldest one in two full buckets.
    fn displace(&mut self, fingerprint: Fingerprint, position: Compact) {
        let [one, other] = self.both(fingerprint);
        let oldest = |at: usize| self.buckets.get(at).and_then(Bucket::oldest);
        let at = if oldest(other) < oldest(one) {
            other
        } else {
            one
        };
        if let Some(bucket) = self.buckets.get_mut(at)
            && let Some(place) = bucket.places.iter_mut().min_by_key(|place| place.position)
        {
            bucket.horizon = bucket.horizon.max(place.position);
            *place = Place {
                fingerprint,
                position,
            };
        }
    }

    /// Doubles the number of buckets. No horizon has been raised yet.
    fn grow(&mut self) {
        let buckets = vec![Bucket::default(); self.buckets.len() * 2];
        let before = std::mem::replace(&mut self.buckets, buckets);
        self.len = 0;
        for place in before.iter().flat_map(|bucket| &bucket.places) {
            if place.fingerprint != 0 {
                self.note(place.fingerprint, place.position);
            }
        }
    }

    /// The two buckets that a fingerprint may stand in, by bits of it that have no part in each
    /// other or in its kind.
    fn both(&self, fingerprint: Fingerprint) -> [usize; 2] {
        let mask = self.buckets.len().wrapping_sub(1) as u64;
        [(fingerprint >> 4) & mask, (fingerprint >> 34) & mask].map(|at| at as usize)
    }
}

impl Bucket {
    fn find(&self, fingerprint: Fingerprint) -> Option<&Place> {
        self.places
            .iter()
            .find(|place| place.fingerprint == fingerprint)
    }

    fn find_mut(&mut self, fingerprint: Fingerprint) -> Option<&mut Place> {
        self.places
            .iter_mut()
            .find(|place| place.fingerprint == fingerprint)
    }

    fn free(&self) -> usize {
        let is_free = |place: &&Place| place.fingerprint == 0;
        self.places.iter().filter(is_free).count()
    }

    fn oldest(&self) -> Option<Compact> {
        self.places.iter().map(|place| place.position).min()
    }
}

/// With the horizon they fill two lines of a processor's cache, or one of 128 bytes.
const PLACES: usize = 7;

/// The bits of the sequence number that are kept. The other 48 are those of the milliseconds, which
/// last until the year 10889.
const SEQ_BITS: u32 = 16;
const MOST_SEQ: u64 = (1 << SEQ_BITS) - 1;
const MOST_MS: u64 = u64::MAX >> SEQ_BITS;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn at(ms: u64) -> Compact {
        Compact::of(LogPosition::new(ms, 0))
    }

    /// Fingerprints that are spread as those of selectors are.
    fn fingerprints(seed: u64) -> impl Iterator<Item = Fingerprint> {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(move || random.u64(..) | 1)
    }

    #[test]
    fn a_bucket_is_as_long_as_two_lines_of_a_cache() {
        assert_eq!(size_of::<Bucket>(), 128);
    }

    #[test]
    fn compact_positions_sort_and_saturated_ones_follow_their_equals() {
        let compact = |ms, seq| Compact::of(LogPosition::new(ms, seq));
        let ordered = [
            compact(0, 0),
            compact(0, 1),
            compact(0, 0xfffe),
            compact(0, 0xffff),
            compact(1, 0),
            compact(MOST_MS, 7),
            compact(MOST_MS + 1, 0),
        ];
        assert!(ordered.is_sorted_by(|one, other| one < other));
        assert!(!compact(1, 7).may_follow(compact(1, 7)));
        assert!(compact(1, 0xffff).may_follow(compact(1, 0x1_0000)));
        assert!(!compact(1, 0xffff).may_follow(compact(2, 0)));
        assert!(compact(u64::MAX, 0).may_follow(compact(u64::MAX, 1)));
    }

    #[test]
    fn while_it_may_grow_it_knows_every_selector_exactly() {
        let mut table = Table::new(1 << 12);
        let mut model = HashMap::new();
        for (fingerprint, ms) in fingerprints(1).zip(1..=20_000) {
            table.note(fingerprint, at(ms));
            model.insert(fingerprint, at(ms));
        }
        for (&fingerprint, &position) in &model {
            assert_eq!(table.last(fingerprint), position);
        }
        assert_eq!(table.len(), model.len());
        let strangers = fingerprints(2).take(1000);
        let purged = strangers.filter(|it| table.last(*it) != Compact::default());
        assert_eq!(purged.count(), 0);
        let filled = model.len() as f64 / (table.buckets.len() * PLACES) as f64;
        assert!(filled > 0.35, "{filled}");
    }

    /// A thousand changes a second, each of another URL, for ten minutes.
    #[test]
    fn many_changes_of_others_void_nothing_else() {
        let mut table = Table::new(super::super::MOST_HARD_BUCKETS);
        for (fingerprint, ms) in fingerprints(6).zip(1..=600_000) {
            table.note(fingerprint, at(ms));
        }
        assert!(table.buckets.len() * size_of::<Bucket>() <= 16 << 20);
        let strangers = fingerprints(7).take(10_000);
        let voided = strangers.filter(|it| table.last(*it) != Compact::default());
        assert_eq!(voided.count(), 0);
    }

    #[test]
    fn a_selector_purged_again_moves() {
        let mut table = Table::new(1);
        for ms in 1..=1000 {
            table.note(17, at(ms));
            table.note(17, at(ms / 2));
        }
        assert_eq!((table.len(), table.last(17)), (1, at(1000)));
        assert_eq!(table.last(33), Compact::default());
    }

    #[test]
    fn at_its_bound_it_forgets_the_oldest_and_never_a_purge() {
        let mut table = Table::new(64);
        let mut model = HashMap::new();
        let count = 64 * PLACES as u64 * 4;
        for (fingerprint, ms) in fingerprints(3).zip(1..=count) {
            table.note(fingerprint, at(ms));
            model.insert(fingerprint, at(ms));
        }
        assert_eq!(table.buckets.len(), 64);
        for (&fingerprint, &position) in &model {
            assert!(table.last(fingerprint) >= position, "a purge was lost");
        }
        // An entry from after the horizons is not taken for purged.
        let strangers = fingerprints(4).take(1000);
        let latest = strangers.map(|it| table.last(it)).max().unwrap();
        assert!(latest < at(count), "{latest:?}");
    }

    #[test]
    fn what_is_forgotten_leaves_what_came_later() {
        let mut table = Table::new(16);
        for (fingerprint, ms) in fingerprints(5).zip(1..=50) {
            table.note(fingerprint, at(ms));
        }
        table.forget_up_to(at(20));
        assert_eq!(table.len(), 30);
        for (fingerprint, ms) in fingerprints(5).zip(1..=50) {
            let expected = if ms > 20 { at(ms) } else { Compact::default() };
            assert_eq!(table.last(fingerprint), expected);
        }
    }
}
