//! Keeps one good connection to the server.
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
//! Operations wait for the first dial only; after that, no connection means an error at
//! once. Dials begin half a second apart, jittered, whether the one before has ended or
//! hangs. The pause does not grow: two dials a second cost a server nothing, and a longer
//! pause would delay recovery by as much.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::bounded::BoundedReads;
use super::breaker::Breaker;
use super::connect::Fault;
use super::dialling::{Attempt, Persistence};
use super::link::{Link, LinkId, Reply};
use super::state::{FirstDial, LinkState, Phase, State};
use super::{Failed, Manner};
use crate::error::StoreError;
use crate::store::valkey::ValkeySettings;
use crate::store::valkey::command::{self, Remedy};
use crate::store::{Health, StoreState};

/// Owns the connection, its replacement, and all that is known of the server.
pub(crate) struct Supervisor {
    pub(crate) settings: ValkeySettings,
    pub(super) care: Arc<BoundedReads>,
    pub(crate) reads: Breaker,
    pub(crate) writes: Breaker,
    state: Mutex<State>,
    pub(super) changed: Notify,
    pub(super) read_only: AtomicBool,
    pub(super) dials: AtomicU64,
    mismatches: AtomicU64,
}

impl Supervisor {
    pub(crate) fn new(settings: ValkeySettings, care: Arc<BoundedReads>) -> Arc<Self> {
        let breaker = || Breaker::new(settings.failures_until_open, settings.probe_interval);
        Arc::new(Self {
            reads: breaker(),
            writes: breaker(),
            settings,
            care,
            state: Mutex::new(State::new(Instant::now())),
            changed: Notify::new(),
            read_only: AtomicBool::new(false),
            dials: AtomicU64::new(0),
            mismatches: AtomicU64::new(0),
        })
    }

    /// Sends `command` and reads its reply, by `deadline`.
    pub(crate) async fn execute<T>(
        self: &Arc<Self>,
        manner: Manner,
        command: &Cmd,
        deadline: Instant,
        read: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<T, Failed> {
        let link = self.link(deadline).await?;
        let sent = Instant::now();
        let reply = match manner {
            Manner::Plain => link.send(command, deadline).await,
            Manner::Asking => Box::pin(link.send_asking(command, deadline)).await,
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
                self.note_silence(&link, sent);
                Err(StoreError::TimedOut.into())
            }
            Reply::Distrusted => Err(StoreError::Unavailable.into()),
        }
    }

