//! All that this instance knows of purges, behind one lock.

use super::fingerprint::{EVERYTHING, Fingerprint, KIND, fingerprint};
use super::pending::Pending;
use super::snapshot::{Known, Snapshot};
use super::table::{Compact, Table};
use crate::base::position::{LogPosition, Moment};
use crate::entry::Verdict;
use crate::purge::record::Mark;
use crate::purge::{Kind, Selector};

#[derive(Debug)]
pub(super) struct State {
    pub(super) hard: Table,
    pub(super) soft: Table,
    pub(super) everything: Marks,
    /// A bit for each kind of selector that was ever purged. Other kinds are not looked up.
    kinds: u16,
    /// No subtree deeper than this was ever purged.
    pub(super) deepest: u16,
    /// The position of the latest known purge.
    latest: LogPosition,
    /// Entries with an earlier position cannot be verified.
    pub(super) horizon: LogPosition,
    /// The position up to which the log has been read without a gap.
    pub(super) tail: LogPosition,
    /// The latest purge of this instance that the log has taken, read back or not.
    pub(super) appended: LogPosition,
    pub(super) pending: Pending,
    /// The number of purges that were ever pending.
    pub(super) counter: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub(super) hard: LogPosition,
    pub(super) soft: LogPosition,
}

/// A verdict, and whether it lasts until the next purge.
pub(super) struct Found {
    pub(super) verdict: Verdict,
    pub(super) lasts: bool,
}

impl State {
    pub(super) fn new() -> Self {
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

    /// Judges an entry by its position alone, if that suffices.
    pub(super) fn judge_by_position(&self, moment: Moment) -> Option<Found> {
        let position = moment.position;
        // Beyond the tail, the entry knows of records that this instance has not read, or that were
        // in another log, which is lost. The verdict does not last, since the tail moves without a
        // purge.
        if position > self.tail {
            return Some(Found {
                verdict: Verdict::Purged,
                lasts: false,
            });
        }
        if position < self.horizon {
            return Some(Found::lasting(Verdict::Purged));
        }
        // Most entries were stored after the last purge.
        if position >= self.latest && self.pending.is_empty() {
            return Some(Found::lasting(Verdict::Valid));
        }
        None
    }

    pub(super) fn judge(
        &self,
        moment: Moment,
        kept: &[Fingerprint],
        deeper: &[Fingerprint],
    ) -> Found {
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
        for fingerprint in self.purgeable(kept).chain(deeper.iter().copied()) {
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

    /// The fingerprints of an entry that may have been purged: those of kinds that were ever
    /// purged, and no deeper than the deepest purged subtree.
    fn purgeable(&self, kept: &[Fingerprint]) -> impl Iterator<Item = Fingerprint> {
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

    pub(super) fn apply(&mut self, position: LogPosition, marks: impl Iterator<Item = Mark>) {
        self.latest = self.latest.max(position);
        for Mark { selector, soft } in marks {
            self.note_kind(&selector);
            if selector == Selector::EVERYTHING {
                let last = if soft {
                    &mut self.everything.soft
                } else {
                    &mut self.everything.hard
                };
                *last = position.max(*last);
                continue;
            }
            let table = if soft { &mut self.soft } else { &mut self.hard };
            table.note(fingerprint(&selector), Compact::of(position));
        }
    }

    /// What is known beside the selectors.
    pub(super) const fn known(&self) -> Known {
        Known {
            tail: self.tail,
            horizon: self.horizon,
            latest: self.latest,
            hard: self.everything.hard,
            soft: self.everything.soft,
            deepest: self.deepest,
        }
    }

    /// Takes over a share of the selectors that another instance knew.
    pub(super) fn learn(&mut self, share: &Snapshot) {
        let Snapshot { known, hard, soft } = share;
        self.latest = self.latest.max(known.latest);
        self.deepest = self.deepest.max(known.deepest);
        for (table, places) in [(&mut self.hard, hard), (&mut self.soft, soft)] {
            for place in places {
                self.kinds |= 1 << (place.fingerprint & KIND);
                table.note(place.fingerprint, place.position);
            }
        }
    }

    /// Has taken over all that another instance knew up to a position, as if it had read so far.
    pub(super) fn trust(&mut self, known: Known) {
        self.everything.hard = self.everything.hard.max(known.hard);
        self.everything.soft = self.everything.soft.max(known.soft);
        self.latest = self.latest.max(known.hard).max(known.soft);
        self.horizon = self.horizon.max(known.horizon);
        self.tail = self.tail.max(known.tail);
    }

    pub(super) fn note_kind(&mut self, selector: &Selector) {
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

/// The largest table of hard purges: sixteen mebibytes, some 800,000 selectors.
pub(super) const MOST_HARD_BUCKETS: usize = 1 << 17;

/// The largest table of soft purges: two mebibytes. Soft purges are few: applications ask for them,
/// and of changes only those with an unknown outcome make them.
const MOST_SOFT_BUCKETS: usize = 1 << 14;
