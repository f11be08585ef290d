//! Reading the log to its end, for ever: one task for each cache.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::{Owner, PurgeLog};
use crate::base::clock::Timestamp;
use crate::base::position::LogPosition;
use crate::base::task;
use crate::purge::record::{self, Mark};
use crate::store::{AppendOptions, LogBounds, Memory, Presence, SharedStore, StoreError, Trimmed};

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
    /// When the log was last seen to take a write.
    written: Option<Instant>,
}

/// What the log turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Continuity {
    /// The one read so far.
    Same,
    /// It had records that were trimmed before they were read.
    Missed,
    /// It has lost records.
    Lost,
}

impl Reading {
    fn compare(&mut self, bounds: &LogBounds, read: LogPosition) -> Continuity {
        let last = bounds.last_generated();
        if last < read {
            return Continuity::Lost;
        }
        let found = match (self.count, bounds.added()) {
            (Some(count), Some(added)) if last == read => match added.cmp(&count) {
                std::cmp::Ordering::Less => Continuity::Lost,
                std::cmp::Ordering::Equal => Continuity::Same,
                std::cmp::Ordering::Greater => Continuity::Missed,
            },
            (Some(count), Some(added)) if added <= count => Continuity::Lost,
            _ => Continuity::Same,
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
pub(super) struct Following<F: Owner> {
    owner: Weak<F>,
}

impl<F: Owner> Following<F> {
    pub(super) fn of(owner: &Arc<F>) -> Self {
        Self {
            owner: Arc::downgrade(owner),
        }
    }

    pub(super) async fn run(self) {
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
                    owner.log().index.lost_sight();
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

impl<F: Owner> Drop for Following<F> {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.log().tailing.store(false, Ordering::Release);
        }
    }
}

impl PurgeLog {
    /// Begins to follow the shared log, once, as soon as there is a runtime to do it in.
    pub(crate) fn follow<F: Owner>(&self, owner: &Arc<F>) {
        if self.store.is_none() || self.tailing.load(Ordering::Relaxed) {
            return;
        }
        if !self.tailing.swap(true, Ordering::AcqRel) {
            self.began.get_or_init(Instant::now);
            let following = Following::of(owner);
            // Without a runtime, the next use tries again.
            let _ = task::spawn(following.run());
        }
    }

    /// Makes sure that the log is the one read so far, and reads what there is next, or waits a
    /// while for something. What is read is applied at once, and trusted in the next step.
    async fn step(&self, memory: &Memory, reading: &mut Reading) -> Result<(), StoreError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let asked = self.clock.now();
        self.prove_writable(&**store, reading).await?;
        let (bounds, is_complete) = self.measure(&**store).await?;
        let read = reading.ahead.unwrap_or_else(|| self.index.tail());
        let found = match is_complete {
            true => reading.compare(&bounds, read),
            false => Continuity::Lost,
        };
        match found {
            Continuity::Same => self.skip_trimmed(&bounds, memory),
            Continuity::Missed => self.skip_to(bounds.last_generated(), memory),
            Continuity::Lost => {
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
        for (position, record) in store.log_read(self.index.tail(), BLOCK).await? {
            self.index.apply(position, &record::decode(&record));
            reading.note(position);
        }
        Ok(())
    }

    /// Proves, about once a second, that the log takes writes. One that does not is out of sight:
    /// other instances cannot announce what they change. What could not be appended so far is
    /// tried again.
    async fn prove_writable(
        &self,
        store: &dyn SharedStore,
        reading: &mut Reading,
    ) -> Result<(), StoreError> {
        let is_recent = |proved: Instant| proved.elapsed() < PROOF_INTERVAL;
        if reading.written.is_some_and(is_recent) {
            return Ok(());
        }
        reading.written = None;
        let deadline = Instant::now() + BOUNDS_TIMEOUT;
        store.log_takes_writes(deadline).await?;
        if let Some(appender) = &self.appender
            && appender.holds_any()
        {
            appender.retry(deadline).await?;
        }
        reading.written = Some(Instant::now());
        Ok(())
    }

    /// Everything up to `position` has been read.
    fn advance(&self, position: LogPosition) {
        self.index.advance(position);
        self.progress.advance(position);
    }

    /// What the log holds, and whether that includes the latest records that it is known to have
    /// held. Neither positions nor counts tell for certain: a copy that took over without them
    /// may have been given others since.
    async fn measure(&self, store: &dyn SharedStore) -> Result<(LogBounds, bool), StoreError> {
        // First: what is appended later need not be there yet.
        let (tail, appended) = (self.index.tail(), self.index.appended());
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
        let tail = self.index.tail();
        let now = (bounds.last_generated(), asked);
        let is_read = |(last, _): &(LogPosition, Timestamp)| *last <= tail;
        let Some((_, seen)) = Some(now).filter(is_read).or(end.filter(is_read)) else {
            end.get_or_insert(now);
            return;
        };
        *end = Some(now).filter(|now| !is_read(now));
        self.index.seen_to_the_end(seen, self.bound);
        self.progress.caught_up(tail);
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
        let everything = record::encode([Mark::EVERYTHING]);
        let deadline = Instant::now() + BOUNDS_TIMEOUT;
        // Later than every position of the old log: entries may still name them.
        let known = self.index.tail().max(self.index.appended()).max(read);
        let options = AppendOptions::new().after(known);
        let appended = store.log_append(&everything, options, deadline).await?;
        self.index.restart(appended.position);
        memory.clear();
        Ok(())
    }

    /// Skips what the log has forgotten before it was read.
    fn skip_trimmed(&self, bounds: &LogBounds, memory: &Memory) {
        let tail = self.index.tail();
        match *bounds {
            // Nobody knows what came before the first record: perhaps another log, now lost.
            LogBounds::Held { first, .. } if self.is_unread() => self.skip_to(first, memory),
            LogBounds::Held {
                first,
                trimmed: Trimmed::Some,
                ..
            } if first > tail => self.skip_to(first, memory),
            LogBounds::Empty { last_generated, .. } if last_generated > tail => {
                self.skip_to(last_generated, memory);
                self.index.advance(last_generated);
            }
            _ => {}
        }
    }

    /// Whether nothing is known of the log yet, not even that it was empty.
    fn is_unread(&self) -> bool {
        self.progress.get().is_none() && self.index.tail() == LogPosition::ZERO
    }

    /// Records between the tail and `horizon` may be gone unread.
    fn skip_to(&self, horizon: LogPosition, memory: &Memory) {
        if self.index.raise_horizon(horizon) && self.index.tail() > LogPosition::ZERO {
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

/// How often the log is written to, to see that it can be.
const PROOF_INTERVAL: Duration = Duration::from_secs(1);

/// For the log's own upkeep, which no request waits for.
const BOUNDS_TIMEOUT: Duration = Duration::from_secs(1);

const RETRY_MS: u64 = 500;

#[cfg(test)]
mod tests;