    /// The connection in use. Waits for the very first, and never for a later one.
    pub(crate) async fn link(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Link>, StoreError> {
        if let LinkState::Linked(link) = self.look() {
            return Ok(link);
        }
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable);
        }
        let mut changed = pin!(self.changed.notified());
        changed.as_mut().enable();
        match self.look_or_dial() {
            LinkState::Linked(link) => return Ok(link),
            LinkState::Down(error) => return Err(error),
            LinkState::Soon => {}
        }
        timeout_at(deadline, changed)
            .await
            .map_err(|_late| StoreError::TimedOut)?;
        match self.look() {
            LinkState::Linked(link) => Ok(link),
            LinkState::Down(error) => Err(error),
            LinkState::Soon => Err(StoreError::Unavailable),
        }
    }

    /// The connection in use, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<Link>> {
        match self.look() {
            LinkState::Linked(link) => Some(link),
            LinkState::Soon | LinkState::Down(_) => None,
        }
    }

    /// Whether operations fail at once for want of a connection.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.look(), LinkState::Down(_))
    }

    pub(crate) fn health(&self) -> Health {
        let state = self.state();
        Health {
            state: state.report,
            since: state.since.into_std(),
            read_breaker: self.reads.state(),
            write_breaker: self.writes.state(),
            dials: self.dials.load(Ordering::Relaxed),
            mismatches: self.mismatches.load(Ordering::Relaxed),
            suspensions: self.reads.times_opened() + self.writes.times_opened(),
            last_error: state.last_error.clone(),
        }
    }

    /// A value of another key was read: replies may have slipped by one.
    pub(crate) fn note_mismatch(self: &Arc<Self>) {
        self.mismatches.fetch_add(1, Ordering::Relaxed);
        if let Some(link) = self.current() {
            self.lose(
                link.id(),
                Fault::unreachable("a value of another key was read"),
            );
        }
    }

    /// A write succeeded, so the server takes writes.
    pub(crate) fn note_writable(&self) {
        if self.read_only.swap(false, Ordering::Relaxed) {
            let mut state = self.state();
            if state.report == StoreState::ReadOnly {
                state.report(&self.settings.url, StoreState::Ready, None);
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

    /// A deadline that was nearly over when the command was sent says nothing about the
    /// server.
    fn note_silence(self: &Arc<Self>, link: &Link, sent: Instant) {
        if sent.elapsed() * 2 >= self.settings.operation_timeout {
            self.strike(link, sent, &StoreError::TimedOut);
        }
    }

    fn strike(self: &Arc<Self>, link: &Link, sent: Instant, error: &StoreError) {
        let now = Instant::now();
        let strikes = link.strike(sent, now);
        let most = self.settings.timeouts_until_replaced;
        let late = || strikes.in_a_row >= most && self.state().may_lose_late(now);
        if strikes.in_silence >= most || late() {
            self.lose(link.id(), Fault::from(error));
        }
    }

    /// Gives the connection `id` up, if it is still the one in use, and dials another.
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
            let attempt = self.begin(&mut state, FirstDial::None);
            state.report(&self.settings.url, fault.state, Some(fault.words));
            (lost, attempt)
        };
        // Not under the lock: what hangs on a connection is dropped with it.
        drop(lost);
        self.start(attempt, Persistence::UntilLinked);
    }

    /// Dials another connection while this one goes on serving reads: after a failover the
    /// same name may lead to a server that takes writes.
    fn relieve(self: &Arc<Self>, id: LinkId) {
        let attempt = {
            let mut state = self.state();
            self.read_only.store(true, Ordering::Relaxed);
            if state.is_linked_by(id) {
                let words = StoreError::ReadOnly.to_string();
                state.report(&self.settings.url, StoreState::ReadOnly, Some(words));
            }
            self.dial_beside(&mut state, Some(id))
        };
        if let Some(attempt) = attempt {
            self.start(attempt, Persistence::Once);
        }
    }

    /// A dial beside the connection in use, of whatever `id` if none is given, unless there is one.
    fn dial_beside(self: &Arc<Self>, state: &mut State, id: Option<LinkId>) -> Option<Attempt> {
        let number = state.attempts.wrapping_add(1);
        match &mut state.phase {
            Phase::Linked { link, relief }
                if id.is_none_or(|id| link.id() == id) && relief.is_none() =>
            {
                *relief = Some(number);
            }
            _ => return None,
        }
        state.attempts = number;
        Some(self.attempt(number))
    }

    /// Waits for a connection for as long as it takes, until `deadline`.
    pub(crate) async fn until_linked(self: &Arc<Self>, deadline: Instant) {
        let linked = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if Handle::try_current().is_err() {
                    return;
                }
                if let LinkState::Linked(_) = self.look_or_dial() {
                    return;
                }
                changed.await;
            }
        };
        let _linked_or_not = timeout_at(deadline, linked).await;
    }

    /// Whether the connection `id` is the one in use.
    pub(crate) fn is_linked_by(&self, id: LinkId) -> bool {
        self.state().is_linked_by(id)
    }

    /// Whether `link` leads elsewhere than the connection in use.
    pub(crate) fn has_moved_from(&self, link: &Link) -> bool {
        self.current()
            .is_some_and(|current| current.found_at() != link.found_at())
    }

    /// The Sentinels name another primary: this one may go on unaware for as long as it is cut
    /// off from the others.
    pub(crate) fn moved(self: &Arc<Self>, id: LinkId) {
        self.lose(id, Fault::unreachable("the primary is another server now"));
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
