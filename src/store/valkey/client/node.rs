//! A server: runs commands on it, and keeps one good connection to it.
//!
//! | from | when | to |
//! |---|---|---|
//! | idle | an operation comes | dialling, and the operation waits |
//! | dialling | connected and answered | linked |
//! | dialling | failed, or took half a second | dialling once more; operations fail at once |
//! | linked | closed, silent, or its replies do not fit | dialling; operations fail at once |
//! | linked | the server takes no writes | linked, while another connection is dialled |
//! | any | the tokio runtime behind it ended | idle |
//!
//! Operations wait for the first dial only. After that, they fail at once while there is no
//! connection. Dials begin half a second apart, jittered, whether the last one has ended or
//! hangs. The pause does not grow: two dials a second cost a server nothing, and a longer pause
//! would delay recovery by as much. The dials are in [`dialling`](super::dialling).

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::connect::{Connector, Fault};
use super::guard::{self, Breakers, Guard, InFlight};
use super::link::{Link, LinkId, Reply};
use super::state::{LinkState, Phase, State};
use crate::error::StoreError;
use crate::store::valkey::command::{self, Redirect, Remedy};
use crate::store::valkey::settings::ValkeySettings;
use crate::store::valkey::url::Location;
use crate::store::{Health, StoreState};

/// A server, its connection, its breakers, and the commands in flight.
pub(crate) struct Node {
    pub(super) connector: Arc<Connector>,
    pub(super) breakers: Breakers,
    in_flight: InFlight,
    state: Mutex<State>,
    /// Notified when there is a connection, or a dial has failed.
    pub(super) changed: Notify,
    /// Spares the lock on every write while the server takes writes.
    pub(super) read_only: AtomicBool,
    pub(super) dials: AtomicU64,
    mismatches: AtomicU64,
}

/// A command to send.
pub(crate) struct Operation {
    command: Cmd,
    guard: Guard,
    pub(crate) deadline: Instant,
    /// The command is sent after `ASKING`, because its slot is moving to the node.
    pub(crate) asking: bool,
}

/// A failed operation. In a cluster the command may belong to another node.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: StoreError,
    pub(crate) redirect: Option<Redirect>,
}

impl Operation {
    pub(crate) fn new(guard: Guard, command: Cmd, deadline: Instant) -> Self {
        Self {
            command,
            guard,
            deadline,
            asking: false,
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            redirect: None,
        }
    }
}

impl Node {
    pub(crate) fn new(connector: Connector) -> Arc<Self> {
        Arc::new(Self {
            breakers: Breakers::new(&connector.settings),
            connector: Arc::new(connector),
            in_flight: InFlight::default(),
            state: Mutex::new(State::new(Instant::now())),
            changed: Notify::new(),
            read_only: AtomicBool::new(false),
            dials: AtomicU64::new(0),
            mismatches: AtomicU64::new(0),
        })
    }

    pub(crate) fn settings(&self) -> &ValkeySettings {
        &self.connector.settings
    }

    /// The server's name or address, if it has one.
    pub(crate) fn host(&self) -> &str {
        match &self.settings().url.location {
            Location::Server(_, address) => &address.host,
            _ => "",
        }
    }

