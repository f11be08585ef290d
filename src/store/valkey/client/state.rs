//! The supervisor's state, and the log lines about its changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::link::{Link, LinkId};
use crate::error::StoreError;
use crate::store::StoreState;
use crate::store::valkey::StoreUrl;

/// What the lock guards.
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) report: StoreState,
    pub(crate) since: Instant,
    pub(crate) last_error: Option<String>,
    pub(crate) next_dial: Instant,
    pub(crate) attempts: u64,
    /// When a connection was last given up although answers came on it.
    late: Option<Instant>,
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
            late: None,
        }
    }

    /// One line for each change of state, and none for what repeats.
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

    /// Whether to give a connection up on which answers come, but none in time. Its replies may have
    /// slipped, so that each waits for the next; if it is the server that is slow, another
    /// connection is as slow, and one after the other would be no better.
    pub(crate) fn may_lose_late(&mut self, now: Instant) -> bool {
        let may = self.late.is_none_or(|late| now >= late + BETWEEN_LATE);
        if may {
            self.late = Some(now);
        }
        may
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

pub(crate) enum Phase {
    /// Nobody dials.
    Idle,
    /// The attempt `number` dials.
    Dialling {
        number: u64,
        hope: FirstDial,
        /// By when it must have come to something, or it is taken to be stuck.
        done_by: Instant,
    },
    Linked {
        link: Arc<Link>,
        /// The attempt that dials a replacement meanwhile.
        relief: Option<u64>,
    },
}

/// Whether an operation may wait for the dial that is under way.
#[derive(Clone, Copy)]
pub(crate) enum FirstDial {
    First,
    None,
}

/// What an operation finds.
pub(crate) enum LinkState {
    Linked(Arc<Link>),
    Soon,
    Down(StoreError),
}

/// How long a connection with late answers is kept if the one before was given up for that.
const BETWEEN_LATE: Duration = Duration::from_secs(15);
