//! The purge log: appending to it, and reading it to its end for ever.

mod append;
mod progress;
mod reader;
mod reading;
mod snapshot;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use append::Appender;
use progress::Progress;
use snapshot::Snapshots;

use super::{Purge, PurgeIndex};
use crate::base::clock::Clock;
use crate::base::position::Moment;
use crate::config::CacheConfig;
use crate::error::PurgeError;
use crate::store::{Appended, Memory, SharedStore, StoreError};

/// The purge log, and this instance's index of it. Without a shared store the index is the log.
#[derive(Debug)]
pub(crate) struct PurgeLog {
    index: Arc<PurgeIndex>,
    store: Option<Arc<dyn SharedStore>>,
    /// `None` without a store.
    appender: Option<Arc<Appender>>,
    clock: Arc<dyn Clock>,
    /// How long entries are trusted while the log is out of sight.
    bound: Duration,
    tailing: AtomicBool,
    /// When the log was first followed.
    began: OnceLock<Instant>,
    progress: Progress,
    snapshots: Snapshots,
}

/// The owner of the log. Its memory is emptied when the log has lost records.
pub(crate) trait Owner: Send + Sync + 'static {
    /// Tier 1.
    fn memory(&self) -> &Memory;
    fn log(&self) -> &PurgeLog;
}

impl PurgeLog {
    pub(crate) fn new(
        store: Option<Arc<dyn SharedStore>>,
        clock: Arc<dyn Clock>,
        config: &CacheConfig,
    ) -> Self {
        let index = Arc::new(PurgeIndex::new());
        if store.is_none() {
            index.always_current();
        }
        let appender = store.clone().map(|store| {
            let index = Arc::clone(&index);
            Arc::new(Appender::new(index, store))
        });
        Self {
            index,
            store,
            appender,
            clock,
            bound: config.purge_bound,
            tailing: AtomicBool::new(false),
            began: OnceLock::new(),
            progress: Progress::default(),
            snapshots: Snapshots::new(&config.prefix, config.purge_log_length),
        }
    }

    pub(crate) fn index(&self) -> &PurgeIndex {
        &self.index
    }

    pub(crate) fn bound(&self) -> Duration {
        self.bound
    }

    /// Applies a purge in this instance, and appends it. Once this returns, the purge holds in
    /// every instance that can see the log. An error means that the purge is in force here only,
    /// until the log takes it. A purge without selectors makes no record.
    pub(crate) async fn append(&self, purge: &Purge, deadline: Instant) -> Result<(), PurgeError> {
        if purge.selectors.is_empty() {
            return Ok(());
        }
        let Appended { replicas, .. } = self.append_at(purge, deadline).await?;
        match replicas {
            Ok(acknowledged) if acknowledged >= purge.replicas => Ok(()),
            replicas => Err(PurgeError::not_replicated(purge.replicas, replicas)),
        }
    }

    /// As [`PurgeLog::append`], in the background.
    pub(crate) fn append_behind(&self, purge: &Purge, deadline: Instant) {
        match &self.appender {
            Some(appender) => appender.append_behind(purge, deadline),
            None => {
                self.index.append(purge);
            }
        }
    }

    async fn append_at(&self, purge: &Purge, deadline: Instant) -> Result<Appended, PurgeError> {
        let Some(appender) = &self.appender else {
            return Ok(Appended::unreplicated(self.index.append(purge)));
        };
        let appended = appender.append(purge, deadline).await;
        appended.map_err(PurgeError::not_appended)
    }

    /// Tries once more to append the purges that the log has not taken. Returns whether the log has
    /// all of them.
    pub(crate) async fn flush(&self, deadline: Instant) -> bool {
        match &self.appender {
            Some(appender) if appender.holds_any() => appender.retry(deadline).await.is_ok(),
            _ => true,
        }
    }

    /// As [`PurgeLog::append`], and then waits until the log has been read up to the purge. Returns
    /// the moment: a value that is stored with it is later than every purge so far.
    pub(crate) async fn append_and_read(
        &self,
        purge: &Purge,
        deadline: Instant,
    ) -> Result<Moment, PurgeError> {
        // The counter is read before the append, so that purges that come meanwhile are later.
        let Moment { counter, .. } = self.index.moment();
        let Appended { position, .. } = self.append_at(purge, deadline).await?;
        if self.store.is_some() {
            let read = self.progress.wait_for(|read| read >= Some(position));
            if timeout_at(deadline, read).await.is_err() {
                return Err(PurgeError::not_appended(StoreError::TimedOut));
            }
        }
        Ok(Moment { position, counter })
    }

    /// Waits within the deadline until the log has been read to its end for the first time. Before
    /// that, an instance knows of no purge and must not trust the shared store.
    pub(crate) async fn first_read(&self, deadline: Instant) {
        let read = self.progress.wait_for(|read| read.is_some());
        let _in_time_or_not = timeout_at(deadline, read).await;
    }

    /// Whether the log will soon be read to its end for the first time. After a while this is
    /// `false`, so that requests do not wait for a log that cannot be read, for lack of permission
    /// for example.
    pub(crate) fn is_starting(&self) -> bool {
        let recently = |began: &Instant| began.elapsed() < START;
        self.store.is_some()
            && self.progress.get().is_none()
            && self.began.get().is_none_or(recently)
    }
}

/// How long requests wait for the first reading, counted from when the log was first followed.
const START: Duration = Duration::from_secs(2);
