//! The purge log: appending to it, and reading it to its end for ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Purge, View};
use crate::clock::{Clock, Timestamp};
use crate::error::PurgeError;
use crate::position::LogPosition;
use crate::store::{Appended, LogBounds, Memory, Presence, SharedStore, StoreError, Trimmed};
use crate::task;

/// The purge log and this instance's view of it. Without a shared store the view is the log.
#[derive(Debug)]
pub(crate) struct Log {
    view: View,
    store: Option<Arc<dyn SharedStore>>,
    clock: Arc<dyn Clock>,
    /// How long entries are trusted while the log is out of sight.
    bound: Duration,
    tailing: AtomicBool,
    /// When the log was first followed.
    began: OnceLock<Instant>,
    /// How far the log has been read, once it was read to its end.
    progress: watch::Sender<Option<LogPosition>>,
}

/// What emptying the log's knowledge empties as well.
pub(crate) trait Forget: Send + Sync + 'static {
    /// Tier 1.
    fn memory(&self) -> &Memory;
    fn log(&self) -> &Log;
}

impl Log {
    pub(crate) fn new(
        store: Option<Arc<dyn SharedStore>>,
        clock: Arc<dyn Clock>,
        bound: Duration,
        capacity: usize,
    ) -> Self {
        let view = View::new(capacity);
        if store.is_none() {
            view.always_current();
        }
        Self {
            view,
            store,
            clock,
            bound,
            tailing: AtomicBool::new(false),
            began: OnceLock::new(),
            progress: watch::Sender::new(None),
        }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn bound(&self) -> Duration {
        self.bound
    }

    /// Appends a purge and applies it here. It holds for every instance once this returns.
    pub(crate) async fn append(&self, purge: &Purge, deadline: Instant) -> Result<(), PurgeError> {
        let Appended { replicas, .. } = self.append_at(purge, deadline).await?;
        match replicas {
            Ok(acknowledged) if acknowledged >= purge.replicas => Ok(()),
            replicas => Err(PurgeError::not_replicated(purge.replicas, replicas)),
        }
    }

    async fn append_at(&self, purge: &Purge, deadline: Instant) -> Result<Appended, PurgeError> {
        let Some(store) = &self.store else {
            let position = self.view.append(purge);
            let replicas = Ok(0);
            return Ok(Appended { position, replicas });
        };
        let known = self.view.tail().max(self.view.appended());
        let record = purge.to_record();
        let appended = match purge.replicas {
            0 => {
                let position = store.log_append(&record, deadline).await;
                position.map(|position| Appended {
                    position,
                    replicas: Ok(0),
                })
            }
            replicas => {
                store
                    .log_append_replicated(&record, replicas, deadline)
                    .await
            }
        };
        let appended = appended.map_err(PurgeError::not_appended)?;
        self.view.apply_own(appended.position, purge, known);
        Ok(appended)
    }

    /// As [`Log::append`], and waits until the log has been read up to the purge, so that what is
    /// stored next is known to be later than every purge before it. Returns that position.
    pub(crate) async fn append_and_read(
        &self,
        purge: &Purge,
        deadline: Instant,
    ) -> Result<LogPosition, PurgeError> {
        let Appended { position, .. } = self.append_at(purge, deadline).await?;
        if self.store.is_some() {
            let mut progress = self.progress.subscribe();
            let read = progress.wait_for(|read| *read >= Some(position));
            if timeout_at(deadline, read).await.is_err() {
                return Err(PurgeError::not_appended(StoreError::TimedOut));
            }
        }
        Ok(position)
    }

    /// Waits for the log to be read to its end for the first time, within the deadline: a starting
    /// instance knows of no purge, so it may not trust the shared store before.
    pub(crate) async fn first_read(&self, deadline: Instant) {
        let mut progress = self.progress.subscribe();
        let read = progress.wait_for(Option::is_some);
        let _in_time_or_not = timeout_at(deadline, read).await;
    }

    /// Whether the log may soon be read to its end for the first time. Not for long: where it
    /// cannot be read at all (no permission, say), requests do not wait for it.
    pub(crate) fn is_starting(&self) -> bool {
        let recently = |began: &Instant| began.elapsed() < START;
        self.store.is_some()
            && self.progress.borrow().is_none()
            && self.began.get().is_none_or(recently)
    }

    /// Begins to follow the shared log, once, as soon as there is a runtime to do it in.
    pub(crate) fn follow<F: Forget>(&self, owner: &Arc<F>) {
        if self.store.is_none() || self.tailing.load(Ordering::Relaxed) {
            return;
        }
        if !self.tailing.swap(true, Ordering::AcqRel) {
            self.began.get_or_init(Instant::now);
            let follower = Following {
                owner: Arc::downgrade(owner),
            };
            let _tried_again_without_a_runtime = task::spawn(follower.run());
        }
    }
}

/// What the reader knows of the log that it reads.
#[derive(Debug, Default)]
struct Reading {
    /// How many records the log had ever been given when it was read to its end, and those read
    /// since: a log that is emptied and filled anew goes on with later positions.
    count: Option<u64>,
    /// The last record read and applied, beyond the view's tail. The tail follows once the log is
    /// seen to hold the old one still: only then were these its next records.
    ahead: Option<LogPosition>,
    /// Where the log ended at an earlier moment, not read so far then. A log that always grows
    /// meanwhile is never read to its end of now.
    end: Option<(LogPosition, Timestamp)>,
}

/// What the log turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The one read so far.
    Same,
    /// It had records that were trimmed before they were read.
    Missed,
    /// It has lost records.
    Lost,
}

