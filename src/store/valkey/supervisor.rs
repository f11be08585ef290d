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

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::ValkeySettings;
use super::attempt::{Attempt, Persistence};
use super::breaker::Breaker;
use super::command::{self, Remedy};
use super::dial;
use super::link::{Fault, Link, LinkId, Reply, Watcher};
use super::node::{Failed, Manner};
use super::sentinel;
use super::state::{Hope, Look, Phase, State};
use crate::error::StoreError;
use crate::store::{Health, StoreState};
use crate::task::{self, Spawned};

/// Owns the connection, its replacement, and all that is known of the server.
pub(super) struct Supervisor {
    pub(super) settings: ValkeySettings,
    pub(super) reads: Breaker,
    pub(super) writes: Breaker,
    state: Mutex<State>,
    changed: Notify,
    read_only: AtomicBool,
    dials: AtomicU64,
    mismatches: AtomicU64,
}

impl Supervisor {
    pub(super) fn new(settings: ValkeySettings) -> Arc<Self> {
        let breaker = || Breaker::new(settings.failures_until_open, settings.probe_interval);
        Arc::new(Self {
            reads: breaker(),
            writes: breaker(),
            settings,
            state: Mutex::new(State::new(Instant::now())),
            changed: Notify::new(),
            read_only: AtomicBool::new(false),
            dials: AtomicU64::new(0),
            mismatches: AtomicU64::new(0),
        })
    }

    /// Sends `command` and reads its reply, by `deadline`.
    pub(super) async fn execute<T>(
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
    async fn link(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Link>, StoreError> {
        if let Look::Linked(link) = self.look() {
            return Ok(link);
        }
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable);
        }
        let mut changed = pin!(self.changed.notified());
        changed.as_mut().enable();
        match self.look_or_dial() {
            Look::Linked(link) => return Ok(link),
            Look::Down(error) => return Err(error),
            Look::Soon => {}
        }
        timeout_at(deadline, changed)
            .await
            .map_err(|_late| StoreError::TimedOut)?;
        match self.look() {
            Look::Linked(link) => Ok(link),
            Look::Down(error) => Err(error),
            Look::Soon => Err(StoreError::Unavailable),
        }
    }

    /// The connection in use, if there is one.
    pub(super) fn current(&self) -> Option<Arc<Link>> {
        match self.look() {
            Look::Linked(link) => Some(link),
            Look::Soon | Look::Down(_) => None,
        }
    }

