//! One connection to a server, and whether its replies can be trusted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::aio::{MultiplexedConnection, SendError};
use redis::{Cmd, PushInfo, PushKind, RedisError, Value};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::connect::{Connector, Fault, Target, Wire, without_timeouts};
use super::sentinel;
use crate::store::valkey::command;
use crate::store::valkey::url::{Address, Location};

/// One connection. Commands of all tasks are pipelined on it.
pub(crate) struct Link {
    id: LinkId,
    wire: Wire,
    status: Arc<Status>,
    found_at: Option<Address>,
}

/// Numbers the connections to a node in the order in which they were dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkId(pub(crate) u64);

/// What came of a command.
pub(crate) enum Reply {
    /// The server answered, and nothing says that the answer is to another command.
    Value(Value),
    /// The server or the connection failed.
    Error(RedisError),
    /// The server did not answer by the deadline.
    Late,
    /// The server answered, but the connection was condemned meanwhile.
    Distrusted,
}

/// Is called by the task that drives a connection.
pub(crate) trait Watcher: Send + Sync + 'static {
    /// The connection broke.
    fn broke(&self, id: LinkId);
    /// The task ended: after [`Watcher::broke`], or with its runtime.
    fn ended(&self, id: LinkId);
}

impl Link {
    /// Connects, logs in, and waits for the answer to a `PING`.
    ///
    /// A server that is loading its data, or cut off from its primary, accepts connections long
    /// before it takes commands.
    pub(crate) async fn dial<W: Watcher>(
        connector: &Connector,
        id: LinkId,
        watcher: W,
    ) -> Result<Self, Fault> {
        let target = target(connector, id).await?;
        let status = Arc::new(Status::default());
        let driver_end = DriverEnd {
            id,
            watcher,
            status: Arc::clone(&status),
        };
        let config = without_timeouts()
            .set_pipeline_buffer_size(WRITTEN_AT_ONCE)
            .set_push_sender(move |push: PushInfo| driver_end.on_push(&push));
        let mut wire = connector.connect(&target, config).await?;
        let connection = &mut wire.connection;
        let nonce = fastrand::u64(..);
        let reply = connection.send_packed_command(&command::ping(nonce)).await;
        reply
            .and_then(Value::extract_error)
            .map_err(|error| Fault::from_redis(&error))
            .and_then(|reply| command::pong(&reply, nonce).map_err(|error| Fault::from(&error)))?;
        if target.found_at.is_some() {
            let role = connection.send_packed_command(&command::role()).await;
            if !role.is_ok_and(|role| command::is_primary(&role)) {
                return Err(Fault::unreachable("what the Sentinels name is no primary"));
            }
        }
        Ok(Self {
            id,
            wire,
            status,
            found_at: target.found_at,
        })
    }

    /// The address of the primary that Sentinels have named.
    pub(crate) fn found_at(&self) -> Option<&Address> {
        self.found_at.as_ref()
    }