    /// Sends a command if its breaker lets it through, and tells the breaker how it ended.
    pub(crate) async fn run<T>(
        self: &Arc<Self>,
        operation: &Operation,
        read: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<T, Failed> {
        let guard = operation.guard;
        let Some(breaker) = self.breakers.of(guard) else {
            return self.send(operation, read).await;
        };
        let started = Instant::now();
        let permit = breaker.admit(started)?;
        let result = self.send(operation, read).await;
        let now = Instant::now();
        let took = now - started;
        #[cfg(feature = "metrics")]
        metrics::histogram!("response_cache_store_seconds", "lane" => guard.name())
            .record(took.as_secs_f64());
        let error = result.as_ref().err().map(|failed| &failed.error);
        let settings = self.settings();
        let change = guard::settle(permit, error, took, settings.operation_timeout, now);
        guard::log_change(change, &settings.url, guard, error);
        result
    }

    /// Sends a command, and reads its reply.
    async fn send<T>(
        self: &Arc<Self>,
        operation: &Operation,
        read: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<T, Failed> {
        let Operation {
            command, deadline, ..
        } = operation;
        if *deadline <= Instant::now() {
            return Err(StoreError::TimedOut.into());
        }
        let _entered = self.in_flight.enter(self.settings().max_in_flight)?;
        let link = self.link(*deadline).await?;
        let sent = Instant::now();
        let reply = if operation.asking {
            // Boxed because it is large, and rare.
            Box::pin(link.send_asking(command, *deadline)).await
        } else {
            link.send(command, *deadline).await
        };
        match reply {
            Reply::Value(value) => read(value).map_err(|error| {
                if error == StoreError::Protocol {
                    self.lose(link.id(), Fault::from(&error));
                }
                error.into()
            }),
            Reply::Error(reply) => {
                let (error, remedy) = command::classify(&reply);
                self.apply(remedy, &error, &link, sent);
                let redirect = command::redirect(&reply);
                Err(Failed { error, redirect })
            }
            Reply::Late => {
                // A deadline that was nearly over when the command was sent says nothing about
                // the server.
                if sent.elapsed() * 2 >= self.settings().operation_timeout {
                    self.strike(&link, sent, &StoreError::TimedOut);
                }
                Err(StoreError::TimedOut.into())
            }
            Reply::Distrusted => Err(StoreError::Unavailable.into()),
        }
    }

    /// The connection in use. Waits for the very first, and never for a later one.
    pub(crate) async fn link(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Link>, StoreError> {
        if let Some(link) = self.current() {
            return Ok(link);
        }
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable);
        }
        let mut changed = pin!(self.changed.notified());
        changed.as_mut().enable();
        match self.link_or_dial() {
            LinkState::Linked(link) => return Ok(link),
            LinkState::Down(error) => return Err(error),
            LinkState::Pending => {}
        }
        timeout_at(deadline, changed)
            .await
            .map_err(|_late| StoreError::TimedOut)?;
        match self.state().link() {
            LinkState::Linked(link) => Ok(link),
            LinkState::Down(error) => Err(error),
            LinkState::Pending => Err(StoreError::Unavailable),
        }
    }

    /// Waits until there is a connection, or until `deadline`.
    pub(crate) async fn until_linked(self: &Arc<Self>, deadline: Instant) {
        let linked = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if Handle::try_current().is_err() {
                    return;
                }
                if let LinkState::Linked(_) = self.link_or_dial() {
                    return;
                }
                changed.await;
            }
        };
        // The caller's next operation says whether there is a connection.
        let _ = timeout_at(deadline, linked).await;
    }

    /// The connection in use, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<Link>> {
        match self.state().link() {
            LinkState::Linked(link) => Some(link),
            LinkState::Pending | LinkState::Down(_) => None,
        }
    }

    /// Whether operations fail at once because there is no connection.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state().link(), LinkState::Down(_))
    }

    /// Whether `link` is to another primary than the connection in use.
    pub(crate) fn has_moved_from(&self, link: &Link) -> bool {
        self.current()
            .is_some_and(|current| current.found_at() != link.found_at())
    }

    pub(crate) fn health(&self) -> Health {
        let state = self.state();
        Health {
            state: state.report,
            since: state.since.into_std(),
            read_breaker: self.breakers.reads.state(),
            write_breaker: self.breakers.writes.state(),
            dials: self.dials.load(Ordering::Relaxed),
            mismatches: self.mismatches.load(Ordering::Relaxed),
            suspensions: self.breakers.times_opened(),
            last_error: state.last_error.clone(),
        }
    }

    /// A value of another key was read, so replies may have slipped by one.
    pub(crate) fn note_mismatch(self: &Arc<Self>) {
        self.mismatches.fetch_add(1, Ordering::Relaxed);
        if let Some(link) = self.current() {
            let fault = Fault::unreachable("a value of another key was read");
            self.lose(link.id(), fault);
        }
    }

    /// A write succeeded, so the server takes writes.
    pub(crate) fn note_writable(&self) {
        if self.read_only.swap(false, Ordering::Relaxed) {
            let mut state = self.state();
            if state.report == StoreState::ReadOnly {
                state.report(&self.settings().url, StoreState::Ready, None);
            }
        }
    }

    fn apply(self: &Arc<Self>, remedy: Remedy, error: &StoreError, link: &Link, sent: Instant) {
        match remedy {
            Remedy::Keep => {}
            Remedy::Relieve => self.relieve(link.id()),
            Remedy::Strike => self.strike(link, sent, error),
            Remedy::Replace => self.lose(link.id(), Fault::from(error)),
        }
    }

    fn strike(self: &Arc<Self>, link: &Link, sent: Instant, error: &StoreError) {
        let now = Instant::now();
        let strikes = link.strike(sent, now);
        let most = self.settings().timeouts_until_replaced;
        let late = || strikes.in_a_row >= most && self.state().may_give_up_late(now);
        if strikes.in_silence >= most || late() {
            self.lose(link.id(), Fault::from(error));
        }
    }

    /// Gives the connection `id` up, if it is the one in use, and dials another.
    pub(super) fn lose(self: &Arc<Self>, id: LinkId, fault: Fault) {
        let (lost, attempt) = {
            let mut state = self.state();
            if !state.is_linked_by(id) {
                return;
            }
            let lost = std::mem::replace(&mut state.phase, Phase::Idle);
            if let Phase::Linked { link, .. } = &lost {
                link.condemn();
            }
            let attempt = self.new_attempt(&mut state, false);
            state.report(&self.settings().url, fault.state, Some(fault.words));
            (lost, attempt)
        };
        // Not under the lock: dropping a connection runs code that takes it.
        drop(lost);
        attempt.start();
    }

    /// Dials another connection while the connection `id` goes on serving reads: after a
    /// failover the same name may lead to a server that takes writes.
    fn relieve(self: &Arc<Self>, id: LinkId) {
        let attempt = {
            let mut state = self.state();
            self.read_only.store(true, Ordering::Relaxed);
            if state.is_linked_by(id) {
                let words = StoreError::ReadOnly.to_string();
                state.report(&self.settings().url, StoreState::ReadOnly, Some(words));
            }
            self.new_relief(&mut state, id)
        };
        if let Some(attempt) = attempt {
            attempt.start();
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
