//! Reads the log on a connection of its own, because a blocking read holds up every command
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
use crate::store::valkey::client::node::Node;
use crate::store::valkey::command;

/// The log's own connection. One reader at a time.
pub(crate) struct Tail {
    connection: Mutex<TailConnection>,
}

struct TailConnection {
    link: Option<Arc<Link>>,
    next_dial: Instant,
}

impl Tail {
    pub(crate) fn new() -> Self {
        Self {
            connection: Mutex::new(TailConnection {
                link: None,
                next_dial: Instant::now(),
            }),
        }
    }

    /// Reads the records after `after`.
    ///
    /// The log is known to go up to `last_generated`. A connection on which it ends earlier
    /// leads to a server that a failover has left behind, and is not kept.
    pub(crate) async fn read(
        &self,
        node: &Arc<Node>,
        log: &str,
        after: LogPosition,
        block: Duration,
        last_generated: LogPosition,
    ) -> Result<Vec<(LogPosition, Bytes)>, StoreError> {
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable);
        }
        let block = block.min(LONGEST_BLOCK);
        let mut connection = timeout(block, self.connection.lock())
            .await
            .map_err(|_taken| StoreError::Busy)?;
        // The link is taken out while it is in use. A read that is given up leaves the server
        // blocked on this connection, so the link must be dropped with it.
        let usable = |link: &Arc<Link>| !link.is_over() && !node.has_moved_from(link);
        let link = match connection.link.take().filter(usable) {
            Some(link) => link,
            None => connection.dial(node, block).await?,
        };
        let grace = node.settings().connect_timeout.min(GRACE);
        let command = command::log_read(log, after, block);
        let records = match link.send(&command, Instant::now() + block + grace).await {
            Reply::Value(value) => command::records(value)?,
            Reply::Error(error) => return Err(command::classify(&error).0),
            Reply::Late => return Err(StoreError::TimedOut),
            Reply::Distrusted => return Err(StoreError::Unavailable),
        };
        if !records.is_empty() || last_generated <= after {
            connection.link = Some(link);
        }
        Ok(records)
    }
}

impl TailConnection {
    /// Dials, after a pause since the last dial, so that a reader in a loop does not dial in a loop.
    async fn dial(&mut self, node: &Arc<Node>, block: Duration) -> Result<Arc<Link>, StoreError> {
        let now = Instant::now();
        if self.next_dial > now + block {
            sleep(block).await;
            return Err(StoreError::Unavailable);
        }
        sleep_until(self.next_dial).await;
        self.next_dial = Instant::now() + dial_gap();
        node.dial().await.map_err(|fault| fault.error())
    }
}

/// Far longer than any sensible wait, and short enough to be added to any instant.
const LONGEST_BLOCK: Duration = Duration::from_secs(60 * 60);

/// How late a server may answer. Since a read waits a second for the log, a connection that leads
/// nowhere is replaced within two.
const GRACE: Duration = Duration::from_millis(750);
