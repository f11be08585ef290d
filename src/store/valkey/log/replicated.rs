//! Appends to the log and waits for replicas, on connections of its own: `WAIT` is about what
//! was written on its own connection, and holds up every command behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Cmd;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::error::StoreError;
use crate::store::valkey::client::dialling::DialFor;
use crate::store::valkey::client::link::{Link, Reply};
use crate::store::valkey::client::supervisor::Supervisor;
use crate::store::valkey::command;
use crate::store::{Appended, StoreState};

/// Connections on which to wait, made when they are needed, and kept.
pub(crate) struct Replicated {
    /// At rest: those in use are with who uses them, and end with a use that is given up.
    idle: Mutex<Vec<Arc<Link>>>,
    /// Each may hold a connection.
    turns: Semaphore,
}

impl Replicated {
    pub(crate) fn new() -> Self {
        Self {
            idle: Mutex::default(),
            turns: Semaphore::new(MOST_CONNECTIONS),
        }
    }

    /// Sends `command`, which appends a record, and waits for `replicas` to have it.
    pub(crate) async fn append(
        &self,
        supervisor: &Arc<Supervisor>,
        command: &Cmd,
        replicas: u32,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable);
        }
        let _turn = timeout_at(deadline, self.turns.acquire())
            .await
            .map_err(|_late| StoreError::Busy)?
            .map_err(|_never_closed| StoreError::Unavailable)?;
        let link = match self.rested(supervisor) {
            Some(link) => link,
            None => {
                // A server that is not there is dialled by its supervisor only, at its pace.
                supervisor.link(deadline).await?;
                timeout_at(deadline, dial(supervisor))
                    .await
                    .map_err(|_late| StoreError::TimedOut)??
            }
        };
        let operation = supervisor.settings.operation_timeout;
        let append_by = deadline.min(Instant::now() + operation);
        let position = match link.send(command, append_by).await {
            Reply::Value(value) => command::position(&value)?,
            Reply::Error(error) => return Err(command::classify(&error).0),
            Reply::Late => return Err(StoreError::TimedOut),
            Reply::Distrusted => return Err(StoreError::Unavailable),
        };
        let wait_by = deadline.min(Instant::now() + operation);
        let replicas = wait(&link, replicas, wait_by).await;
        if replicas.is_ok() {
            self.idle().push(link);
        }
        Ok(Appended { position, replicas })
    }

    /// A connection that is good still; the others end here.
    fn rested(&self, supervisor: &Arc<Supervisor>) -> Option<Arc<Link>> {
        let good = |link: &Arc<Link>| !link.is_over() && !supervisor.has_moved_from(link);
        let mut idle = self.idle();
        let rested = std::mem::take(&mut *idle);
        let (mut good, bad): (Vec<_>, Vec<_>) = rested.into_iter().partition(good);
        let link = good.pop();
        *idle = good;
        drop(idle);
        // Not under the lock: what hangs on a connection is dropped with it.
        drop(bad);
        link
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn dial(supervisor: &Arc<Supervisor>) -> Result<Arc<Link>, StoreError> {
    let dialled = supervisor.make_link().await;
    dialled.map_err(|fault| match fault.state {
        StoreState::Refused => StoreError::Refused,
        _ => StoreError::Unavailable,
    })
}

/// The server gives up first, so that it says how many there were.
async fn wait(link: &Link, replicas: u32, until: Instant) -> Result<u32, StoreError> {
    let left = until.saturating_duration_since(Instant::now());
    let command = command::wait(replicas, left);
    match link.send(&command, until + SERVER_TIMER).await {
        Reply::Value(value) => {
            command::count(&value).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
        }
        Reply::Error(error) => Err(command::classify(&error).0),
        Reply::Late => Err(StoreError::TimedOut),
        Reply::Distrusted => Err(StoreError::Unavailable),
    }
}

/// Purges that wait for replicas at once; more take turns.
const MOST_CONNECTIONS: usize = 8;

/// How late an idle server may notice that a blocked client's time is over: it looks ten times a
/// second.
const SERVER_TIMER: Duration = Duration::from_millis(150);
