//! This instance's view of the purge log: for every selector, its last purge.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::{Purge, Selector};
use crate::base::clock::Timestamp;
use crate::base::position::LogPosition;
use crate::base::tags::Tags;
use crate::entry::Verified;
use crate::key::Key;

/// What the log says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// No later purge matches it.
    Valid,
    /// A later soft purge matches it: stale, but servable while it is refreshed.
    Soft,
    /// A later purge matches it, or may.
    Purged,
    /// The log has been out of sight for too long to say.
    Unknown,
}

/// The last purge of every selector, and how far the log has been read.
#[derive(Debug)]
pub(crate) struct PurgeIndex {
    /// Moves whenever a purge is applied: an entry verified at this version need not be
    /// verified again.
    version: AtomicU64,
    /// Until when (ms) the log is known to hold nothing unread.
    good_until: AtomicU64,
    capacity: usize,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    marks: HashMap<Selector, Marks>,
    everything: Marks,
    /// No purge that is known comes after this.
    latest: LogPosition,
    /// The selectors in the order of their purges, to forget the oldest first.
    order: VecDeque<(LogPosition, Selector)>,
    /// Entries from before it cannot be verified: records up to here are forgotten.
    horizon: LogPosition,
    /// Up to where the log has been read without a gap.
    tail: LogPosition,
    /// The latest purge of this instance that the log has taken, read back or not.
    appended: LogPosition,
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
    pub(crate) position: LogPosition,
    pub(crate) stored: Timestamp,
    pub(crate) verified: &'a Verified,
}

impl PurgeIndex {
    /// An empty view that remembers the last purge of at most `capacity` selectors.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            version: AtomicU64::new(0),
            good_until: AtomicU64::new(0),
            capacity,
            state: RwLock::default(),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Up to where the log has been read without a gap: what a new entry carries.
    pub(crate) fn tail(&self) -> LogPosition {
        self.read(|state| state.tail)
    }

    /// How many selectors' purges are remembered.
    pub(crate) fn len(&self) -> usize {
        self.read(|state| state.marks.len())
    }

    /// The latest purge of this instance that the log has taken.
    pub(crate) fn appended(&self) -> LogPosition {
        self.read(|state| state.appended)
    }

    /// There is no log but this one.
    pub(crate) fn always_current(&self) {
        self.good_until.store(u64::MAX, Ordering::Release);
    }

    /// Appends to the log that is only here.
    pub(crate) fn append(&self, purge: &Purge) -> LogPosition {
        self.write(|state| {
            state.tail = state.tail.next();
            state.apply(state.tail, purge, self.capacity);
            state.tail
        })
    }

    /// The log was read to its end at `now`: it is good for `bound` from then.
    pub(crate) fn seen_to_the_end(&self, now: Timestamp, bound: Duration) {
        let until = now.saturating_add(bound).as_millis();
        self.good_until.store(until, Ordering::Release);
    }

    /// The log has been out of sight for as long as it may be. The wall clock, by which
    /// [`PurgeIndex::seen_to_the_end`] was told, may have been set back meanwhile.
    pub(crate) fn lost_sight(&self) {
        self.good_until.store(0, Ordering::Release);
    }

