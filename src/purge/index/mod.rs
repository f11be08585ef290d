//! The purge index: the last purge of each selector, as far as this instance knows.

mod pending;
mod table;

use std::time::Duration;

pub(crate) use pending::PendingPurge;

use self::pending::Pending;
use self::table::{Compact, Fingerprint, Table};
use super::record::Mark;
use super::{Kind, Purge, Selector, Subject};
use crate::base::clock::Timestamp;
use crate::base::position::{LogPosition, Moment};
use crate::base::sync::RwLock;
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::tags::Tags;
use crate::entry::{Verdict, Verified};
use crate::key::Key;

/// Whether an entry may be used, by the purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// No later purge matches it.
    Valid,
    /// A later soft purge matches it. It is stale, and may be served while it is refreshed.
    Soft,
    /// A later purge matches it, or may match it.
    Purged,
    /// The log has been out of sight for too long to say.
    Unknown,
}

impl Validity {
    /// Whether the entry may be served, even if stale, or updated.
    pub(crate) const fn is_usable(self) -> bool {
        matches!(self, Self::Valid | Self::Soft)
    }
}

/// The last purge of every selector, and how far the log has been read.
#[derive(Debug)]
pub(crate) struct PurgeIndex {
    /// Grows with every purge. An entry that was verified at this version need not be verified
    /// again.
    version: AtomicU64,
    /// The time (ms) until which the log counts as read to its end.
    good_until: AtomicU64,
    secret: Secret,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    hard: Table,
    soft: Table,
    everything: Marks,
    /// A bit for each kind of selector that was ever purged: others are not looked up.
    kinds: u16,
    /// No subtree deeper than this was ever purged.
    deepest: u16,
    /// No purge that is known comes after this.
    latest: LogPosition,
    /// Entries from before it cannot be verified.
    horizon: LogPosition,
    /// Up to where the log has been read without a gap.
    tail: LogPosition,
    /// The latest purge of this instance that the log has taken, read back or not.
    appended: LogPosition,
    pending: Pending,
    /// How many purges were ever pending.
    counter: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    hard: LogPosition,
    soft: LogPosition,
}

/// What an entry brings to be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PurgeCheck<'a> {
    pub(crate) key: &'a Key,
    pub(crate) tags: &'a Tags,
    /// Whether its policy changes queries, so that other queries may ask for it.
    pub(crate) has_query_rule: bool,
    pub(crate) moment: Moment,
    pub(crate) stored: Timestamp,
    pub(crate) verified: &'a Verified,
}

/// A key of this process.
#[derive(Clone, Copy)]
struct Secret([u64; 2]);

impl PurgeIndex {
    pub(crate) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            good_until: AtomicU64::new(0),
            secret: Secret([fastrand::u64(..), fastrand::u64(..)]),
            state: RwLock::new(State::new()),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The moment now. An entry carries the moment from before its handler was called.
    pub(crate) fn moment(&self) -> Moment {
        self.read(|state| Moment {
            position: state.tail,
            counter: state.counter,
        })
    }

    /// Up to where the log has been read without a gap.
    pub(crate) fn tail(&self) -> LogPosition {
        self.read(|state| state.tail)
    }

    /// The number of selectors whose purges are remembered.
    pub(crate) fn len(&self) -> usize {
        self.read(|state| state.hard.len() + state.soft.len())
    }

    /// The latest purge of this instance that the log has taken.
    pub(crate) fn appended(&self) -> LogPosition {
        self.read(|state| state.appended)
    }

    /// Makes this index the log itself, which is always in sight.
    pub(crate) fn always_current(&self) {
        self.good_until.store(u64::MAX, Ordering::Release);
    }

    /// Appends to the log of a cache without a store. Positions count in milliseconds, of which the
    /// tables keep more bits than of sequence numbers.
    pub(crate) fn append(&self, purge: &Purge) -> LogPosition {
        let marks: Vec<Mark> = purge.marks().collect();
        self.write(|state| {
            state.tail = LogPosition::new(state.tail.ms() + 1, 0);
            state.apply(state.tail, &marks, self.secret);
            state.tail
        })
    }

    /// Notes that the log was read to its end at `now`. It counts as in sight for `bound` from
    /// then.
    pub(crate) fn seen_to_the_end(&self, now: Timestamp, bound: Duration) {
        let until = now.saturating_add(bound).as_millis();
        self.good_until.store(until, Ordering::Release);
    }

