//! The one place where background tasks start.

use std::future::Future;

use tokio::runtime::Handle;

/// Whether a background task was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Spawned {
    /// It runs on the current runtime.
    Started,
    /// There is no runtime here: the future was dropped without being polled.
    Dropped,
}

/// Runs `future` on the current runtime, detached.
///
/// Without a runtime the future is dropped: everything this crate runs in the background is
/// safe to abandon by `Drop`, and a cache must not panic where it is merely idle.
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
