//! How far the log has been read, for tasks that wait for it.

use tokio::sync::Notify;

use crate::base::position::LogPosition;
use crate::base::sync::Mutex;

/// The position up to which the log has been read. There is none before the log was read to its end
/// for the first time.
///
/// tokio's `watch` is not used, since it wakes its receivers in a random order, which no test can
/// repeat.
#[derive(Debug, Default)]
pub(super) struct Progress {
    read: Mutex<Option<LogPosition>>,
    changed: Notify,
}

impl Progress {
    pub(super) fn get(&self) -> Option<LogPosition> {
        *self.read.lock()
    }

    /// Notes that the log was read to its end, at `tail`.
    pub(super) fn caught_up(&self, tail: LogPosition) {
        let before = self.read.lock().replace(tail);
        if before.is_none() {
            self.changed.notify_waiters();
        }
    }

    /// Notes that the log was read up to `position`. Before the log was read to its end for the
    /// first time, this does nothing.
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
            // This comes before the look, so that no change between the two is missed.
            let changed = self.changed.notified();
            if is_enough(self.get()) {
                return;
            }
            changed.await;
        }
    }
}
