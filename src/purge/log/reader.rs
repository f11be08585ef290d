//! Reads the log to its end, again and again: one task for each cache.

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

/// The reader's knowledge of the log.
#[derive(Debug, Default)]
struct Reading {
    /// The number of records that the log had ever been given when it was read to its end, plus
    /// those read since. By this the reader notices a log that was emptied and filled anew, which
    /// goes on with later positions.
    count: Option<u64>,
    /// The last record that was read and applied, beyond the tail of the index. The tail follows
    /// when the log proves to have the record at the old tail still: only then were these its next
    /// records.
    ahead: Option<LogPosition>,
    /// An earlier end of the log that was not read yet, and when it was seen. A log that grows all
    /// the time is never read to its present end.
    end: Option<(LogPosition, Timestamp)>,
    /// When the log was last seen to take a write.
    written: Option<Instant>,
}

/// How the log compares with what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Continuity {
    /// It is the log that was read so far.
    Same,
    /// Records were trimmed before they were read.
    Missed,
    /// The log has lost records.
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

/// The task that reads the log. It ends with its cache. If its runtime ends, it starts anew in
/// another one.
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
            // The pause counts from the beginning of the step: a step that waited for the store
            // need not wait again.
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
    /// Starts to follow the shared log, once, as soon as there is a runtime.
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

    /// Makes sure that the log is the one that was read so far. Then reads the next records, or
    /// waits a while for one. Records are applied at once; the tail follows in the next step.
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
                // This comes last: if `start_over` fails, the next step has to notice the loss
                // again.
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

    /// Notes that the log has been read up to `position`.
    fn advance(&self, position: LogPosition) {
        self.index.advance(position);
        self.progress.advance(position);
    }

    /// The bounds of the log, and whether it still has the latest records that it is known to have
    /// had. Neither positions nor counts prove that: a copy that took over without them may have
    /// got others since.
    async fn measure(&self, store: &dyn SharedStore) -> Result<(LogBounds, bool), StoreError> {
        // These are read first, since a record that is appended later need not be there yet.
        let (tail, appended) = (self.index.tail(), self.index.appended());
        let deadline = Instant::now() + BOUNDS_TIMEOUT;
        let (bounds, has_tail, has_appended) = tokio::join!(
            store.log_bounds(deadline),
            holds(store, tail, deadline),
            // An own record that was read back proves no more than the tail does.
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

    /// Notes the latest moment whose log has been read to its end. That is `asked`, when the log
    /// had these bounds, or the earlier moment in `end`.
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

    /// Purges everything, since the log was emptied or is a copy that lacks records. Other
    /// instances may not know what was lost.
    async fn start_over(
        &self,
        store: &dyn SharedStore,
        read: LogPosition,
        memory: &Memory,
    ) -> Result<(), StoreError> {
        tracing::warn!("the purge log has lost records: purging everything");
        let everything = record::encode([Mark::EVERYTHING]);
        let deadline = Instant::now() + BOUNDS_TIMEOUT;
        // The new record's position is later than every position of the old log, which entries may
        // still have.
        let known = self.index.tail().max(self.index.appended()).max(read);
        let options = AppendOptions::new().after(known);
        let appended = store.log_append(&everything, options, deadline).await?;
        self.index.restart(appended.position);
        memory.clear();
        Ok(())
    }

    /// Skips records that were trimmed before they were read.
    fn skip_trimmed(&self, bounds: &LogBounds, memory: &Memory) {
        let tail = self.index.tail();
        match *bounds {
            // Nobody knows what came before the first record. It may have been another log, which
            // is lost.
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

    /// Raises the horizon: records between the tail and `horizon` may be gone unread.
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

/// How long one read waits for a record, and so how often the log is compared with what was read.
const BLOCK: Duration = Duration::from_secs(1);

/// How often the reader proves that the log takes writes.
const PROOF_INTERVAL: Duration = Duration::from_secs(1);

/// The time limit of the reader's own operations. No request waits for them.
const BOUNDS_TIMEOUT: Duration = Duration::from_secs(1);

const RETRY_MS: u64 = 500;

#[cfg(test)]
mod tests;
