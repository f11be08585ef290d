//! Purges, those that wait for their position included, and fetches meanwhile.
//!
//! The content is changed before its purge is applied, as handlers do. So whoever has fetched the
//! old content must be told so, by every instance, whatever the order.

use std::sync::Arc;
use std::time::Duration;

use shuttle::thread;

use super::{NOW, check, join, key};
use crate::base::position::{LogPosition, Moment};
use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::base::tags::Tags;
use crate::entry::Verified;
use crate::key::Key;
use crate::purge::{Purge, PurgeCheck, PurgeIndex, Validity};

#[test]
fn no_judgement_after_a_purge_forgets_it() {
    check(|| {
        let (purges, page) = (index(), Arc::new(Page::default()));
        let old = Arc::new(page.fetch(&purges));
        let is_purged = Arc::<AtomicBool>::default();
        let judges = (0..2).map(|_| {
            let (purges, old, is_purged) = (purges.clone(), old.clone(), is_purged.clone());
            thread::spawn(move || {
                let is_over = is_purged.load(Ordering::SeqCst);
                let validity = old.validity(&purges);
                assert!(!is_over || validity == Validity::Purged);
            })
        });
        let judges: Vec<_> = judges.collect();
        purges.append(&page.purge());
        is_purged.store(true, Ordering::SeqCst);
        join(judges);
        assert_eq!(old.validity(&purges), Validity::Purged);
    });
}

#[test]
fn what_was_fetched_before_a_change_is_never_valid_after_its_purge() {
    check(|| {
        let (purges, page) = (index(), Arc::new(Page::default()));
        let fetches: Vec<_> = (0..2)
            .map(|_| {
                let (purges, page) = (purges.clone(), page.clone());
                thread::spawn(move || {
                    let fetched = page.fetch(&purges);
                    // The verdict is remembered.
                    let _before = fetched.validity(&purges);
                    fetched
                })
            })
            .collect();
        page.change();
        purges.append(&page.purge());
        for fetch in fetches {
            fetch.join().unwrap().is_old_only_if_purged(&purges);
        }
        assert_eq!(page.fetch(&purges).validity(&purges), Validity::Valid);
    });
}

#[test]
fn what_was_fetched_before_a_change_is_nowhere_valid_once_its_purge_has_its_position() {
    check(|| {
        let (here, elsewhere) = (index(), index());
        let (page, log) = (Arc::new(Page::default()), Arc::new(Log::default()));
        let fetches: Vec<_> = (0..2)
            .map(|_| {
                let (here, page) = (here.clone(), page.clone());
                thread::spawn(move || {
                    let fetched = page.fetch(&here);
                    let is_valid = fetched.validity(&here) == Validity::Valid;
                    let goes_out = is_valid && !fetched.is_pending(&here);
                    (fetched, goes_out)
                })
            })
            .collect();
        let reader = {
            let (here, log) = (here.clone(), log.clone());
            thread::spawn(move || log.read(&here))
        };
        let other = {
            let log = log.clone();
            thread::spawn(move || log.append(&Purge::tag("another")))
        };
        page.change();
        let purge = page.purge();
        let pending = here.apply_pending(&purge);
        let fetched_while_pending = page.fetch(&here);
        let known = here.tail();
        let position = log.append(&purge);
        here.settle(&pending, &purge, position, known);
        join([reader]);
        let _position = other.join().unwrap();
        log.read(&here);
        log.read(&elsewhere);
        for fetch in fetches {
            let (fetched, goes_out) = fetch.join().unwrap();
            fetched.is_old_only_if_purged(&here);
            if goes_out {
                fetched.as_stored().is_old_only_if_purged(&here);
                fetched.as_stored().is_old_only_if_purged(&elsewhere);
            }
        }
        fetched_while_pending.is_old_only_if_purged(&here);
        let after = page.fetch(&here);
        assert!(!after.is_pending(&here));
        for index in [&here, &elsewhere] {
            assert_eq!(after.as_stored().validity(index), Validity::Valid);
        }
    });
}

#[test]
fn what_is_fetched_while_a_purge_is_pending_is_valid_here() {
    check(|| {
        let (here, page) = (index(), Arc::new(Page::default()));
        let fetch = {
            let (here, page) = (here.clone(), page.clone());
            thread::spawn(move || page.fetch(&here))
        };
        page.change();
        // It never gets a position.
        let _pending = here.apply_pending(&page.purge());
        fetch.join().unwrap().is_old_only_if_purged(&here);
        let after = page.fetch(&here);
        assert_eq!(after.validity(&here), Validity::Valid);
        assert!(after.is_pending(&here));
    });
}

/// A page of which the number is the content.
#[derive(Default)]
struct Page {
    number: AtomicUsize,
}

impl Page {
    fn change(&self) {
        self.number.store(1, Ordering::SeqCst);
    }

    fn purge(&self) -> Purge {
        Purge::tag("page")
    }

    /// What is known of purges is noted before the content is made.
    fn fetch(&self, purges: &PurgeIndex) -> Fetched {
        let moment = purges.moment();
        let number = self.number.load(Ordering::SeqCst);
        Fetched::new(number, moment)
    }
}

struct Fetched {
    key: Key,
    tags: Tags,
    number: usize,
    moment: Moment,
    verified: Verified,
}

impl Fetched {
    fn new(number: usize, moment: Moment) -> Self {
        Self {
            key: key(),
            tags: ["page"].iter().collect(),
            number,
            moment,
            verified: Verified::never(),
        }
    }

    /// As another instance reads it from the store.
    fn as_stored(&self) -> Self {
        Self::new(self.number, Moment::stored(self.moment.position))
    }

    fn check(&self) -> PurgeCheck<'_> {
        PurgeCheck {
            key: &self.key,
            tags: &self.tags,
            has_query_rule: false,
            moment: self.moment,
            stored: NOW,
            verified: &self.verified,
        }
    }

    fn validity(&self, purges: &PurgeIndex) -> Validity {
        purges.judge(&self.check(), NOW, Duration::from_secs(5))
    }

    fn is_pending(&self, purges: &PurgeIndex) -> bool {
        purges.is_pending_for(&self.check())
    }

    fn is_old_only_if_purged(&self, purges: &PurgeIndex) {
        assert!(self.number == 1 || self.validity(purges) == Validity::Purged);
    }
}

/// What every instance reads.
#[derive(Default)]
struct Log {
    records: Mutex<Vec<Purge>>,
}

impl Log {
    fn append(&self, purge: &Purge) -> LogPosition {
        let mut records = self.records.lock();
        records.push(purge.clone());
        LogPosition::new(records.len() as u64, 0)
    }

    /// Reads all that the log has now.
    fn read(&self, index: &PurgeIndex) {
        let records = self.records.lock().clone();
        for (purge, ms) in records.iter().zip(1..) {
            let position = LogPosition::new(ms, 0);
            if position > index.tail() {
                let marks: Vec<_> = purge.marks().collect();
                index.apply(position, &marks);
                index.advance(position);
            }
        }
    }
}

/// Of an instance that has the log in sight.
fn index() -> Arc<PurgeIndex> {
    let index = PurgeIndex::new();
    index.always_current();
    Arc::new(index)
}
