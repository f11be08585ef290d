//! An instance's connection to the server, and the faults of operations on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::server::{Server, State};
use crate::base::sync::Mutex;
use crate::error::StoreError;
use crate::store::LogPosition;

/// How an instance is cut off from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outage {
    /// There is no connection: operations fail at once with [`StoreError::Unavailable`].
    Refused,
    /// Nothing arrives: operations end at their deadline with [`StoreError::TimedOut`].
    Silent,
    /// Commands arrive and are executed, and their replies are lost: operations end at their
    /// deadline with [`StoreError::TimedOut`].
    RepliesLost,
}

/// An instance's connection to the server.
pub(super) struct Link {
    server: Arc<Server>,
    /// The outage, if there is one, and when it last changed.
    outage: Mutex<(Option<Outage>, Instant)>,
    mismatches: AtomicU64,
    /// Held while the log is read: there is one reader at a time.
    reader: tokio::sync::Mutex<()>,
}

impl Link {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            outage: Mutex::new((None, Instant::now())),
            mismatches: AtomicU64::new(0),
            reader: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn outage(&self) -> Option<Outage> {
        self.outage.lock().0
    }

    pub(super) fn since(&self) -> Instant {
        self.outage.lock().1
    }

    pub(super) fn set_outage(&self, outage: Option<Outage>) {
        *self.outage.lock() = (outage, Instant::now());
    }

    pub(super) fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    pub(super) fn note_mismatch(&self) {
        self.mismatches.fetch_add(1, Ordering::Relaxed);
    }
}

impl Link {
    /// Executes one command on the server, within the deadline.
    ///
    /// The command is under way from the first poll. The server executes it in time, even if no
    /// caller waits for the reply any more.
    pub(super) async fn perform<T: Send + 'static>(
        &self,
        deadline: Instant,
        act: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.let_others_run().await;
        self.send(deadline).await?;
        let reply = Arc::new(Mutex::new(None));
        let answer = Arc::clone(&reply);
        let obey = move |state: &mut State| *answer.lock() = Some(act(state));
        let sent = Instant::now();
        let due = self.server.run(|state| {
            let due = sent + state.latency;
            state.schedule(due, Box::new(obey));
            due
        });
        if due > sent {
            sleep_until(due.min(deadline)).await;
        }
        self.server.run(|_obeyed_by_now| {});
        self.receive(deadline).await?;
        self.let_others_run().await;
        let reply = reply.lock().take();
        reply.unwrap_or(Err(StoreError::TimedOut))
    }

    /// Fails if the connection takes no command.
    async fn send(&self, deadline: Instant) -> Result<(), StoreError> {
        match self.outage() {
            None | Some(Outage::RepliesLost) if Instant::now() < deadline => Ok(()),
            Some(Outage::Refused) => Err(StoreError::Unavailable),
            _ => {
                sleep_until(deadline).await;
                Err(StoreError::TimedOut)
            }
        }
    }

    /// Fails if the connection delivers no reply.
    async fn receive(&self, deadline: Instant) -> Result<(), StoreError> {
        match self.outage() {
            None => Ok(()),
            Some(Outage::Refused) => Err(StoreError::Unavailable),
            Some(Outage::Silent | Outage::RepliesLost) => {
                sleep_until(deadline).await;
                Err(StoreError::TimedOut)
            }
        }
    }

    /// Reads the log, or waits for its next record.
    pub(super) async fn read_log(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> Result<Vec<(LogPosition, Bytes)>, StoreError> {
        let end = Instant::now() + block.min(LONGEST_BLOCK);
        let _turn = timeout_at(end, self.reader.lock())
            .await
            .map_err(|_taken| StoreError::Busy)?;
        self.let_others_run().await;
        if self.is_refused() {
            // A reader in a loop does not spin.
            sleep(block.min(DIAL_GAP)).await;
            return Err(StoreError::Unavailable);
        }
        let records = self.next_records(after, end).await?;
        let latency = self.server.run(|state| state.latency);
        let (arrival, patience) = (Instant::now() + latency, end + GRACE);
        if !latency.is_zero() {
            sleep_until(arrival.min(patience)).await;
        }
        self.receive(patience).await?;
        if arrival > patience {
            return Err(StoreError::TimedOut);
        }
        self.let_others_run().await;
        Ok(records)
    }

    async fn next_records(
        &self,
        after: LogPosition,
        end: Instant,
    ) -> Result<Vec<(LogPosition, Bytes)>, StoreError> {
        let look = |state: &mut State| {
            let records = state.records_after(after, RECORDS_A_READ);
            (records, state.next_due(), state.restarts)
        };
        let (_, _, began) = self.server.run(look);
        loop {
            // This comes before the read, so that no change between the two is missed.
            let changed = self.server.changed();
            let now = Instant::now();
            let (records, next_due, restarts) = self.server.run(look);
            if restarts != began || self.is_refused() {
                return Err(StoreError::Unavailable);
            }
            if !records.is_empty() || now >= end {
                return Ok(records);
            }
            let until = next_due.map_or(end, |due| due.min(end));
            let _changed_or_late = timeout_at(until, changed).await;
        }
    }

    fn is_refused(&self) -> bool {
        self.outage() == Some(Outage::Refused)
    }

    async fn let_others_run(&self) {
        for _ in 0..self.server.run(State::yields) {
            tokio::task::yield_now().await;
        }
    }
}

/// The longest block. It is short enough to be added to any instant.
const LONGEST_BLOCK: Duration = Duration::from_secs(60 * 60);

/// How long a reader without a connection waits.
const DIAL_GAP: Duration = Duration::from_millis(500);

/// How long after its block a reader waits for the server's answer.
const GRACE: Duration = Duration::from_millis(750);

const RECORDS_A_READ: usize = 1000;