impl Reading {
    fn compare(&mut self, bounds: &LogBounds, read: LogPosition) -> Found {
        let last = bounds.last_generated();
        if last < read {
            return Found::Lost;
        }
        let found = match (self.count, bounds.added()) {
            (Some(count), Some(added)) if last == read => match added.cmp(&count) {
                std::cmp::Ordering::Less => Found::Lost,
                std::cmp::Ordering::Equal => Found::Same,
                std::cmp::Ordering::Greater => Found::Missed,
            },
            (Some(count), Some(added)) if added <= count => Found::Lost,
            _ => Found::Same,
        };
        if last == read {
            self.count = bounds.added();
        }
        found
    }

    fn note(&mut self, position: LogPosition) {
        self.count = self.count.map(|count| count.saturating_add(1));
        self.ahead = Some(position);
    }
}

/// The task that reads the log. It ends with its cache, and starts anew in another runtime
/// if the one it ran in has gone.
struct Following<F: Forget> {
    owner: Weak<F>,
}

impl<F: Forget> Following<F> {
    async fn run(self) {
        let mut reading = Reading::default();
        let mut last_good = Instant::now();
        loop {
            let Some(owner) = self.owner.upgrade() else {
                return;
            };
            let began = Instant::now();
            let step = owner.log().step(owner.memory(), &mut reading).await;
            match step {
                Ok(()) => last_good = Instant::now(),
                Err(_) if last_good.elapsed() >= owner.log().bound => {
                    owner.log().view.lost_sight();
                }
                Err(_) => {}
            }
            drop(owner);
            // Counted from its beginning: who has waited for the store need not wait again.
            if step.is_err() {
                let wait = fastrand::u64(RETRY_MS / 2..RETRY_MS);
                tokio::time::sleep_until(began + Duration::from_millis(wait)).await;
            }
        }
    }
}

impl<F: Forget> Drop for Following<F> {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.log().tailing.store(false, Ordering::Release);
        }
    }
}

