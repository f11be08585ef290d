//! How the client behaves.

use std::time::Duration;

use super::StoreUrl;

/// Settings of a [`ValkeyStore`](super::ValkeyStore).
///
/// The defaults suit a server in the same data centre.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValkeySettings {
    /// Where the server is.
    pub url: StoreUrl,

    /// What the log's key name begins with: `{prefix}:log`. Default `trc`.
    pub prefix: String,

    /// How long one operation should take at most. Default 50 ms.
    ///
    /// The deadline of each operation comes from its caller; this is the measure by which an
    /// answer counts as slow, and below which a caller's own deadline says nothing about the
    /// server. Too short, and a busy server looks dead.
    pub operation_timeout: Duration,

    /// How long making a connection may take, name resolution, TLS and login included.
    /// Default 1 s.
    ///
    /// No operation waits that long: connections are made in the background. Longer than
    /// about a second delays recovery by as much, when a dial hangs as the server comes back.
    pub connect_timeout: Duration,

    /// How many operations may be under way at once; more fail as busy. Default 1024.
    pub max_in_flight: usize,

    /// How many silent waits in a row make the connection suspect, so that it is replaced.
    /// Default 3. Operations that time out together count once.
    pub timeouts_until_replaced: u32,

    /// How many failures in a row open a breaker. Default 5.
    pub failures_until_open: u32,

    /// How long a breaker stays open before one operation probes. Default 500 ms, jittered
    /// by a quarter each way. With a value above a second, hits return late after a fault.
    pub probe_interval: Duration,

    /// About how many records the log keeps (`MAXLEN ~`). Default 100 000, some 2 MB.
    ///
    /// Too few, and entries older than the oldest record cannot be trusted any more.
    pub log_max_records: u64,
}

impl ValkeySettings {
    /// The defaults, for the server at `url`.
    #[must_use]
    pub fn new(url: StoreUrl) -> Self {
        Self {
            url,
            prefix: "trc".to_owned(),
            operation_timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(1),
            max_in_flight: 1024,
            timeouts_until_replaced: 3,
            failures_until_open: 5,
            probe_interval: Duration::from_millis(500),
            log_max_records: 100_000,
        }
    }
}
