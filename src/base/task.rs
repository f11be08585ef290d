//! The one place where background tasks start.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Whether a background task was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Spawned {
    /// The task runs on the current runtime.
    Started,
    /// There is no runtime here, so the future was dropped without being polled.
    Dropped,
}

/// Runs `future` on the current runtime, detached.
///
/// Without a runtime the future is dropped. All background work of this crate is safe to abandon by
/// `Drop`, and an idle cache must not panic.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Spawned {
    match Handle::try_current() {
        Ok(runtime) => {
            drop(runtime.spawn(future));
            Spawned::Started
        }
        Err(_) => {
            tracing::debug!("no runtime here: a background task was dropped");
            drop(future);
            Spawned::Dropped
        }
    }
}

/// As [`spawn`], for a task whose result the caller awaits.
///
/// # Panics
///
/// Panics without a runtime. Ask [`is_possible`] first.
pub(crate) fn spawn_joinable<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    Handle::current().spawn(future)
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// As [`spawn_joinable`], for a task without a result that must not outlive its owner.
pub(crate) fn spawn_owned(future: impl Future<Output = ()> + Send + 'static) -> Owned {
    Owned(spawn_joinable(future))
}

/// Whether tasks can be started here.
pub(crate) fn is_possible() -> bool {
    Handle::try_current().is_ok()
}
