//! One fetch for all instances: a short-lived key in the shared store says that one instance is
//! fetching.
//!
//! A lease saves work and nothing else. When the store fails, or the holder takes longer than the
//! lease lasts, several instances call their handlers, as they do without leases.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::task;
use crate::key::Key;
use crate::store::{Leased, SharedStore};

/// Where leases are kept, and how long they last.
#[derive(Clone, Copy)]
pub(crate) struct LeaseStore<'a> {
    pub(crate) store: &'a Arc<dyn SharedStore>,
    /// The prefix of every key of this cache.
    pub(crate) prefix: &'a str,
    /// No longer than requests wait for a lease, so that none waits for an instance that is gone.
    pub(crate) ttl: Duration,
    /// How long giving a lease back may take.
    pub(crate) timeout: Duration,
}

/// The right to fetch a key. Dropping it gives it back.
pub(crate) struct Lease {
    store: Arc<dyn SharedStore>,
    /// Empty if there is nothing to give back.
    name: String,
    token: String,
    timeout: Duration,
}

/// The store's answer to a request for a lease.
#[derive(Debug)]
pub(crate) enum LeaseAnswer {
    Granted(Lease),
    /// Another instance is fetching.
    Held,
    /// The store did not answer. The caller goes on as if there were no leases.
    Unavailable,
}

impl LeaseStore<'_> {
    /// Asks for the right to fetch `key`.
    pub(crate) async fn ask(self, key: &Key, deadline: Instant) -> LeaseAnswer {
        let mut lease = Lease {
            store: Arc::clone(self.store),
            name: format!("{}:lease:{:032x}", self.prefix, key.hash()),
            token: format!("{:032x}", fastrand::u128(..)),
            timeout: self.timeout,
        };
        let answer = self
            .store
            .lease(&lease.name, &lease.token, self.ttl, deadline)
            .await;
        match answer {
            Ok(Leased::Granted) => LeaseAnswer::Granted(lease),
            Ok(Leased::Held) => {
                lease.name.clear();
                LeaseAnswer::Held
            }
            // The store may have granted it before the error. Dropping the lease gives it back.
            Err(_) => LeaseAnswer::Unavailable,
        }
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
        // If there is no runtime, or the store fails, the lease expires by itself.
        let _ = task::spawn(async move {
            let deadline = Instant::now() + timeout;
            let _ = store.release(&name, &token, deadline).await;
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
