//! Dials: the background task that makes them, and what becomes of them.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::connect::{Fault, dial_gap};
use super::link::{Link, LinkId, Watcher};
use super::node::Node;
use super::sentinel;
use super::state::{LinkState, Phase, State};
use crate::base::task;
use crate::store::StoreState;
use crate::store::valkey::url::Address;

/// A task that dials in the background. When it ends without a connection, because its runtime
/// ended or it panicked, the next operation starts another.
pub(super) struct Attempt {
    /// Weak, so that a store that is dropped does not go on dialling.
    node: Weak<Node>,
    number: u64,
    goal: Goal,
}

/// What an attempt dials for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// There is no connection: the attempt dials until there is one.
    Connection,
    /// The connection takes no writes: the attempt dials once.
    Relief,
}

impl Attempt {
    /// Must not be called under the lock: without a runtime the attempt is dropped at once, and
    /// its `Drop` takes the lock.
    pub(super) fn start(self) {
        // Without a runtime there is nothing to undo: the drop has done it.
        let _ = task::spawn(self.run());
    }

    /// Begins dials until one of them makes a connection.
    ///
    /// A dial that hangs does not hold up the next one: a server that was mute when the first
    /// dial began may never answer that one, and answers another at once.
    async fn run(self) {
        let mut dials = JoinSet::new();
        let mut has_dialled = false;
        loop {
            let Some(next_dial) = self.next_dial() else {
                return;
            };
            let is_done = self.goal == Goal::Relief && has_dialled;
            tokio::select! {
                biased;
                Some(dialled) = dials.join_next() => {
                    let Some(node) = self.node.upgrade() else { return };
                    match joined(dialled).and_then(|link| node.linked(&self, link)) {
                        Ok(()) => return,
                        Err(fault) => node.dial_failed(&self, fault),
                    }
                }
                () = sleep_until(next_dial), if !is_done && dials.len() < MOST_AT_ONCE => {
                    let Some(node) = self.node.upgrade() else { return };
                    if node.may_dial_now(&self) {
                        dials.spawn(node.dial());
                        has_dialled = true;
                    }
                }
                else => return,
            }
        }
    }

    fn next_dial(&self) -> Option<Instant> {
        self.node.upgrade()?.next_dial(self)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(node) = self.node.upgrade() {
            node.abandoned(self.number, std::thread::panicking());
        }
    }
}

/// The result of a dial. A panic of the dial becomes one of the attempt, which reports it.
fn joined(dialled: Result<Result<Arc<Link>, Fault>, JoinError>) -> Result<Arc<Link>, Fault> {
    dialled.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_cancelled) => Err(Fault::unreachable("the runtime ended")),
    })
}

