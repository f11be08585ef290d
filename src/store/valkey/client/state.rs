//! What a node knows of its connection, and the log lines about its changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::link::{Link, LinkId};
use crate::error::StoreError;
use crate::store::StoreState;
use crate::store::valkey::url::StoreUrl;

/// What the lock of a node guards.
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) report: StoreState,
    pub(crate) since: Instant,
    pub(crate) last_error: Option<String>,
    /// No dial begins before this.
    pub(crate) next_dial: Instant,
    /// The number of the latest attempt.
    attempts: u64,
    /// When a connection was last given up although answers came on it.
    given_up_late: Option<Instant>,
}

pub(crate) enum Phase {
    /// There is no connection, and nothing dials.
    Idle,
    /// The attempt `number` dials.
    Dialling {
        number: u64,
        /// Operations wait for the first dial after a start, and for no other.
        operations_wait: bool,
        /// When the attempt counts as stuck, and another takes its place.
        done_by: Instant,
    },
    Linked {
        link: Arc<Link>,
        /// The attempt that dials a replacement meanwhile.
        relief: Option<u64>,
    },
}

/// What an operation finds.
pub(crate) enum LinkState {
    Linked(Arc<Link>),
    /// There is no connection yet, and the operation may wait for it.
    Pending,
    /// There is no connection, and the operation fails with this error.
    Down(StoreError),
}

impl State {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Idle,
            report: StoreState::Idle,
            since: now,
            last_error: None,
            next_dial: now,
            attempts: 0,
            given_up_late: None,
        }
    }

    pub(crate) fn link(&self) -> LinkState {
        match &self.phase {
            Phase::Linked { link, .. } => LinkState::Linked(Arc::clone(link)),
            Phase::Idle
            | Phase::Dialling {
                operations_wait: true,
                ..
            } => LinkState::Pending,
            Phase::Dialling { .. } => LinkState::Down(match self.report {
                StoreState::Refused => StoreError::Refused,
                _ => StoreError::Unavailable,
            }),
        }
    }

    /// Logs one line for each change of state, and none for a repetition.
    pub(crate) fn report(&mut self, url: &StoreUrl, new: StoreState, error: Option<String>) {
        if let Some(error) = error {
            self.last_error = Some(error);
        }
        let old = std::mem::replace(&mut self.report, new);
        if old == new {
            return;
        }
        self.since = Instant::now();
        match new {
            StoreState::Ready => {
                tracing::info!(store = %url, was = old.name(), "the shared store is connected");
            }
            StoreState::Idle | StoreState::Connecting => {
                tracing::debug!(store = %url, "the shared store is being connected");
            }
            StoreState::ReadOnly
            | StoreState::Loading
            | StoreState::Unreachable
            | StoreState::Refused => {
                let error = self.last_error.as_deref().unwrap_or_default();
                tracing::warn!(
                    store = %url,
                    state = new.name(),
                    error,
                    "the shared store is lost; answering without it"
                );
            }
        }
    }

    /// Whether to give up a connection whose answers all come late.
    ///
    /// Its replies may have slipped, so that each waits for the next. But if the server is slow,
    /// another connection is as slow, and replacing one after the other would not help.
    pub(crate) fn may_give_up_late(&mut self, now: Instant) -> bool {
        let may = self
            .given_up_late
            .is_none_or(|before| now >= before + BETWEEN_LATE);
        if may {
            self.given_up_late = Some(now);
        }
        may
    }

    pub(crate) fn next_attempt(&mut self) -> u64 {
        self.attempts = self.attempts.wrapping_add(1);
        self.attempts
    }

    pub(crate) fn is_linked_by(&self, id: LinkId) -> bool {
        matches!(&self.phase, Phase::Linked { link, .. } if link.id() == id)
    }

    pub(crate) fn is_dialled_by(&self, attempt: u64) -> bool {
        match &self.phase {
            Phase::Idle => false,
            Phase::Dialling { number, .. } => *number == attempt,
            Phase::Linked { relief, .. } => *relief == Some(attempt),
        }
    }
}

/// The shortest time between two connections that are given up because answers come late.
const BETWEEN_LATE: Duration = Duration::from_secs(15);
