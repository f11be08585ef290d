//! The background task that dials.

use std::sync::Weak;

use tokio::time::sleep_until;

use super::supervisor::Supervisor;

/// The background task that dials. Dropped unfinished, it leaves the field to the next.
pub(super) struct Attempt {
    pub(super) supervisor: Weak<Supervisor>,
    pub(super) number: u64,
}

impl Attempt {
    /// Holds the supervisor only while it dials, so that dropping the store ends it.
    pub(super) async fn run(self, persistence: Persistence) {
        loop {
            let start = self
                .supervisor
                .upgrade()
                .and_then(|supervisor| supervisor.reserve_dial(&self));
            let Some(start) = start else { return };
            sleep_until(start).await;
            let Some(supervisor) = self.supervisor.upgrade() else {
                return;
            };
            let linked = match supervisor.make_link().await {
                Ok(link) => supervisor.linked(&self, link),
                Err(fault) => Err(fault),
            };
            match linked {
                Ok(()) => return,
                Err(fault) => supervisor.dial_failed(&self, fault),
            }
            if persistence == Persistence::Once {
                return;
            }
        }
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
pub(super) enum Persistence {
    /// Once there is a connection.
    UntilLinked,
    /// After one dial.
    Once,
}