    /// Notes that the log has been out of sight for too long. The clock behind
    /// [`PurgeIndex::seen_to_the_end`] cannot tell: it may have been set back meanwhile.
    pub(crate) fn lost_sight(&self) {
        self.good_until.store(0, Ordering::Release);
    }

    /// Whether the log is in sight.
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        now.as_millis() <= self.good_until.load(Ordering::Acquire)
    }

    /// Judges an entry by the purges. While the log has not moved, this takes two comparisons.
    pub(crate) fn judge(
        &self,
        check: &PurgeCheck<'_>,
        now: Timestamp,
        bound: Duration,
    ) -> Validity {
        if !self.is_current(now) && !is_recent(check.stored, now, bound) {
            return Validity::Unknown;
        }
        match self.verdict(check) {
            Verdict::Valid => Validity::Valid,
            Verdict::Soft => Validity::Soft,
            Verdict::Purged => Validity::Purged,
        }
    }

    /// Whether a later purge matches, hard or soft, whether or not the log is in sight.
    pub(crate) fn is_outdated(&self, check: &PurgeCheck<'_>) -> bool {
        self.verdict(check) != Verdict::Valid
    }

    /// Whether a pending purge matches an entry. Other instances could not tell that the entry is
    /// later than the purge, so it must not go to the shared store.
    pub(crate) fn is_pending_for(&self, check: &PurgeCheck<'_>) -> bool {
        if self.read(|state| state.pending.is_empty()) {
            return false;
        }
        let fingerprints = self.fingerprints(check);
        let deeper = self.deeper_fingerprints(check);
        self.read(|state| {
            let mut all = fingerprints.iter().chain(&deeper);
            state.pending.has(EVERYTHING) || all.any(|one| state.pending.has(*one))
        })
    }

    /// Applies the purges of the record at `position`. The tail does not move, since an own purge
    /// says nothing of other instances' records before it.
    pub(crate) fn apply(&self, position: LogPosition, marks: &[Mark]) {
        self.write(|state| state.apply(position, marks, self.secret));
    }

    /// Applies a purge of this instance before it is in the log.
    pub(crate) fn apply_pending(&self, purge: &Purge) -> PendingPurge {
        let marks: Vec<(Mark, Fingerprint)> = purge
            .marks()
            .map(|mark| (mark, self.secret.fingerprint(&mark.selector)))
            .collect();
        self.write(|state| {
            state.counter += 1;
            for (mark, fingerprint) in &marks {
                state.note_kind(&mark.selector);
                state.pending.add(*fingerprint, mark.soft, state.counter);
            }
        });
        PendingPurge(marks.into_iter().map(|(_, one)| one).collect())
    }

    /// Gives a pending purge its position in the log. `known` is the latest position that was known
    /// before. A log that gives out an earlier position is another log. Entries with later
    /// positions of the old log cannot be compared with it, and become misses.
    pub(crate) fn settle(
        &self,
        pending: &PendingPurge,
        purge: &Purge,
        position: LogPosition,
        known: LogPosition,
    ) {
        let marks: Vec<Mark> = purge.marks().collect();
        self.write(|state| {
            state.apply(position, &marks, self.secret);
            state.pending.remove(pending);
            state.appended = state.appended.max(position);
            if position <= known {
                state.horizon = state.horizon.max(known.next());
            }
        });
    }

    /// Drops a pending purge that has become a part of another one.
    pub(crate) fn withdraw(&self, pending: &PendingPurge) {
        self.write(|state| state.pending.remove(pending));
    }

    /// Notes that the log has been read without a gap up to `position`.
    pub(crate) fn advance(&self, position: LogPosition) {
        let mut state = self.state.write();
        state.tail = state.tail.max(position);
    }

    /// Raises the horizon: records up to it are gone, so no older entry can be verified. Returns
    /// whether the horizon has moved.
    pub(crate) fn raise_horizon(&self, horizon: LogPosition) -> bool {
        self.write(|state| {
            let is_news = state.horizon < horizon;
            state.horizon = state.horizon.max(horizon);
            is_news
        })
    }

    /// Starts anew after `tail`, since the log is another one than was read so far: it was emptied,
    /// or a copy that lacks records took over. All that was known is void, except for later purges
    /// of this instance, which the new log has taken already.
    pub(crate) fn restart(&self, tail: LogPosition) {
        self.write(|state| {
            state.hard.forget_up_to(Compact::of(tail));
            state.soft.forget_up_to(Compact::of(tail));
            if state.everything.hard <= tail && state.everything.soft <= tail {
                state.everything = Marks::default();
            }
            state.appended = state.appended.max(tail);
            state.horizon = tail;
            state.tail = tail;
        });
    }

    /// The verdict, remembered until the next purge.
    fn verdict(&self, check: &PurgeCheck<'_>) -> Verdict {
        // The version is read before the look-up, so that a purge between the two makes it
        // outdated.
        let version = self.version();
        check.verified.at(version).unwrap_or_else(|| {
            let found = self.look_up(check);
            if found.lasts {
                check.verified.note(version, found.verdict);
            }
            found.verdict
        })
    }

    /// Looks up an entry that was not verified at this version. The lock is held while the tables
    /// are read, and never while an entry is hashed.
    fn look_up(&self, check: &PurgeCheck<'_>) -> Found {
        if let Some(found) = self.read(|state| state.judge_by_position(check.moment)) {
            return found;
        }
        let fingerprints = self.fingerprints(check);
        let deeper = self.deeper_fingerprints(check);
        self.read(|state| state.judge(check.moment, fingerprints, &deeper))
    }

    /// The fingerprints of an entry, which are hashed once and kept beside it.
    fn fingerprints<'a>(&self, check: &PurgeCheck<'a>) -> &'a [Fingerprint] {
        let hash = || {
            let selectors = check.subject().selectors(HASHED_DEPTH);
            let fingerprints = selectors.iter().map(|one| self.secret.fingerprint(one));
            fingerprints.collect()
        };
        check.verified.fingerprints(hash)
    }

    /// The fingerprints of subtrees that are deeper than those kept, if so deep a subtree was ever
    /// purged.
    fn deeper_fingerprints(&self, check: &PurgeCheck<'_>) -> Vec<Fingerprint> {
        let deepest = self.read(|state| state.deepest);
        if deepest <= HASHED_DEPTH {
            return Vec::new();
        }
        let selectors = check.subject().selectors(deepest);
        let deeper = selectors.iter().filter(|one| one.depth() > HASHED_DEPTH);
        deeper.map(|one| self.secret.fingerprint(one)).collect()
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read())
    }

    /// Changes the state and then the version. A reader that sees the new version sees the purge,
    /// and a verdict of the old version is looked up again.
    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write();
        let result = change(&mut state);
        self.version.fetch_add(1, Ordering::Release);
        result
    }
}

