//! Dials: when they begin, and what becomes of them.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Supervisor;
use crate::base::task::{self, Spawned};
use crate::error::StoreError;
use crate::store::StoreState;
use crate::store::valkey::client::attempt::{Attempt, Persistence};
use crate::store::valkey::client::connect;
use crate::store::valkey::client::link::{Fault, Link, LinkId, Watcher};
use crate::store::valkey::client::state::{FirstDial, LinkState, Phase, State};
use crate::store::valkey::sentinel;

/// Whether a dial may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserved {
    Yes,
    No,
}

impl Supervisor {
    /// Connects once, within the time that a connection may take. Does not keep the supervisor.
    pub(crate) fn make_link(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<Arc<Link>, Fault>> + Send + use<> {
        let id = LinkId(self.dials.fetch_add(1, Ordering::Relaxed));
        let settings = self.settings.clone();
        let care = Arc::clone(&self.care);
        let watcher = WeakSupervisor(Arc::downgrade(self));
        async move {
            let dial = async {
                let target = connect::target(&settings, id.0).await?;
                Link::dial(target, &settings, care, id, watcher).await
            };
            // Boxed because it is large, and rare.
            match timeout(settings.connect_timeout, Box::pin(dial)).await {
                Ok(link) => link.map(Arc::new),
                Err(_late) => Err(Fault::unreachable("no connection in time")),
            }
        }
    }

    pub(crate) fn look(&self) -> LinkState {
        let state = self.state();
        match &state.phase {
            Phase::Linked { link, .. } => LinkState::Linked(Arc::clone(link)),
            Phase::Idle
            | Phase::Dialling {
                hope: FirstDial::First,
                ..
            } => LinkState::Soon,
            Phase::Dialling { .. } => LinkState::Down(match state.report {
                StoreState::Refused => StoreError::Refused,
                _ => StoreError::Unavailable,
            }),
        }
    }

    /// Starts to dial if nobody does, or if who does has been stuck for too long: its
    /// runtime may still exist and yet not run.
    pub(crate) fn look_or_dial(self: &Arc<Self>) -> LinkState {
        let now = Instant::now();
        let attempt = {
            let mut state = self.state();
            match &state.phase {
                Phase::Idle => {
                    if state.report == StoreState::Idle {
                        state.report(&self.settings.url, StoreState::Connecting, None);
                    }
                    let hope = match state.next_dial <= now {
                        true => FirstDial::First,
                        false => FirstDial::None,
                    };
                    Some(self.begin(&mut state, hope))
                }
                Phase::Dialling { done_by, .. } if *done_by < now => {
                    Some(self.begin(&mut state, FirstDial::None))
                }
                Phase::Dialling { .. } | Phase::Linked { .. } => None,
            }
        };
        if let Some(attempt) = attempt {
            self.start(attempt, Persistence::UntilLinked);
        }
        self.look()
    }

    pub(crate) fn begin(self: &Arc<Self>, state: &mut State, hope: FirstDial) -> Attempt {
        state.attempts = state.attempts.wrapping_add(1);
        state.phase = Phase::Dialling {
            number: state.attempts,
            hope,
            done_by: self.done_by(state.next_dial),
        };
        self.attempt(state.attempts)
    }

    pub(crate) fn attempt(self: &Arc<Self>, number: u64) -> Attempt {
        Attempt {
            supervisor: Arc::downgrade(self),
            number,
        }
    }

    fn done_by(&self, next_dial: Instant) -> Instant {
        next_dial.max(Instant::now()) + self.settings.connect_timeout + STUCK_AFTER
    }

    /// Never under the lock: without a runtime the attempt is dropped here and now.
    pub(crate) fn start(self: &Arc<Self>, attempt: Attempt, persistence: Persistence) {
        match task::spawn(attempt.run(persistence)) {
            Spawned::Started | Spawned::Dropped => {}
        }
    }

    /// When `attempt` may dial, if it is still wanted.
    pub(crate) fn next_dial(&self, attempt: &Attempt) -> Option<Instant> {
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
    pub(crate) fn reserve_dial(&self, attempt: &Attempt) -> Reserved {
        let mut state = self.state();
        let now = Instant::now();
        if !state.is_dialled_by(attempt.number) || state.next_dial > now {
            return Reserved::No;
        }
        state.next_dial = now + dial_gap();
        Reserved::Yes
    }

    pub(crate) fn linked(
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

    pub(crate) fn dial_failed(&self, attempt: &Attempt, fault: Fault) {
        let mut state = self.state();
        if !state.is_dialled_by(attempt.number) {
            return;
        }
        match &mut state.phase {
            // The connection in use is as good as it was.
            Phase::Linked { .. } => state.last_error = Some(fault.words),
            Phase::Idle => {}
            Phase::Dialling { hope, .. } => {
                *hope = FirstDial::None;
                state.report(&self.settings.url, fault.state, Some(fault.words));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The runtime that ran an attempt ended, or the attempt panicked (in a TLS library
    /// without a cryptography provider, for one): the next operation starts another.
    pub(crate) fn abandoned(&self, number: u64, panicked: bool) {
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
}

/// The pause between the beginnings of two dials. A server that is back is found within it,
/// even if the last dial still hangs.
pub(crate) fn dial_gap() -> Duration {
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