    /// Whether the log is in sight.
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        now.as_millis() <= self.good_until.load(Ordering::Acquire)
    }

    /// What the purges say of an entry. Costs two comparisons while the log has not moved.
    pub(crate) fn judge(
        &self,
        check: &PurgeCheck<'_>,
        now: Timestamp,
        bound: Duration,
    ) -> Validity {
        if !self.is_current(now) && !is_recent(check.stored, now, bound) {
            return Validity::Unknown;
        }
        let version = self.version();
        if check.verified.at(version) {
            return Validity::Valid;
        }
        let validity = self.read(|state| state.judge(check));
        if validity == Validity::Valid {
            check.verified.note(version);
        }
        validity
    }

    /// Applies a purge that stands at `position`. The tail stays where it is: an instance's own
    /// purge says nothing of the records of others before it.
    pub(crate) fn apply(&self, position: LogPosition, purge: &Purge) {
        self.write(|state| state.apply(position, purge, self.capacity));
    }

    /// Applies a purge of this instance, which the log has taken at `position`; `known` was
    /// known of the log before. A log that gives out an earlier position now is another one, and
    /// entries that name later positions of the old one cannot be compared with it: they go.
    pub(crate) fn apply_own(&self, position: LogPosition, purge: &Purge, known: LogPosition) {
        self.write(|state| {
            state.apply(position, purge, self.capacity);
            state.appended = state.appended.max(position);
            if position <= known {
                state.horizon = state.horizon.max(known.next());
            }
        });
    }

    /// The log has been read without a gap up to `position`.
    pub(crate) fn advance(&self, position: LogPosition) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.tail = state.tail.max(position);
    }

    /// The log retains nothing from before `first`.
    pub(crate) fn forget_before(&self, first: LogPosition) {
        let stale = |state: &State| {
            let oldest = state.order.front();
            oldest.is_some_and(|(position, _)| *position < first)
        };
        if self.read(stale) {
            self.write(|state| {
                while stale(state) {
                    state.forget_oldest();
                }
            });
        }
    }

    /// Records up to `horizon` are not to be had any more: nothing older can be verified.
    /// Whether that is news.
    pub(crate) fn raise_horizon(&self, horizon: LogPosition) -> bool {
        self.write(|state| {
            let is_news = state.horizon < horizon;
            state.horizon = state.horizon.max(horizon);
            is_news
        })
    }

    /// The log is another one than was read so far (emptied, or failed over to a copy that
    /// lacks records): all that was known is void, and reading begins anew after `tail`.
    /// But for what comes after: purges of this instance that the new log has taken already.
    pub(crate) fn restart(&self, tail: LogPosition) {
        self.write(|state| {
            let later = |marks: &Marks| marks.hard > tail || marks.soft > tail;
            state.marks.retain(|_selector, marks| later(marks));
            state.order.retain(|(position, _selector)| *position > tail);
            if !later(&state.everything) {
                state.everything = Marks::default();
            }
            state.appended = state.appended.max(tail);
            state.horizon = tail;
            state.tail = tail;
        });
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The version moves after the state has: whoever sees the new version sees the purge,
    /// and whoever noted the old one has to look again.
    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        self.version.fetch_add(1, Ordering::Release);
        result
    }
}

/// Whether an entry was stored within `bound` of now. What is said to come from the future is
/// the work of another clock, or of this one before it was set back.
fn is_recent(stored: Timestamp, now: Timestamp, bound: Duration) -> bool {
    now <= stored.saturating_add(bound) && stored <= now.saturating_add(bound)
}

impl State {
    fn judge(&self, check: &PurgeCheck<'_>) -> Validity {
        let position = check.position;
        // Beyond the tail: it knows of records that this instance has not read, or that were in
        // another log, which is lost.
        if position < self.horizon || position > self.tail {
            return Validity::Purged;
        }
        // Most often: what has just been stored, or has been since the last purge.
        if position >= self.latest {
            return Validity::Valid;
        }
        let mut last = self.everything;
        if !self.marks.is_empty() {
            let tags = check.tags.iter().map(Selector::tag);
            for selector in Selector::matching(check.key).into_iter().chain(tags) {
                if let Some(marks) = self.marks.get(&selector) {
                    last.hard = last.hard.max(marks.hard);
                    last.soft = last.soft.max(marks.soft);
                }
            }
        }
        if last.hard > position {
            Validity::Purged
        } else if last.soft > position {
            Validity::Soft
        } else {
            Validity::Valid
        }
    }

    fn apply(&mut self, position: LogPosition, purge: &Purge, capacity: usize) {
        for selector in &purge.selectors {
            self.mark(*selector, position, purge.soft);
        }
        while self.order.len() > capacity {
            self.forget_oldest();
        }
    }

