//! Selectors and the positions of their last purges, in bounded memory.
//!
//! A selector may stand in either of two buckets, and goes into the emptier one. If a bucket is
//! full and the table cannot grow, the bucket drops its oldest selector and raises its own horizon:
//! older entries that such a selector could match count as purged. At worst a valid entry counts as
//! purged, which is a miss.

use super::fingerprint::Fingerprint;
use crate::base::position::LogPosition;

/// A position in the log, in 64 bits that sort as positions do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Compact(u64);

#[derive(Debug)]
pub(super) struct Table {
    secret: Secret,
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

/// A selector and its last purge. It is empty if the fingerprint is zero, which no selector has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) position: Compact,
}

/// A key of this process, by which selectors are placed, so that nobody can choose a bucket to
/// fill.
#[derive(Clone, Copy)]
struct Secret([u64; 2]);

/// What has been copied of a table so far.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) places: Vec<Place>,
    /// Of what was forgotten, nothing is later.
    pub(super) horizon: Compact,
    /// How many buckets the table has.
    buckets: usize,
    /// The next one.
    next: usize,
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

    /// Of the positions that are this one in short, the latest.
    pub(super) const fn latest(self) -> LogPosition {
        let seq = match self.0 & MOST_SEQ {
            MOST_SEQ => u64::MAX,
            seq => seq,
        };
        LogPosition::new(self.0 >> SEQ_BITS, seq)
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether this position is later than an entry's, or may be.
    pub(super) const fn may_follow(self, entry: Self) -> bool {
        let is_saturated = self.0 & MOST_SEQ == MOST_SEQ;
        self.0 > entry.0 || (is_saturated && self.0 == entry.0)
    }
}

impl Table {
    /// An empty table with at most `most` buckets.
    pub(super) fn new(most: usize) -> Self {
        Self {
            secret: Secret([fastrand::u64(..), fastrand::u64(..)]),
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

    /// Copies the next buckets, and tells whether there are more. When a table grows, selectors
    /// move, so it is copied from the beginning again.
    pub(super) fn copy_on(&self, copied: &mut Copied) -> bool {
        if copied.buckets != self.buckets.len() {
            *copied = Copied {
                buckets: self.buckets.len(),
                ..Copied::default()
            };
        }
        let next = self.buckets.iter().skip(copied.next);
        for bucket in next.take(COPIED_AT_ONCE) {
            copied.horizon = copied.horizon.max(bucket.horizon);
            let is_taken = |place: &&Place| place.fingerprint != 0;
            copied.places.extend(bucket.places.iter().filter(is_taken));
        }
        copied.next += COPIED_AT_ONCE;
        copied.next < self.buckets.len()
    }

    /// The two buckets that a fingerprint may stand in, by bits that have no part in each other.
    fn both(&self, fingerprint: Fingerprint) -> [usize; 2] {
        let mask = self.buckets.len().wrapping_sub(1) as u64;
        let spread = self.secret.spread(fingerprint);
        [spread & mask, (spread >> 32) & mask].map(|at| at as usize)
    }
}

impl Secret {
    /// Two rounds of a folded multiplication, as wyhash has them: the fingerprint is spread already,
    /// and what matters is that nobody outside can tell which bucket it goes to.
    const fn spread(self, fingerprint: Fingerprint) -> u64 {
        let Self([one, other]) = self;
        let mixed = fold(fingerprint ^ one, other | 1);
        fold(mixed ^ other, one ^ MIX)
    }
}

/// Does not show the secret.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

const fn fold(one: u64, other: u64) -> u64 {
    let product = one as u128 * other as u128;
    (product >> 64) as u64 ^ product as u64
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

/// An odd number with random-looking bits, from wyhash.
const MIX: u64 = 0xa076_1d64_78bd_642f;

/// Half a mebibyte, which takes some ten microseconds.
const COPIED_AT_ONCE: usize = 4096;

/// The number of selectors in a bucket. With the horizon they fill two lines of a processor's
/// cache, or one line of 128 bytes.
const PLACES: usize = 7;

/// The bits of the sequence number that are kept. The other 48 are those of the milliseconds, which
/// last until the year 10889.
const SEQ_BITS: u32 = 16;
const MOST_SEQ: u64 = (1 << SEQ_BITS) - 1;
const MOST_MS: u64 = u64::MAX >> SEQ_BITS;

#[cfg(test)]
mod tests;
