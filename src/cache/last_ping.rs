//! The last PING of the shared store.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Remembers the last PING for a second, so that readiness probes do not add up to load.
#[derive(Debug, Default)]
pub(crate) struct LastPing(Mutex<Option<(Instant, Option<Duration>)>>);

impl LastPing {
    /// How long the last PING took, or a new one if that is too old. `None` if the store did not
    /// answer.
    pub(crate) async fn recent_or(
        &self,
        ping: impl AsyncFnOnce() -> Option<Duration>,
    ) -> Option<Duration> {
        // The lock is held while `ping` waits: probes that come meanwhile share its result.
        let mut last = self.0.lock().await;
        let now = Instant::now();
        if let Some((at, took)) = *last
            && now.saturating_duration_since(at) < INTERVAL
        {
            return took;
        }
        let took = ping().await;
        *last = Some((now, took));
        took
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