    pub(super) fn health(&self) -> Health {
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
    pub(super) fn note_mismatch(self: &Arc<Self>) {
        self.mismatches.fetch_add(1, Ordering::Relaxed);
        if let Some(link) = self.current() {
            self.lose(
                link.id(),
                Fault::unreachable("a value of another key was read"),
            );
        }
    }

    /// A write succeeded, so the server takes writes.
    pub(super) fn note_writable(&self) {
        if self.read_only.swap(false, Ordering::Relaxed) {
            let mut state = self.state();
            if state.report == StoreState::ReadOnly {
                state.report(&self.settings.url, StoreState::Ready, None);
            }
        }
    }

    /// Connects once, within the time that a connection may take. Does not keep the supervisor.
    pub(super) fn make_link(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<Arc<Link>, Fault>> + Send + use<> {
        let id = LinkId(self.dials.fetch_add(1, Ordering::Relaxed));
        let settings = self.settings.clone();
        let watcher = WeakSupervisor(Arc::downgrade(self));
        async move {
            let pipeline = settings.max_in_flight.max(1);
            let dial = async {
                let target = dial::target(&settings, id.0).await?;
                Link::dial(target, id, pipeline, watcher).await
            };
            // Boxed because it is large, and rare.
            match timeout(settings.connect_timeout, Box::pin(dial)).await {
                Ok(link) => link.map(Arc::new),
                Err(_late) => Err(Fault::unreachable("no connection in time")),
            }
        }
    }

    fn apply(self: &Arc<Self>, remedy: Remedy, error: &StoreError, link: &Link, sent: Instant) {
        match remedy {
            Remedy::Keep => {}
            Remedy::Relieve => self.relieve(link.id()),
            Remedy::Strike => self.strike(link, sent, Fault::from(error)),
            Remedy::Replace => self.lose(link.id(), Fault::from(error)),
        }
    }

    /// A deadline that was nearly over when the command was sent says nothing about the
    /// server.
    fn note_silence(self: &Arc<Self>, link: &Link, sent: Instant) {
        if sent.elapsed() * 2 >= self.settings.operation_timeout {
            self.strike(link, sent, Fault::from(&StoreError::TimedOut));
        }
    }

    fn strike(self: &Arc<Self>, link: &Link, sent: Instant, fault: Fault) {
        if link.strike(sent, Instant::now()) >= self.settings.timeouts_until_replaced {
            self.lose(link.id(), fault);
        }
    }

    /// Gives the connection `id` up, if it is still the one in use, and dials another.
    fn lose(self: &Arc<Self>, id: LinkId, fault: Fault) {
        let (lost, attempt) = {
            let mut state = self.state();
            if !state.is_linked_by(id) {
                return;
            }
            let lost = std::mem::replace(&mut state.phase, Phase::Idle);
            if let Phase::Linked { link, .. } = &lost {
                link.condemn();
            }
            let attempt = self.begin(&mut state, Hope::None);
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
            let number = state.attempts.wrapping_add(1);
            match &mut state.phase {
                Phase::Linked { link, relief } if link.id() == id && relief.is_none() => {
                    *relief = Some(number);
                }
                _ => return,
            }
            state.attempts = number;
            self.attempt(number)
        };
        self.start(attempt, Persistence::Once);
    }

    fn look(&self) -> Look {
        let state = self.state();
        match &state.phase {
            Phase::Linked { link, .. } => Look::Linked(Arc::clone(link)),
            Phase::Idle
            | Phase::Dialling {
                hope: Hope::First, ..
            } => Look::Soon,
            Phase::Dialling { .. } => Look::Down(match state.report {
                StoreState::Refused => StoreError::Refused,
                _ => StoreError::Unavailable,
            }),
        }
    }

    /// Starts to dial if nobody does, or if who does has been stuck for too long: its
    /// runtime may still exist and yet not run.
    fn look_or_dial(self: &Arc<Self>) -> Look {
        let now = Instant::now();
        let attempt = {
            let mut state = self.state();
            match &state.phase {
                Phase::Idle => {
                    if state.report == StoreState::Idle {
                        state.report(&self.settings.url, StoreState::Connecting, None);
                    }
                    let hope = match state.next_dial <= now {
                        true => Hope::First,
                        false => Hope::None,
                    };
                    Some(self.begin(&mut state, hope))
                }
                Phase::Dialling { done_by, .. } if *done_by < now => {
                    Some(self.begin(&mut state, Hope::None))
                }
                Phase::Dialling { .. } | Phase::Linked { .. } => None,
            }
        };
        if let Some(attempt) = attempt {
            self.start(attempt, Persistence::UntilLinked);
        }
        self.look()
    }

    fn begin(self: &Arc<Self>, state: &mut State, hope: Hope) -> Attempt {
        state.attempts = state.attempts.wrapping_add(1);
        state.phase = Phase::Dialling {
            number: state.attempts,
            hope,
            done_by: self.done_by(state.next_dial),
        };
        self.attempt(state.attempts)
    }

    fn attempt(self: &Arc<Self>, number: u64) -> Attempt {
        Attempt {
            supervisor: Arc::downgrade(self),
            number,
        }
    }

    fn done_by(&self, next_dial: Instant) -> Instant {
        next_dial.max(Instant::now()) + self.settings.connect_timeout + STUCK_AFTER
    }

    /// Never under the lock: without a runtime the attempt is dropped here and now.
    fn start(self: &Arc<Self>, attempt: Attempt, persistence: Persistence) {
        match task::spawn(attempt.run(persistence)) {
            Spawned::Started | Spawned::Dropped => {}
        }
    }

    /// When `attempt` may dial, if it is still wanted.
    pub(super) fn next_dial(&self, attempt: &Attempt) -> Option<Instant> {
        let mut state = self.state();
        if !state.is_dialled_by(attempt.number) {
            return None;
        }
        let start = state.next_dial.max(Instant::now());
        if let Phase::Dialling { done_by, .. } = &mut state.phase {
            *done_by = self.done_by(start);
        }
        Some(start)
    }

    /// Whether `attempt` may dial now.
    pub(super) fn reserve_dial(&self, attempt: &Attempt) -> Reserved {
        let mut state = self.state();
        let now = Instant::now();
        if !state.is_dialled_by(attempt.number) || state.next_dial > now {
            return Reserved::No;
        }
        state.next_dial = now + dial_gap();
        Reserved::Yes
    }

    /// Waits for a connection for as long as it takes, until `deadline`.
    pub(super) async fn until_linked(self: &Arc<Self>, deadline: Instant) {
        let linked = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if Handle::try_current().is_err() {
                    return;
                }
                if let Look::Linked(_) = self.look_or_dial() {
                    return;
                }
                changed.await;
            }
        };
        let _linked_or_not = timeout_at(deadline, linked).await;
    }