impl Log {
    /// Makes sure that the log is the one read so far, and reads what there is next, or waits a
    /// while for something. What is read is applied at once, and trusted in the next step.
    async fn step(&self, memory: &Memory, reading: &mut Reading) -> Result<(), StoreError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let asked = self.clock.now();
        let (bounds, is_complete) = self.measure(&**store).await?;
        let read = reading.ahead.unwrap_or_else(|| self.view.tail());
        let found = match is_complete {
            true => reading.compare(&bounds, read),
            false => Found::Lost,
        };
        match found {
            Found::Same => self.skip_trimmed(&bounds, memory),
            Found::Missed => self.skip_to(bounds.last_generated(), memory),
            Found::Lost => {
                self.start_over(&**store, read, memory).await?;
                // Not before: what gave the loss away has to do so again if that failed.
                *reading = Reading::default();
                return Ok(());
            }
        }
        if let Some(position) = reading.ahead.take() {
            self.advance(position);
        }
        self.reached(&bounds, asked, &mut reading.end);
        for (position, record) in store.log_read(self.view.tail(), BLOCK).await? {
            self.view.apply(position, &Purge::from_record(&record));
            reading.note(position);
        }
        Ok(())
    }

    /// Everything up to `position` has been read.
    fn advance(&self, position: LogPosition) {
        self.view.advance(position);
        let caught_up = |progress: &mut Option<LogPosition>| {
            let known = progress.is_some();
            *progress = progress.map(|_| position);
            known
        };
        self.progress.send_if_modified(caught_up);
    }

    /// What the log holds, and whether that includes the latest records that it is known to have
    /// held. Neither positions nor counts tell for certain: a copy that took over without them
    /// may have been given others since.
    async fn measure(&self, store: &dyn SharedStore) -> Result<(LogBounds, bool), StoreError> {
        // First: what is appended later need not be there yet.
        let (tail, appended) = (self.view.tail(), self.view.appended());
        let deadline = Instant::now() + BOUNDS_TIMEOUT;
        let (bounds, has_tail, has_appended) = tokio::join!(
            store.log_bounds(deadline),
            holds(store, tail, deadline),
            // Once it has been read back, it says no more than the tail does.
            holds(
                store,
                if appended > tail {
                    appended
                } else {
                    LogPosition::ZERO
                },
                deadline
            ),
        );
        let bounds = bounds?;
        let complete =
            is_held(tail, has_tail?, &bounds) && is_held(appended, has_appended?, &bounds);
        Ok((bounds, complete))
    }

    /// Notes up to which moment all that the log held has been read: `asked`, when it had these
    /// bounds, or the earlier one of `end`.
    fn reached(
        &self,
        bounds: &LogBounds,
        asked: Timestamp,
        end: &mut Option<(LogPosition, Timestamp)>,
    ) {
        let tail = self.view.tail();
        let now = (bounds.last_generated(), asked);
        let is_read = |(last, _): &(LogPosition, Timestamp)| *last <= tail;
        let Some((_, seen)) = Some(now).filter(is_read).or(end.filter(is_read)) else {
            end.get_or_insert(now);
            return;
        };
        *end = Some(now).filter(|now| !is_read(now));
        self.view.seen_to_the_end(seen, self.bound);
        let first_time = |progress: &mut Option<LogPosition>| {
            let is_first = progress.is_none();
            *progress = Some(tail);
            is_first
        };
        self.progress.send_if_modified(first_time);
    }

    /// The log was emptied, or is a copy that lacks records. Other instances may not know what was
    /// lost, so everything goes.
    async fn start_over(
        &self,
        store: &dyn SharedStore,
        read: LogPosition,
        memory: &Memory,
    ) -> Result<(), StoreError> {
        tracing::warn!("the purge log has lost records: purging everything");
        let everything = Purge::everything().to_record();
        let deadline = Instant::now() + BOUNDS_TIMEOUT;
        // Later than every position of the old log: entries may still name them.
        let known = self.view.tail().max(self.view.appended()).max(read);
        let position = store.log_append_after(&everything, known, deadline).await?;
        self.view.restart(position);
        memory.clear();
        Ok(())
    }

    /// Forgets what the log has forgotten, read or not.
    fn skip_trimmed(&self, bounds: &LogBounds, memory: &Memory) {
        let tail = self.view.tail();
        match *bounds {
            // Nobody knows what came before the first record: perhaps another log, now lost.
            LogBounds::Held { first, .. } if self.is_unread() => self.skip_to(first, memory),
            LogBounds::Held {
                first,
                trimmed: Trimmed::Some,
                ..
            } => {
                if first > tail {
                    self.skip_to(first, memory);
                }
                self.view.forget_before(first);
            }
            LogBounds::Empty { last_generated, .. } if last_generated > tail => {
                self.skip_to(last_generated, memory);
                self.view.advance(last_generated);
            }
            _ => {}
        }
    }

    /// Whether nothing is known of the log yet, not even that it was empty.
    fn is_unread(&self) -> bool {
        self.progress.borrow().is_none() && self.view.tail() == LogPosition::ZERO
    }

    /// Records between the tail and `horizon` may be gone unread.
    fn skip_to(&self, horizon: LogPosition, memory: &Memory) {
        if self.view.raise_horizon(horizon) && self.view.tail() > LogPosition::ZERO {
            tracing::warn!("purges were trimmed from the log before they were read");
            memory.clear();
        }
    }
}

