//! How far the log has been read, for those who wait for it.

use tokio::sync::Notify;

use crate::base::position::LogPosition;
use crate::base::sync::Mutex;

/// The position up to which the log has been read, once it was read to its end.
///
/// Not tokio's `watch`: that wakes its receivers in a random order, which no test can repeat.
#[derive(Debug, Default)]
pub(super) struct Progress {
    read: Mutex<Option<LogPosition>>,
    changed: Notify,
}

impl Progress {
    pub(super) fn get(&self) -> Option<LogPosition> {
        *self.read.lock()
    }

    /// The log was read to its end, and that was at `tail`.
    pub(super) fn caught_up(&self, tail: LogPosition) {
        let before = self.read.lock().replace(tail);
        if before.is_none() {
            self.changed.notify_waiters();
        }
    }

    /// The log was read up to `position`, which tells nothing before it was read to its end.
    pub(super) fn advance(&self, position: LogPosition) {
        if let Some(read) = &mut *self.read.lock() {
            *read = position;
        } else {
            return;
        }
        self.changed.notify_waiters();
    }

    pub(super) async fn wait_for(&self, is_enough: impl Fn(Option<LogPosition>) -> bool) {
        loop {
            // Before the look, so that no change is missed between the two.
            let changed = self.changed.notified();
            if is_enough(self.get()) {
                return;
            }
            changed.await;
        }
    }
}
