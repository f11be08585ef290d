//! The purge index: the last purge of each selector, as far as this instance knows.

mod fingerprint;
mod pending;
mod snapshot;
mod state;
mod table;

use std::time::Duration;

pub(crate) use pending::PendingPurge;

pub(crate) use snapshot::{Known, Snapshot};
pub(crate) use table::{Compact, Place};

use self::fingerprint::{EVERYTHING, Fingerprint, fingerprint};
use self::state::{Found, Marks, State};
use self::table::{Copied, Table};
use super::record::Mark;
use super::{Purge, Subject};
use crate::base::clock::Timestamp;
use crate::base::position::{LogPosition, Moment};
use crate::base::sync::RwLock;
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::tags::Tags;
use crate::entry::{DEEPEST_KEPT, Verdict, Verified};
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
    state: RwLock<State>,
}

/// The parts of an entry that the index judges.
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

impl PurgeIndex {
    pub(crate) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            good_until: AtomicU64::new(0),
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

    /// The position up to which the log has been read without a gap.
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
        self.write(|state| {
            state.tail = LogPosition::new(state.tail.ms() + 1, 0);
            state.apply(state.tail, purge.marks());
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
        self.write(|state| state.apply(position, marks.iter().copied()));
    }

    /// Applies a purge of this instance before it is in the log.
    pub(crate) fn apply_pending(&self, purge: &Purge) -> PendingPurge {
        let marks: Vec<(Mark, Fingerprint)> = purge
            .marks()
            .map(|mark| (mark, fingerprint(&mark.selector)))
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
        self.write(|state| {
            state.apply(position, purge.marks());
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

    /// All that is known now. It is copied in steps, between which others look and write: what they
    /// add is later than the tail, which is noted first.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let tail = self.tail();
        let hard = self.copy(|state| &state.hard);
        let soft = self.copy(|state| &state.soft);
        let known = self.read(State::known);
        Snapshot {
            // What a full bucket has forgotten may be anything, for others place by another secret.
            known: Known {
                tail,
                hard: known.hard.max(hard.horizon.latest()),
                soft: known.soft.max(soft.horizon.latest()),
                ..known
            },
            hard: hard.places,
            soft: soft.places,
        }
    }

    /// Takes over what another instance knew, in shares that leave time for others between them.
    /// `known` is what was known of all of them.
    pub(crate) fn inherit(&self, shares: &[Snapshot], known: Known) {
        for share in shares {
            self.write(|state| state.learn(share));
        }
        self.write(|state| state.trust(known));
    }

    fn copy(&self, table: impl Fn(&State) -> &Table) -> Copied {
        let mut copied = Copied::default();
        while self.read(|state| table(state).copy_on(&mut copied)) {}
        copied
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
            let selectors = check.subject().selectors(DEEPEST_KEPT);
            let fingerprints = selectors.iter().map(fingerprint);
            fingerprints.collect()
        };
        check.verified.fingerprints(hash)
    }

    /// The fingerprints of subtrees that are deeper than those kept, if so deep a subtree was ever
    /// purged.
    fn deeper_fingerprints(&self, check: &PurgeCheck<'_>) -> Vec<Fingerprint> {
        let deepest = self.read(|state| state.deepest);
        if deepest <= DEEPEST_KEPT {
            return Vec::new();
        }
        let selectors = check.subject().selectors(deepest);
        let deeper = selectors.iter().filter(|one| one.depth() > DEEPEST_KEPT);
        deeper.map(fingerprint).collect()
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

#[cfg(test)]
mod tests;
