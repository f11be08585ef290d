//! Appends to the log and waits for replicas, on connections of its own: `WAIT` covers the writes
//! of its own connection only, and holds up every command behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Cmd;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::error::StoreError;
use crate::store::Appended;
use crate::store::valkey::client::link::{Link, Reply};
use crate::store::valkey::client::node::Node;
use crate::store::valkey::command;

/// Connections on which to wait for replicas, made when they are needed, and kept.
pub(crate) struct Replicated {
    /// The links that are not in use. An append that is given up drops its link.
    idle: Mutex<Vec<Arc<Link>>>,
    /// Each permit allows one connection.
    permits: Semaphore,
}

impl Replicated {
    pub(crate) fn new() -> Self {
        Self {
            idle: Mutex::default(),
            permits: Semaphore::new(MOST_CONNECTIONS),
        }
    }

    /// Sends `command`, which appends a record, and waits for `replicas` to have it.
    pub(crate) async fn append(
        &self,
        node: &Arc<Node>,
        command: &Cmd,
        replicas: u32,
        deadline: Instant,
    ) -> Result<Appended, StoreError> {
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable);
        }
        let _permit = timeout_at(deadline, self.permits.acquire())
            .await
            .map_err(|_late| StoreError::Busy)?
            .map_err(|_never_closed| StoreError::Unavailable)?;
        let link = match self.take_idle(node) {
            Some(link) => link,
            None => {
                // Only the node dials a server that is away, with a pause between its dials.
                node.link(deadline).await?;
                timeout_at(deadline, node.dial())
                    .await
                    .map_err(|_late| StoreError::TimedOut)?
                    .map_err(|fault| fault.error())?
            }
        };
        let operation = node.settings().operation_timeout;
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

    /// An idle link that is still good. Drops those that are not.
    fn take_idle(&self, node: &Arc<Node>) -> Option<Arc<Link>> {
        let good = |link: &Arc<Link>| !link.is_over() && !node.has_moved_from(link);
        let mut idle = self.idle();
        let links = std::mem::take(&mut *idle);
        let (mut good, bad): (Vec<_>, Vec<_>) = links.into_iter().partition(good);
        let link = good.pop();
        *idle = good;
        drop(idle);
        // Not under the lock: dropping a link runs code of the node.
        drop(bad);
        link
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for replicas. The server's time ends first, so that it can say how many have answered.
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

/// How many purges wait for replicas at once.
const MOST_CONNECTIONS: usize = 8;

/// How late a server may notice that the time of a blocked client is over. An idle server looks ten
/// times a second.
const SERVER_TIMER: Duration = Duration::from_millis(150);
