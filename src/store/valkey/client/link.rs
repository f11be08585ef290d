//! One connection to the server, and what is known of its trustworthiness.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::{MultiplexedConnection, SendError};
use redis::{Cmd, PushInfo, PushKind, RedisError, Value};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::bounded::BoundedReads;
use super::connect::{Fault, Target, Wire, patient};
use crate::store::valkey::ValkeySettings;
use crate::store::valkey::command;
use crate::store::valkey::url::Address;

/// One connection. Commands of all tasks are pipelined on it.
pub(crate) struct Link {
    id: LinkId,
    wire: Wire,
    vitals: Arc<Vitals>,
    found_at: Option<Address>,
}

/// Connections in the order in which they were dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkId(pub(crate) u64);

/// What came of a command.
pub(crate) enum Reply {
    /// An answer that can be trusted to be one to this command, as far as anyone knows.
    Value(Value),
    /// The server or the connection failed.
    Error(RedisError),
    /// No answer by the deadline.
    Late,
    /// An answer, on a connection that was given up meanwhile.
    Distrusted,
}

/// Hears what becomes of the task that drives a connection.
pub(crate) trait Watcher: Send + Sync + 'static {
    /// The connection broke, seen by the task that drives it.
    fn broke(&self, id: LinkId);
    /// That task is gone: after [`Watcher::broke`], or with its runtime.
    fn ended(&self, id: LinkId);
}

impl Link {
    /// Connects, logs in, and asks for one answer.
    ///
    /// The answer matters: a server that is loading its data, or cut off from its primary,
    /// takes connections long before it takes commands.
    pub(crate) async fn dial<W: Watcher>(
        target: Target,
        settings: &ValkeySettings,
        care: Arc<BoundedReads>,
        id: LinkId,
        watcher: W,
    ) -> Result<Self, Fault> {
        let vitals = Arc::new(Vitals::default());
        let pulse = Pulse {
            id,
            watcher,
            vitals: Arc::clone(&vitals),
        };
        let config = patient()
            .set_pipeline_buffer_size(WRITTEN_AT_ONCE)
            .set_push_sender(move |push: PushInfo| pulse.beat(&push));
        let mut wire = target.connect(settings, config, care).await?;
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
            vitals,
            found_at: target.found_at,
        })
    }

    /// Where it leads, if that had to be found out.
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

    /// As [`Link::send`], after `ASKING`, with nothing in between.
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
            Ok(Ok(_)) if self.vitals.condemned.load(Ordering::Acquire) => Reply::Distrusted,
            Ok(Ok(value)) => {
                self.vitals.clear();
                Reply::Value(value)
            }
        }
    }

    /// No reply on this connection is believed from now on.
    pub(crate) fn condemn(&self) {
        self.vitals.condemned.store(true, Ordering::Release);
    }

    /// Whether the task that drives the connection is gone.
    pub(crate) fn is_over(&self) -> bool {
        self.vitals.over.load(Ordering::Acquire)
    }

    /// Counts a command sent at `sent` that was not answered as it should have been.
    ///
    /// Commands under way together count once: a server that pauses for a moment with a
    /// hundred commands in its queue has been silent once, not a hundred times.
    pub(crate) fn strike(&self, sent: Instant, now: Instant) -> Strikes {
        let mut strikes = self.vitals.strikes();
        if strikes.latest.is_none_or(|latest| sent >= latest) {
            strikes.in_a_row = strikes.in_a_row.saturating_add(1);
            let heard = self.wire.heard.times();
            strikes.in_silence = match strikes.heard == heard {
                true => strikes.in_silence.saturating_add(1),
                false => 1,
            };
            strikes.heard = heard;
            strikes.latest = Some(now);
            self.vitals.struck.store(true, Ordering::Relaxed);
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

#[derive(Default)]
struct Vitals {
    condemned: AtomicBool,
    over: AtomicBool,
    /// Spares the lock below on every answer but the first after a strike.
    struck: AtomicBool,
    strikes: Mutex<Strikes>,
}

/// What a connection has failed to do since it last did what it should.
#[derive(Clone, Copy, Default)]
pub(crate) struct Strikes {
    pub(crate) in_a_row: u32,
    /// The latest of those, between which nothing at all came.
    pub(crate) in_silence: u32,
    /// How often bytes had come by the latest.
    heard: u64,
    latest: Option<Instant>,
}

impl Vitals {
    fn strikes(&self) -> std::sync::MutexGuard<'_, Strikes> {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if self.struck.swap(false, Ordering::Relaxed) {
            self.strikes().in_a_row = 0;
        }
    }
}

/// Owned by the task that drives the connection, so that its end is noticed however it
/// comes: a closed socket is reported, a runtime that shuts down just drops the task.
struct Pulse<W: Watcher> {
    id: LinkId,
    watcher: W,
    vitals: Arc<Vitals>,
}

impl<W: Watcher> Pulse<W> {
    fn beat(&self, push: &PushInfo) -> Result<(), SendError> {
        if push.kind == PushKind::Disconnection {
            self.vitals.over.store(true, Ordering::Release);
            self.watcher.broke(self.id);
        }
        Ok(())
    }
}

impl<W: Watcher> Drop for Pulse<W> {
    fn drop(&mut self) {
        self.vitals.over.store(true, Ordering::Release);
        self.watcher.ended(self.id);
    }
}

/// How many commands gather before they are written. With as many as there may be in flight, all
/// requests that are ready at once send first, and then wait for the server, which waited for them:
/// 64 at a time take a sixth longer.
const WRITTEN_AT_ONCE: usize = 32;