impl<'a> PurgeCheck<'a> {
    const fn subject(&self) -> Subject<'a> {
        Subject {
            key: self.key,
            tags: self.tags,
            has_query_rule: self.has_query_rule,
        }
    }
}

/// Whether an entry was stored within `bound` of now. An entry from the future was stored by
/// another clock, or by this one before it was set back.
fn is_recent(stored: Timestamp, now: Timestamp, bound: Duration) -> bool {
    now <= stored.saturating_add(bound) && stored <= now.saturating_add(bound)
}

/// A verdict, and whether it lasts until the next purge.
struct Found {
    verdict: Verdict,
    lasts: bool,
}

impl State {
    fn new() -> Self {
        Self {
            hard: Table::new(MOST_HARD_BUCKETS),
            soft: Table::new(MOST_SOFT_BUCKETS),
            everything: Marks::default(),
            kinds: 0,
            deepest: 0,
            latest: LogPosition::ZERO,
            horizon: LogPosition::ZERO,
            tail: LogPosition::ZERO,
            appended: LogPosition::ZERO,
            pending: Pending::default(),
            counter: 0,
        }
    }

    /// What can be said of an entry without knowing what it is.
    fn judge_by_position(&self, moment: Moment) -> Option<Found> {
        let position = moment.position;
        // Beyond the tail: it knows of records that this instance has not read, or that were in
        // another log, which is lost. The tail moves on without a purge.
        if position > self.tail {
            return Some(Found {
                verdict: Verdict::Purged,
                lasts: false,
            });
        }
        if position < self.horizon {
            return Some(Found::lasting(Verdict::Purged));
        }
        // Most often: what has just been stored, or has been since the last purge.
        if position >= self.latest && self.pending.is_empty() {
            return Some(Found::lasting(Verdict::Valid));
        }
        None
    }

