//! One fetch for all instances: a short-lived key in the shared store says who is at it.
//!
//! It saves work and nothing else: when the store fails, or the holder takes longer than the
//! lease lasts, several instances call their handlers, as they do without it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::task;
use crate::cache::Cache;
use crate::key::Key;
use crate::store::{Leased, SharedStore};

/// The right to fetch a key. Dropped, it is given back.
pub(crate) struct Lease {
    store: Arc<dyn SharedStore>,
    name: String,
    token: String,
    timeout: Duration,
}

/// What asking for a lease came to.
#[derive(Debug)]
pub(crate) enum LeaseAnswer {
    Granted(Lease),
    /// Another instance is fetching.
    Held,
    /// There are no leases, or the store does not answer: as if there were none.
    Unavailable,
}

impl Lease {
    /// Asks for the right to fetch `key`. It lasts as long as anyone waits for it, so that nobody
    /// waits for an instance that is gone.
    pub(crate) async fn ask(cache: &Cache, key: &Key, deadline: Instant) -> LeaseAnswer {
        let config = cache.config();
        let Some(store) = cache.tiers().store().filter(|_| config.lease) else {
            return LeaseAnswer::Unavailable;
        };
        let lease = Self {
            store: Arc::clone(store),
            name: format!("{}:lease:{:032x}", config.prefix, key.hash()),
            token: format!("{:032x}", fastrand::u128(..)),
            timeout: config.operation_timeout,
        };
        let asked = store.lease(&lease.name, &lease.token, config.follower_wait, deadline);
        let answer = asked.await;
        match answer {
            Ok(Leased::Granted) => LeaseAnswer::Granted(lease),
            Ok(Leased::Held) => {
                lease.forgo();
                LeaseAnswer::Held
            }
            // It may have been granted all the same, and is given back in that case.
            Err(_as_without) => LeaseAnswer::Unavailable,
        }
    }

    /// It was not granted: there is nothing to give back.
    fn forgo(mut self) {
        self.name.clear();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        if name.is_empty() {
            return;
        }
        let (store, timeout) = (Arc::clone(&self.store), self.timeout);
        let token = std::mem::take(&mut self.token);
        let _left_to_expire_without_a_runtime = task::spawn(async move {
            let deadline = Instant::now() + timeout;
            let _left_to_expire = store.release(&name, &token, deadline).await;
        });
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