    pub(crate) fn id(&self) -> LinkId {
        self.id
    }

    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.wire.connection.clone()
    }

    pub(crate) async fn send(&self, command: &Cmd, deadline: Instant) -> Reply {
        let mut connection = self.wire.connection.clone();
        let reply = timeout_at(deadline, connection.send_packed_command(command)).await;
        self.judge(reply)
    }

    /// Sends `ASKING` and the command, with nothing in between.
    pub(crate) async fn send_asking(&self, command: &Cmd, deadline: Instant) -> Reply {
        let mut connection = self.wire.connection.clone();
        let mut both = redis::pipe();
        both.add_command(command::asking())
            .add_command(command.clone());
        let second = async {
            let replies = connection.send_packed_commands(&both, 1, 1).await?;
            Ok(replies.into_iter().next().unwrap_or(Value::Nil))
        };
        let reply = timeout_at(deadline, second).await;
        self.judge(reply)
    }

    fn judge(&self, reply: Result<Result<Value, RedisError>, Elapsed>) -> Reply {
        match reply.map(|reply| reply.and_then(Value::extract_error)) {
            Err(_late) => Reply::Late,
            Ok(Err(error)) => Reply::Error(error),
            Ok(Ok(_)) if self.status.condemned.load(Ordering::Acquire) => Reply::Distrusted,
            Ok(Ok(value)) => {
                self.status.clear();
                Reply::Value(value)
            }
        }
    }

    /// From now on every reply on this connection is [`Reply::Distrusted`].
    pub(crate) fn condemn(&self) {
        self.status.condemned.store(true, Ordering::Release);
    }

    /// Whether the task that drives the connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.status.over.load(Ordering::Acquire)
    }

    /// Counts a command that was sent at `sent` and got no answer, or none that counts.
    ///
    /// Commands that were under way together count once: a server that pauses for a moment with
    /// a hundred commands in its queue was silent once, not a hundred times.
    pub(crate) fn strike(&self, sent: Instant, now: Instant) -> Strikes {
        let mut strikes = self.status.strikes();
        if strikes.latest.is_none_or(|latest| sent >= latest) {
            strikes.in_a_row = strikes.in_a_row.saturating_add(1);
            let reads = self.wire.read_counter.count();
            strikes.in_silence = if strikes.reads == reads {
                strikes.in_silence.saturating_add(1)
            } else {
                1
            };
            strikes.reads = reads;
            strikes.latest = Some(now);
            self.status.struck.store(true, Ordering::Relaxed);
        }
        *strikes
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What the link and the task that drives its connection both know.
#[derive(Default)]
struct Status {
    condemned: AtomicBool,
    over: AtomicBool,
    /// Spares the lock below on every answer but the first after a strike.
    struck: AtomicBool,
    strikes: Mutex<Strikes>,
}

/// Failures of a connection since its last good answer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Strikes {
    pub(crate) in_a_row: u32,
    /// The latest of them, between which the server sent no byte at all.
    pub(crate) in_silence: u32,
    /// The count of reads at the latest strike.
    reads: u64,
    latest: Option<Instant>,
}

impl Status {
    fn strikes(&self) -> MutexGuard<'_, Strikes> {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if self.struck.swap(false, Ordering::Relaxed) {
            self.strikes().in_a_row = 0;
        }
    }
}

/// Notices the end of the task that drives the connection, because that task owns it. A closed
/// socket is announced by a push; a runtime that shuts down just drops the task.
struct DriverEnd<W: Watcher> {
    id: LinkId,
    watcher: W,
    status: Arc<Status>,
}

impl<W: Watcher> DriverEnd<W> {
    fn on_push(&self, push: &PushInfo) -> Result<(), SendError> {
        if push.kind == PushKind::Disconnection {
            self.status.over.store(true, Ordering::Release);
            self.watcher.broke(self.id);
        }
        Ok(())
    }
}

impl<W: Watcher> Drop for DriverEnd<W> {
    fn drop(&mut self) {
        self.status.over.store(true, Ordering::Release);
        self.watcher.ended(self.id);
    }
}

/// Finds out where to connect. Dials take turns with which Sentinel they ask first.
async fn target(connector: &Connector, id: LinkId) -> Result<Target, Fault> {
    let url = &connector.settings.url;
    let login = connector.login();
    match &url.location {
        Location::Unix { path } => Ok(Target::unix(path, &login, url.db)),
        Location::Server(transport, address) => {
            Ok(Target::server(*transport, address, &login, url.db))
        }
        Location::Sentinel { transport, .. } => {
            let primary = sentinel::primary(connector, id.0).await?;
            let mut target = Target::server(*transport, &primary, &login, url.db);
            target.found_at = Some(primary);
            Ok(target)
        }
        Location::Cluster(..) => Err(Fault::unreachable("a cluster is not one server")),
    }
}

/// How many commands are gathered before they are written. With as many as may be in flight, all
/// requests that are ready would send first and then wait for the server, which has waited for
/// them: 64 at a time take a sixth longer.
const WRITTEN_AT_ONCE: usize = 32;