    fn judge(&self, moment: Moment, kept: &[Fingerprint], deeper: &[Fingerprint]) -> Found {
        // The tail or the horizon may have moved since.
        if let Some(found) = self.judge_by_position(moment) {
            return found;
        }
        let position = Compact::of(moment.position);
        let mut verdict = Verdict::of(
            self.everything.hard > moment.position,
            self.everything.soft > moment.position,
        );
        let is_pending = !self.pending.is_empty();
        if is_pending {
            verdict = verdict.max(self.pending.verdict(EVERYTHING, moment));
        }
        for fingerprint in self.known(kept).chain(deeper.iter().copied()) {
            if verdict == Verdict::Purged {
                break;
            }
            let is_purged =
                |table: &Table| !table.is_empty() && table.last(fingerprint).may_follow(position);
            verdict = verdict.max(Verdict::of(is_purged(&self.hard), is_purged(&self.soft)));
            if is_pending {
                verdict = verdict.max(self.pending.verdict(fingerprint, moment));
            }
        }
        Found::lasting(verdict)
    }

    /// Those of an entry's fingerprints that can have been purged: of kinds that ever were, and no
    /// deeper than anyone ever purged.
    fn known(&self, kept: &[Fingerprint]) -> impl Iterator<Item = Fingerprint> {
        let mut subtrees = 0;
        let deepest = self.deepest;
        let in_depth = move |fingerprint: &Fingerprint| {
            if fingerprint & KIND == Kind::Subtree as u64 {
                subtrees += 1;
                return subtrees <= u32::from(deepest) + 1;
            }
            true
        };
        let kinds = self.kinds;
        kept.iter()
            .copied()
            .filter(move |fingerprint| kinds & (1 << (fingerprint & KIND)) != 0)
            .filter(in_depth)
    }

    fn apply(&mut self, position: LogPosition, marks: &[Mark], secret: Secret) {
        self.latest = self.latest.max(position);
        for Mark { selector, soft } in marks {
            self.note_kind(selector);
            if *selector == Selector::EVERYTHING {
                let last = if *soft {
                    &mut self.everything.soft
                } else {
                    &mut self.everything.hard
                };
                *last = position.max(*last);
                continue;
            }
            let table = if *soft {
                &mut self.soft
            } else {
                &mut self.hard
            };
            table.note(secret.fingerprint(selector), Compact::of(position));
        }
    }

    fn note_kind(&mut self, selector: &Selector) {
        self.kinds |= 1 << selector.kind() as u16;
        self.deepest = self.deepest.max(selector.depth());
    }
}

impl Found {
    const fn lasting(verdict: Verdict) -> Self {
        Self {
            verdict,
            lasts: true,
        }
    }
}

impl Secret {
    /// Two rounds of a folded multiplication, as wyhash has them: the digest is spread already, and
    /// what matters is that nobody outside can tell which bucket it goes to.
    fn fingerprint(self, selector: &Selector) -> Fingerprint {
        if *selector == Selector::EVERYTHING {
            return EVERYTHING;
        }
        let Self([one, other]) = self;
        let digest = selector.digest();
        let mixed = fold(digest as u64 ^ one, (digest >> 64) as u64 ^ other);
        let hash = fold(mixed ^ other, one ^ MIX);
        (hash & !KIND) | selector.kind() as u64
    }
}

/// Nobody is to see it.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product >> 64) as u64 ^ product as u64
}

/// The fingerprint of everything. No other is zero, since each has its kind in it.
const EVERYTHING: Fingerprint = 0;

/// The bits of a fingerprint that are its selector's kind.
const KIND: Fingerprint = 0xf;

/// An odd number whose bits look random (of wyhash).
const MIX: u64 = 0xa076_1d64_78bd_642f;

/// So many subtrees of an entry's path are hashed once and kept. Few purges go deeper.
const HASHED_DEPTH: u16 = 16;

/// Sixteen mebibytes: some 800,000 selectors.
const MOST_HARD_BUCKETS: usize = 1 << 17;

/// Two mebibytes: soft purges are asked for by an application, not made by each change.
const MOST_SOFT_BUCKETS: usize = 1 << 14;

#[cfg(test)]
mod tests;