    fn mark(&mut self, selector: Selector, position: LogPosition, soft: bool) {
        self.latest = self.latest.max(position);
        let is_everything = selector == Selector::EVERYTHING;
        let marks = match is_everything {
            true => &mut self.everything,
            false => self.marks.entry(selector).or_default(),
        };
        let place = match soft {
            true => &mut marks.soft,
            false => &mut marks.hard,
        };
        // An instance's own purge comes a second time, from the log.
        if *place < position {
            *place = position;
            if !is_everything {
                self.order.push_back((position, selector));
            }
        }
    }

    /// Forgets the oldest record; what is older than it can no longer be verified.
    fn forget_oldest(&mut self) {
        let Some((position, selector)) = self.order.pop_front() else {
            return;
        };
        self.horizon = self.horizon.max(position);
        if let Some(marks) = self.marks.get(&selector)
            && marks.hard <= position
            && marks.soft <= position
        {
            self.marks.remove(&selector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(5);
    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn judged(index: &PurgeIndex, position: LogPosition, stored: Timestamp) -> Validity {
        let key = Key::of_value("n", "k");
        let check = PurgeCheck {
            key: &key,
            tags: &["tag"].iter().collect(),
            position,
            stored,
            verified: &Verified::never(),
        };
        index.judge(&check, NOW, BOUND)
    }

    fn in_sight() -> PurgeIndex {
        let index = PurgeIndex::new(100);
        index.advance(LogPosition::new(10, 0));
        index.seen_to_the_end(NOW, BOUND);
        index
    }

    #[test]
    fn an_entry_from_beyond_what_was_read_is_not_valid() {
        let index = in_sight();
        let at = |ms| judged(&index, LogPosition::new(ms, 0), NOW);
        assert_eq!((at(10), at(11)), (Validity::Valid, Validity::Purged));
    }

    #[test]
    fn an_own_purge_at_a_position_that_was_there_before_counts_all_the_same() {
        let index = in_sight();
        let known = LogPosition::new(10, 0);
        index.apply_own(LogPosition::new(3, 0), &Purge::tag("tag"), known);
        assert_eq!(judged(&index, known, NOW), Validity::Purged);
    }

    #[test]
    fn an_own_purge_counts_until_it_is_read_back_and_after() {
        let index = in_sight();
        let (known, own) = (LogPosition::new(10, 0), LogPosition::new(12, 0));
        index.apply_own(own, &Purge::tag("tag"), known);
        assert_eq!(index.appended(), own);
        assert_eq!(judged(&index, known, NOW), Validity::Purged);
        index.apply(own, &Purge::tag("tag"));
        index.advance(own);
        assert_eq!(judged(&index, known, NOW), Validity::Purged);
        assert_eq!(judged(&index, own, NOW), Validity::Valid);
        assert_eq!(index.read(|state| state.order.len()), 1, "noted once");
    }

    #[test]
    fn out_of_sight_only_what_is_recent_by_this_clock_is_valid() {
        let index = in_sight();
        index.lost_sight();
        let stored = |stored| judged(&index, LogPosition::new(10, 0), stored);
        assert_eq!(stored(NOW.saturating_sub(BOUND)), Validity::Valid);
        assert_eq!(stored(NOW.saturating_add(BOUND)), Validity::Valid);
        assert_eq!(stored(NOW.saturating_sub(BOUND * 2)), Validity::Unknown);
        assert_eq!(stored(NOW.saturating_add(BOUND * 2)), Validity::Unknown);
    }

    #[test]
    fn an_own_purge_that_a_new_log_took_at_once_survives_the_restart() {
        let index = in_sight();
        let (restart, own) = (LogPosition::new(11, 0), LogPosition::new(12, 0));
        index.apply_own(own, &Purge::tag("tag"), LogPosition::new(10, 0));
        index.restart(restart);
        assert_eq!(judged(&index, restart, NOW), Validity::Purged);
        assert_eq!(index.appended(), own);
        index.apply(own, &Purge::tag("tag"));
        index.advance(own);
        assert_eq!(judged(&index, own, NOW), Validity::Valid);
        assert_eq!(index.read(|state| state.order.len()), 1, "noted once");
    }
}
