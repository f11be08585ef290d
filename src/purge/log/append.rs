//! Appending to the log, many purges to a record.
//!
//! ```text
//! append ─ applied here ─ waits ─ handed to the store with all that wait ─┬─ settled at its position
//!                                                                         └─ held, appended again later
//! ```
//!
//! There is no timer: purges that come while an append is under way are the next record. A purge
//! does not join a record that has been handed to the store, since a fill may have begun after that
//! record.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::base::position::LogPosition;
use crate::base::sync::Mutex;
use crate::base::task::{self, Spawned};
use crate::purge::index::PendingPurge;
use crate::purge::{Purge, PurgeIndex, record};
use crate::store::{AppendOptions, Appended, SharedStore, StoreError};

/// Appends the purges of this instance. Each purge is in force in this instance from the beginning.
#[derive(Debug)]
pub(super) struct Appender {
    index: Arc<PurgeIndex>,
    store: Arc<dyn SharedStore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// A task is running that hands the waiting purges to the store.
    is_running: bool,
    /// Purges that the log has not taken, or may not have taken.
    held: Vec<Held>,
    /// The number of selectors of the held purges.
    held_selectors: usize,
}

/// A purge that is in force in this instance and not in the log.
#[derive(Debug)]
struct Held {
    purge: Purge,
    pending: PendingPurge,
}

#[derive(Debug)]
struct Waiting {
    held: Held,
    deadline: Instant,
    done: oneshot::Sender<Result<Appended, StoreError>>,
}

impl Appender {
    pub(super) fn new(index: Arc<PurgeIndex>, store: Arc<dyn SharedStore>) -> Self {
        Self {
            index,
            store,
            state: Mutex::default(),
        }
    }

    /// Applies a purge in this instance, and waits until the log has it. If the future is dropped,
    /// or the deadline passes, the purge stays in force here and still reaches the log.
    pub(super) async fn append(
        self: &Arc<Self>,
        purge: &Purge,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        let held = self.apply(purge);
        if purge.replicas > 0 {
            return self.append_alone(held, deadline).await;
        }
        let appended = self.enqueue(held, deadline);
        match timeout_at(deadline, appended).await {
            Ok(Ok(appended)) => appended,
            Ok(Err(_dropped)) => Err(StoreError::Unavailable),
            Err(_late) => Err(StoreError::TimedOut),
        }
    }

    /// As [`Appender::append`], in the background.
    pub(super) fn append_behind(self: &Arc<Self>, purge: &Purge, deadline: Instant) {
        drop(self.enqueue(self.apply(purge), deadline));
    }

    /// Whether there are held purges.
    pub(super) fn holds_any(&self) -> bool {
        !self.state.lock().held.is_empty()
    }

    /// Tries again to append the held purges.
    pub(super) async fn retry(self: &Arc<Self>, deadline: Instant) -> Result<(), StoreError> {
        let held = {
            let mut state = self.state.lock();
            state.held_selectors = 0;
            std::mem::take(&mut state.held)
        };
        let appended: Vec<_> = held
            .into_iter()
            .map(|held| self.enqueue(held, deadline))
            .collect();
        for appended in appended {
            match timeout_at(deadline, appended).await {
                Ok(Ok(Ok(_))) => {}
                Ok(Ok(Err(error))) => return Err(error),
                Ok(Err(_dropped)) => return Err(StoreError::Unavailable),
                Err(_late) => return Err(StoreError::TimedOut),
            }
        }
        Ok(())
    }

    /// Appends a purge that waits for replicas, as a record of its own, so that other purges do not
    /// wait for them. If the future is dropped, the purge is held, and appended again without
    /// replicas.
    async fn append_alone(
        self: &Arc<Self>,
        held: Held,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        let (done, appended) = oneshot::channel();
        let waiting = Waiting {
            held,
            deadline,
            done,
        };
        Batch::of(Arc::clone(self), vec![waiting]).append().await;
        appended.await.unwrap_or(Err(StoreError::Unavailable))
    }

    fn apply(&self, purge: &Purge) -> Held {
        Held {
            pending: self.index.apply_pending(purge),
            purge: purge.clone(),
        }
    }