impl Node {
    /// Makes one connection, within the time that a connection may take. The future does not
    /// keep the node alive.
    pub(crate) fn dial(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<Arc<Link>, Fault>> + Send + use<> {
        let id = LinkId(self.dials.fetch_add(1, Ordering::Relaxed));
        let connector = Arc::clone(&self.connector);
        let watcher = WeakNode(Arc::downgrade(self));
        async move {
            let limit = connector.settings.connect_timeout;
            // Boxed because it is large, and rare.
            let dial = Box::pin(Link::dial(&connector, id, watcher));
            match timeout(limit, dial).await {
                Ok(link) => link.map(Arc::new),
                Err(_late) => Err(Fault::unreachable("no connection in time")),
            }
        }
    }

    /// The connection in use. Without one, starts an attempt, unless there is one already. An
    /// attempt that is stuck is replaced: its runtime may exist and yet not run.
    pub(super) fn link_or_dial(self: &Arc<Self>) -> LinkState {
        let now = Instant::now();
        let attempt = {
            let mut state = self.state();
            match &state.phase {
                Phase::Idle => {
                    if state.report == StoreState::Idle {
                        state.report(&self.settings().url, StoreState::Connecting, None);
                    }
                    let operations_wait = state.next_dial <= now;
                    Some(self.new_attempt(&mut state, operations_wait))
                }
                Phase::Dialling { done_by, .. } if *done_by < now => {
                    Some(self.new_attempt(&mut state, false))
                }
                Phase::Dialling { .. } | Phase::Linked { .. } => None,
            }
        };
        if let Some(attempt) = attempt {
            attempt.start();
        }
        self.state().link()
    }

    /// An attempt that takes the place of the connection or attempt in `state`.
    pub(super) fn new_attempt(
        self: &Arc<Self>,
        state: &mut State,
        operations_wait: bool,
    ) -> Attempt {
        let number = state.next_attempt();
        state.phase = Phase::Dialling {
            number,
            operations_wait,
            done_by: self.done_by(state.next_dial),
        };
        self.attempt(number, Goal::Connection)
    }

    /// An attempt beside the connection `id`, unless that is replaced or has one already.
    pub(super) fn new_relief(self: &Arc<Self>, state: &mut State, id: LinkId) -> Option<Attempt> {
        let number = state.next_attempt();
        match &mut state.phase {
            Phase::Linked { link, relief } if link.id() == id && relief.is_none() => {
                *relief = Some(number);
                Some(self.attempt(number, Goal::Relief))
            }
            _ => None,
        }
    }

    fn attempt(self: &Arc<Self>, number: u64, goal: Goal) -> Attempt {
        Attempt {
            node: Arc::downgrade(self),
            number,
            goal,
        }
    }

    fn done_by(&self, next_dial: Instant) -> Instant {
        next_dial.max(Instant::now()) + self.settings().connect_timeout + STUCK_AFTER
    }

    /// When `attempt` may dial, if it is still wanted.
    fn next_dial(&self, attempt: &Attempt) -> Option<Instant> {
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

    /// Whether `attempt` may dial now. If so, the next dial has to wait.
    fn may_dial_now(&self, attempt: &Attempt) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let may = state.is_dialled_by(attempt.number) && state.next_dial <= now;
        if may {
            state.next_dial = now + dial_gap();
        }
        may
    }

    /// Puts a connection to use, if its attempt is still wanted.
    fn linked(self: &Arc<Self>, attempt: &Attempt, link: Arc<Link>) -> Result<(), Fault> {
        let watched = link.found_at().map(|address| (link.id(), address.clone()));
        let replaced = {
            let mut state = self.state();
            if link.is_over() {
                return Err(Fault::unreachable("the connection was closed"));
            }
            if !state.is_dialled_by(attempt.number) {
                return Ok(());
            }
            let is_relief = matches!(state.phase, Phase::Linked { .. });
            if !is_relief {
                self.read_only.store(false, Ordering::Relaxed);
                state.report(&self.settings().url, StoreState::Ready, None);
            }
            std::mem::replace(&mut state.phase, Phase::Linked { link, relief: None })
        };
        drop(replaced);
        self.breakers.probe_now(Instant::now());
        self.changed.notify_waiters();
        if let Some((id, address)) = watched {
            self.watch_primary(id, address);
        }
        Ok(())
    }

    fn dial_failed(&self, attempt: &Attempt, fault: Fault) {
        let mut state = self.state();
        if !state.is_dialled_by(attempt.number) {
            return;
        }
        match &mut state.phase {
            // The connection in use is as good as it was.
            Phase::Linked { .. } => state.last_error = Some(fault.words),
            Phase::Idle => {}
            Phase::Dialling {
                operations_wait, ..
            } => {
                *operations_wait = false;
                state.report(&self.settings().url, fault.state, Some(fault.words));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// An attempt ended without a result: its runtime ended, or it panicked (in a TLS library
    /// without a cryptography provider, for one).
    fn abandoned(&self, attempt: u64, panicked: bool) {
        let mut state = self.state();
        match &mut state.phase {
            Phase::Dialling { number, .. } if *number == attempt => {
                state.phase = Phase::Idle;
                if panicked {
                    let words = "making a connection panicked".to_owned();
                    state.report(&self.settings().url, StoreState::Unreachable, Some(words));
                }
            }
            Phase::Linked { relief, .. } if *relief == Some(attempt) => *relief = None,
            _ => return,
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The runtime that drove the connection ended. Nothing is wrong with the server, so the
    /// next operation may dial at once, and wait for it.
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

    /// Asks the Sentinels, for as long as the connection `id` is in use, whether `address` is
    /// still the primary.
    ///
    /// A primary that is cut off from its Sentinels, but not from us, takes writes that are lost
    /// later. Nothing on the connection itself shows that.
    fn watch_primary(self: &Arc<Self>, id: LinkId, address: Address) {
        let node = Arc::downgrade(self);
        // Without a runtime there is no connection to watch.
        let _ = task::spawn(async move {
            for first in id.0.. {
                sleep(ASK_AGAIN).await;
                let Some(node) = node.upgrade() else { return };
                if !node.state().is_linked_by(id) {
                    return;
                }
                // Sentinels that do not answer say nothing against the server.
                if let Ok(primary) = sentinel::primary(&node.connector, first).await
                    && primary != address
                {
                    let fault = Fault::unreachable("the primary is another server now");
                    node.lose(id, fault);
                    return;
                }
            }
        });
    }
}

struct WeakNode(Weak<Node>);

impl Watcher for WeakNode {
    fn broke(&self, id: LinkId) {
        if let Some(node) = self.0.upgrade() {
            node.lose(id, Fault::unreachable("the connection was closed"));
        }
    }

    fn ended(&self, id: LinkId) {
        if let Some(node) = self.0.upgrade() {
            node.orphaned(id);
        }
    }
}

/// How many dials may hang at a time. With the default time that a connection may take, there
/// are never more.
const MOST_AT_ONCE: usize = 4;

/// How often the Sentinels are asked whether the primary is still the one in use.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// An attempt counts as stuck when it is this much later than its dial may end.
const STUCK_AFTER: Duration = Duration::from_secs(2);
