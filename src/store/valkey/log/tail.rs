//! Reads the log, on a connection of its own: a blocking read would hold up every command
//! behind it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error::StoreError;
use crate::store::LogPosition;
use crate::store::valkey::client::connect::dial_gap;
use crate::store::valkey::client::link::{Link, Reply};
use crate::store::valkey::client::supervisor::Supervisor;
use crate::store::valkey::command;

/// The log's own connection. One reader at a time.
pub(crate) struct Tail {
    line: Mutex<Line>,
}

struct Line {
    link: Option<Arc<Link>>,
    next_dial: Instant,
}

impl Tail {
    pub(crate) fn new() -> Self {
        Self {
            line: Mutex::new(Line {
                link: None,
                next_dial: Instant::now(),
            }),
        }
    }

    /// `known` is how far the log is known to go: a connection on which it ends earlier leads to
    /// a server that was left behind.
    pub(crate) async fn read(
        &self,
        supervisor: &Arc<Supervisor>,
        log: &str,
        after: LogPosition,
        block: Duration,
        known: LogPosition,
    ) -> Result<Vec<(LogPosition, Bytes)>, StoreError> {
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable);
        }
        let block = block.min(LONGEST_BLOCK);
        let mut line = timeout(block, self.line.lock())
            .await
            .map_err(|_taken| StoreError::Busy)?;
        // Taken out while it is in use: a read that is given up leaves the server blocked on
        // this connection, so that it has to be closed.
        let usable = |link: &Arc<Link>| !link.is_over() && !supervisor.has_moved_from(link);
        let link = match line.link.take().filter(usable) {
            Some(link) => link,
            None => line.dial(supervisor, block).await?,
        };
        let grace = supervisor.settings.connect_timeout.min(GRACE);
        let command = command::log_read(log, after, block);
        let records = match link.send(&command, Instant::now() + block + grace).await {
            Reply::Value(value) => command::records(value)?,
            Reply::Error(error) => return Err(command::classify(&error).0),
            Reply::Late => return Err(StoreError::TimedOut),
            Reply::Distrusted => return Err(StoreError::Unavailable),
        };
        if !records.is_empty() || known <= after {
            line.link = Some(link);
        }
        Ok(records)
    }
}

impl Line {
    /// Not before its time, so that a reader in a loop does not dial in a loop.
    async fn dial(
        &mut self,
        supervisor: &Arc<Supervisor>,
        block: Duration,
    ) -> Result<Arc<Link>, StoreError> {
        let now = Instant::now();
        if self.next_dial > now + block {
            sleep(block).await;
            return Err(StoreError::Unavailable);
        }
        sleep_until(self.next_dial).await;
        self.next_dial = Instant::now() + dial_gap();
        supervisor
            .make_link()
            .await
            .map_err(|fault| match fault.state {
                crate::store::StoreState::Refused => StoreError::Refused,
                _ => StoreError::Unavailable,
            })
    }
}

/// Far beyond any sensible wait, and within what instants can be added to.
const LONGEST_BLOCK: Duration = Duration::from_secs(60 * 60);

/// How much later than it has to a server may answer. With the second that the log is waited
/// for at a time, a connection that leads nowhere is replaced within two.
const GRACE: Duration = Duration::from_millis(750);
