//! Reads the log to its end, again and again: one task for each cache.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::reading::{Continuity, Reading};
use super::snapshot::INTERVAL_AT_REST;
use super::{Owner, PurgeLog};
use crate::base::clock::Timestamp;
use crate::base::position::LogPosition;
use crate::base::task;
use crate::purge::index::Known;
use crate::purge::record::{self, Mark};
use crate::store::{AppendOptions, LogBounds, Memory, Presence, SharedStore, StoreError, Trimmed};

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
        if !std::mem::replace(&mut reading.has_looked, true)
            && self.is_unread()
            && let Err(error) = self.inherit(&**store).await
        {
            tracing::debug!(%error, "what others know of purges could not be read");
        }
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
                *reading = Reading {
                    refused: reading.refused,
                    ..Reading::default()
                };
                return Ok(());
            }
        }
        if let Some(position) = reading.ahead.take() {
            self.advance(position);
        }
        self.reached(&bounds, asked, reading);
        for (position, record) in store.log_read(self.index.tail(), BLOCK).await? {
            self.index.apply(position, &record::decode(&record));
            reading.note(position);
        }
        self.save_if_due(reading);
        Ok(())
    }

    /// Takes over what another instance knew, if the log has the record still up to which it had
    /// read: then all that came later is there as well.
    async fn inherit(&self, store: &dyn SharedStore) -> Result<(), StoreError> {
        let shares = self.snapshots.load(store).await?;
        let Some(known) = shares.iter().map(|share| share.known).reduce(Known::and) else {
            return Ok(());
        };
        let deadline = Instant::now() + BOUNDS_TIMEOUT;
        match store.log_holds(known.tail, deadline).await? {
            Presence::Present => self.index.inherit(&shares, known),
            // It was trimmed, or this is another log, which knows nothing of what came before.
            Presence::Absent => {
                self.index.raise_horizon(known.tail);
            }
            Presence::Unknown => {}
        }
        Ok(())
    }

    /// Stores what is known for instances that start, if the log has moved and that is due.
    fn save_if_due(&self, reading: &mut Reading) {
        let saved = *reading.saved.get_or_insert_with(Instant::now);
        let is_due = reading.unsaved >= self.snapshots.records
            || (reading.unsaved > 0 && saved.elapsed() >= INTERVAL_AT_REST);
        let (true, Some(_), Some(store)) = (is_due, self.progress.get(), &self.store) else {
            return;
        };
        reading.unsaved = 0;
        reading.saved = Some(Instant::now());
        let (snapshots, store) = (self.snapshots.clone(), Arc::clone(store));
        let index = Arc::clone(&self.index);
        // Without a runtime, an instance that starts makes do with the log.
        let _ = task::spawn(async move {
            if let Err(error) = snapshots.save(&*store, &index).await {
                tracing::debug!(%error, "what is known of purges was not stored");
            }
        });
    }

    /// Proves about once a second that the log takes writes. A log that takes none is out of sight,
    /// since other instances cannot announce their changes. Held purges are appended again.
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
        if let Err(error) = store.log_takes_writes(deadline).await {
            reading.refused = Some(Instant::now());
            return Err(error);
        }
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
    fn reached(&self, bounds: &LogBounds, asked: Timestamp, reading: &mut Reading) {
        let is_announced = reading.is_announced();
        let end = &mut reading.end;
        let tail = self.index.tail();
        let now = (bounds.last_generated(), asked);
        let is_read = |(last, _): &(LogPosition, Timestamp)| *last <= tail;
        let Some((_, seen)) = Some(now).filter(is_read).or(end.filter(is_read)) else {
            end.get_or_insert(now);
            return;
        };
        *end = Some(now).filter(|now| !is_read(now));
        if is_announced {
            self.index.seen_to_the_end(seen, self.bound);
        }
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
