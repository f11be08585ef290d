//! Dials: the background task that makes them, when they begin, and what becomes of them.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{self, Fault, dial_gap};
use super::link::{Link, LinkId, Watcher};
use super::sentinel;
use super::state::{FirstDial, LinkState, Phase, State};
use super::supervisor::Supervisor;
use crate::base::task::{self, Spawned};
use crate::error::StoreError;
use crate::store::{BoxFuture, StoreState};

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

/// The background task that dials. Dropped unfinished, it leaves the field to the next.
pub(crate) struct Attempt {
    pub(crate) supervisor: Weak<Supervisor>,
    pub(crate) number: u64,
}

impl Attempt {
    /// Holds the supervisor only between waits, so that dropping the store ends it.
    ///
    /// A dial that hangs does not hold up the next one: a server that was mute when the first
    /// began may never answer that one, and answers another at once.
    pub(crate) async fn run(self, persistence: Persistence) {
        let mut dials = Dials::default();
        loop {
            let next = match persistence {
                Persistence::Once if dials.begun => None,
                Persistence::Once | Persistence::UntilLinked => Some(match self.next_dial() {
                    Some(next) => next,
                    None => return,
                }),
            };
            let ended = tokio::select! {
                ended = dials.ended(), if !dials.under_way.is_empty() => ended,
                () = until(next), if next.is_some() && dials.under_way.len() < MOST_AT_ONCE => {
                    let Some(supervisor) = self.supervisor.upgrade() else { return };
                    if supervisor.reserve_dial(&self) == Reserved::Yes {
                        dials.begin(supervisor.make_link());
                    }
                    continue;
                }
                else => return,
            };
            let Some(supervisor) = self.supervisor.upgrade() else {
                return;
            };
            match ended.and_then(|link| supervisor.linked(&self, link)) {
                Ok(()) => return,
                Err(fault) => supervisor.dial_failed(&self, fault),
            }
        }
    }

    fn next_dial(&self) -> Option<Instant> {
        self.supervisor.upgrade()?.next_dial(self)
    }
}

async fn until(instant: Option<Instant>) {
    if let Some(instant) = instant {
        sleep_until(instant).await;
    }
}

/// The dials under way, the oldest first.
#[derive(Default)]
struct Dials {
    begun: bool,
    under_way: Vec<Dial>,
}

type Dial = BoxFuture<'static, Result<Arc<Link>, Fault>>;

impl Dials {
    fn begin(&mut self, dial: impl Future<Output = Result<Arc<Link>, Fault>> + Send + 'static) {
        self.begun = true;
        self.under_way.push(Box::pin(dial));
    }

    /// What the first of them to end comes to.
    async fn ended(&mut self) -> Result<Arc<Link>, Fault> {
        std::future::poll_fn(|context| {
            let ended = self
                .under_way
                .iter_mut()
                .enumerate()
                .find_map(|(place, dial)| match dial.as_mut().poll(context) {
                    Poll::Ready(result) => Some((place, result)),
                    Poll::Pending => None,
                });
            match ended {
                Some((place, result)) => {
                    drop(self.under_way.swap_remove(place));
                    Poll::Ready(result)
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.upgrade() {
            supervisor.abandoned(self.number, std::thread::panicking());
        }
    }
}

/// When an attempt gives up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Once there is a connection.
    UntilLinked,
    /// After one dial.
    Once,
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

/// How many dials may hang at a time. With the longest time that a connection may take by
/// default, there are never more.
const MOST_AT_ONCE: usize = 4;