async fn holds(
    store: &dyn SharedStore,
    position: LogPosition,
    deadline: Instant,
) -> Result<Presence, StoreError> {
    match position {
        LogPosition::ZERO => Ok(Presence::Unknown),
        position => store.log_holds(position, deadline).await,
    }
}

/// Whether a log within these bounds can be the one that had a record at `position`.
fn is_held(position: LogPosition, presence: Presence, bounds: &LogBounds) -> bool {
    match *bounds {
        _ if position == LogPosition::ZERO => true,
        LogBounds::Held { first, trimmed, .. } if position < first => trimmed == Trimmed::Some,
        LogBounds::Held { last_generated, .. } => {
            position <= last_generated && presence != Presence::Absent
        }
        LogBounds::Empty { last_generated, .. } => position <= last_generated,
        LogBounds::Missing => false,
    }
}

/// How long one read waits for a record: the log is compared with what was read this often.
const BLOCK: Duration = Duration::from_secs(1);

/// For the log's own upkeep, which no request waits for.
const BOUNDS_TIMEOUT: Duration = Duration::from_secs(1);

const RETRY_MS: u64 = 500;

/// How long after it was first followed the log is worth waiting for.
const START: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;

    use super::*;
    use crate::store::{BoxFuture, Health};

    /// A log to which others append `between` records before it is read or looked at.
    #[derive(Debug)]
    struct Busy {
        records: Mutex<u64>,
        between: u64,
    }

    impl Busy {
        fn others_append(&self) -> u64 {
            let mut records = self.records.lock().unwrap();
            *records += self.between;
            *records
        }
    }

    impl SharedStore for Busy {
        fn get<'a>(
            &'a self,
            _: &'a str,
            _: Instant,
        ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
            unimplemented!()
        }
        fn set<'a>(
            &'a self,
            _: &'a str,
            _: Bytes,
            _: Duration,
            _: Instant,
        ) -> BoxFuture<'a, Result<(), StoreError>> {
            unimplemented!()
        }
        fn remove<'a>(
            &'a self,
            _: &'a [String],
            _: Instant,
        ) -> BoxFuture<'a, Result<u64, StoreError>> {
            unimplemented!()
        }
        fn ping(&self, _: Instant) -> BoxFuture<'_, Result<Duration, StoreError>> {
            unimplemented!()
        }
        fn health(&self) -> Health {
            unimplemented!()
        }
        fn log_append<'a>(
            &'a self,
            _: &'a [u8],
            _: Instant,
        ) -> BoxFuture<'a, Result<LogPosition, StoreError>> {
            unimplemented!()
        }
        fn log_read(
            &self,
            after: LogPosition,
            _: Duration,
        ) -> BoxFuture<'_, Result<Vec<(LogPosition, Bytes)>, StoreError>> {
            let last = self.others_append();
            let record = Bytes::from(Purge::tag("other").to_record());
            let records =
                (after.ms() + 1..=last).map(|ms| (LogPosition::new(ms, 0), record.clone()));
            Box::pin(std::future::ready(Ok(records.take(1000).collect())))
        }
        fn log_bounds(&self, _: Instant) -> BoxFuture<'_, Result<LogBounds, StoreError>> {
            let last = LogPosition::new(self.others_append(), 0);
            let bounds = LogBounds::Held {
                first: LogPosition::new(1, 0),
                last,
                last_generated: last,
                trimmed: Trimmed::Nothing,
                added: Some(last.ms()),
            };
            Box::pin(std::future::ready(Ok(bounds)))
        }
        fn note_mismatch(&self) {}
    }

    #[tokio::test]
    async fn a_log_that_keeps_growing_while_it_is_read_stays_in_sight() {
        for between in [0, 1] {
            let store = Busy {
                records: Mutex::new(1),
                between,
            };
            let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
            let log = Log::new(
                Some(Arc::new(store)),
                Arc::clone(&clock),
                Duration::from_secs(5),
                100,
            );
            let memory = Memory::new(1 << 20);
            let mut reading = Reading::default();
            for _ in 0..1000 {
                log.step(&memory, &mut reading).await.unwrap();
            }
            assert!(
                log.view.is_current(clock.now()),
                "{between}: read up to {}",
                log.view.tail()
            );
        }
    }
}