    fn enqueue(
        self: &Arc<Self>,
        held: Held,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<Appended, StoreError>> {
        let (done, appended) = oneshot::channel();
        let waiting = Waiting {
            held,
            deadline,
            done,
        };
        let is_running = {
            let mut state = self.state.lock();
            state.waiting.push_back(waiting);
            std::mem::replace(&mut state.is_running, true)
        };
        let run = || Run {
            appender: Arc::clone(self),
            is_done: false,
        };
        if !is_running && task::spawn(run().run()) == Spawned::Dropped {
            tracing::debug!("no runtime here: a purge waits for one");
        }
        appended
    }

    /// The waiting purges that fit into one record. If there are none, the task that asks ends.
    fn next_batch(self: &Arc<Self>) -> Option<Batch> {
        let mut state = self.state.lock();
        let mut selectors = 0;
        let mut waiting = Vec::new();
        while let Some(next) = state.waiting.front() {
            selectors += next.held.purge.selectors.len();
            if selectors > RECORD_SELECTORS && !waiting.is_empty() {
                break;
            }
            waiting.extend(state.waiting.pop_front());
        }
        state.is_running = !waiting.is_empty();
        state
            .is_running
            .then(|| Batch::of(Arc::clone(self), waiting))
    }

    /// Keeps purges that the log has not taken. Too many of them become one purge of everything.
    fn hold(&self, held: impl Iterator<Item = Held>) {
        let mut state = self.state.lock();
        for mut held in held {
            held.purge.replicas = 0;
            state.held_selectors += held.purge.selectors.len();
            state.held.push(held);
        }
        if state.held_selectors <= MOST_HELD_SELECTORS {
            return;
        }
        let purge = Purge::everything();
        let pending = self.index.apply_pending(&purge);
        state.held_selectors = 1;
        let before = std::mem::replace(&mut state.held, vec![Held { purge, pending }]);
        before
            .iter()
            .for_each(|held| self.index.withdraw(&held.pending));
    }
}

/// The task that hands the waiting purges to the store. If its runtime ends, they are held.
struct Run {
    appender: Arc<Appender>,
    /// The task has ended because no purge waited. Another task may run since.
    is_done: bool,
}

impl Run {
    async fn run(mut self) {
        while let Some(batch) = self.appender.next_batch() {
            batch.append().await;
        }
        self.is_done = true;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let waiting = {
            let mut state = self.appender.state.lock();
            state.is_running = false;
            std::mem::take(&mut state.waiting)
        };
        let held = waiting.into_iter().map(|waiting| waiting.held);
        self.appender.hold(held);
    }
}

/// The purges of one record. If the record is dropped before the log has taken it, they are held.
struct Batch {
    appender: Arc<Appender>,
    waiting: Vec<Waiting>,
}

impl Batch {
    const fn of(appender: Arc<Appender>, waiting: Vec<Waiting>) -> Self {
        Self { appender, waiting }
    }

    async fn append(mut self) {
        let Appender { index, store, .. } = &*self.appender;
        let purges = self.waiting.iter().map(|waiting| &waiting.held.purge);
        let record = record::encode(purges.clone().flat_map(Purge::marks));
        let replicas = purges.map(|purge| purge.replicas).max().unwrap_or(0);
        let deadlines = self.waiting.iter().map(|waiting| waiting.deadline);
        let Some(deadline) = deadlines.max() else {
            return;
        };
        let known = index.tail().max(index.appended());
        let options = AppendOptions::new().replicas(replicas);
        match store.log_append(&record, options, deadline).await {
            Ok(appended) => self.settle(&appended, known),
            Err(error) => self.fail(&error),
        }
    }

    fn settle(&mut self, appended: &Appended, known: LogPosition) {
        for Waiting { held, done, .. } in std::mem::take(&mut self.waiting) {
            let Held { purge, pending } = held;
            let index = &self.appender.index;
            index.settle(&pending, &purge, appended.position, known);
            let _nobody_waits_any_more = done.send(Ok(appended.clone()));
        }
    }

    /// Holds the purges, and then reports the error, so that no purge is lost between the two.
    fn fail(&mut self, error: &StoreError) {
        let waiting = std::mem::take(&mut self.waiting);
        let (held, done): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .map(|Waiting { held, done, .. }| (held, done))
            .unzip();
        self.appender.hold(held.into_iter());
        for done in done {
            let _nobody_waits_any_more = done.send(Err(error.clone()));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.waiting.is_empty() {
            self.fail(&StoreError::Unavailable);
        }
    }
}

/// How many selectors a record may have: some 78 kilobytes.
const RECORD_SELECTORS: usize = 4096;

/// How many selectors are held before they become one purge of everything.
const MOST_HELD_SELECTORS: usize = 10_000;

#[cfg(test)]
mod tests;