    pub(super) fn linked(
        self: &Arc<Self>,
        attempt: &Attempt,
        link: Arc<Link>,
    ) -> Result<(), Fault> {
        let watched = link.found_at().map(|address| (link.id(), address.clone()));
        let replaced = {
            let mut state = self.state();
            if link.is_over() {
                return Err(Fault::unreachable("the connection was closed"));
            }
            if !state.is_dialled_by(attempt.number) {
                return Ok(());
            }
            let relief = matches!(state.phase, Phase::Linked { .. });
            if !relief {
                self.read_only.store(false, Ordering::Relaxed);
                state.report(&self.settings.url, StoreState::Ready, None);
            }
            std::mem::replace(&mut state.phase, Phase::Linked { link, relief: None })
        };
        drop(replaced);
        let now = Instant::now();
        self.reads.probe_now(now);
        self.writes.probe_now(now);
        self.changed.notify_waiters();
        if let Some((id, address)) = watched {
            sentinel::watch(Arc::downgrade(self), id, address);
        }
        Ok(())
    }

    /// Whether the connection `id` is the one in use.
    pub(super) fn is_linked_by(&self, id: LinkId) -> bool {
        self.state().is_linked_by(id)
    }

    /// Whether `link` leads elsewhere than the connection in use.
    pub(super) fn has_moved_from(&self, link: &Link) -> bool {
        self.current()
            .is_some_and(|current| current.found_at() != link.found_at())
    }

    /// The Sentinels name another primary: this one may go on unaware for as long as it is cut
    /// off from the others.
    pub(super) fn moved(self: &Arc<Self>, id: LinkId) {
        self.lose(id, Fault::unreachable("the primary is another server now"));
    }

    pub(super) fn dial_failed(&self, attempt: &Attempt, fault: Fault) {
        let mut state = self.state();
        if !state.is_dialled_by(attempt.number) {
            return;
        }
        match &mut state.phase {
            // The connection in use is as good as it was.
            Phase::Linked { .. } => state.last_error = Some(fault.words),
            Phase::Idle => {}
            Phase::Dialling { hope, .. } => {
                *hope = Hope::None;
                state.report(&self.settings.url, fault.state, Some(fault.words));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The runtime that ran an attempt ended, or the attempt panicked (in a TLS library
    /// without a cryptography provider, for one): the next operation starts another.
    pub(super) fn abandoned(&self, number: u64, panicked: bool) {
        let mut state = self.state();
        match &mut state.phase {
            Phase::Dialling {
                number: current, ..
            } if *current == number => {
                state.phase = Phase::Idle;
                if panicked {
                    let words = "making a connection panicked".to_owned();
                    state.report(&self.settings.url, StoreState::Unreachable, Some(words));
                }
            }
            Phase::Linked { relief, .. } if *relief == Some(number) => *relief = None,
            _ => return,
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The runtime that drove the connection ended: nothing is wrong with the server, so
    /// the next operation may dial at once, and wait for it.
    fn orphaned(&self, id: LinkId) {
        let orphan = {
            let mut state = self.state();
            if !state.is_linked_by(id) {
                return;
            }
            state.next_dial = Instant::now();
            std::mem::replace(&mut state.phase, Phase::Idle)
        };
        drop(orphan);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a dial may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserved {
    Yes,
    No,
}

/// The pause between the beginnings of two dials. A server that is back is found within it,
/// even if the last dial still hangs.
pub(super) fn dial_gap() -> Duration {
    Duration::from_millis(fastrand::u64(500..650))
}

struct WeakSupervisor(Weak<Supervisor>);

impl Watcher for WeakSupervisor {
    fn broke(&self, id: LinkId) {
        if let Some(supervisor) = self.0.upgrade() {
            supervisor.lose(id, Fault::unreachable("the connection was closed"));
        }
    }

    fn ended(&self, id: LinkId) {
        if let Some(supervisor) = self.0.upgrade() {
            supervisor.orphaned(id);
        }
    }
}

/// How much longer than a dial may take it takes to be given up as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(2);
