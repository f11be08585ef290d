//! How the client behaves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::url::{Login, StoreUrl};

/// Settings of a [`ValkeyStore`](super::ValkeyStore).
///
/// The defaults suit a server in the same data centre.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValkeySettings {
    /// Where the server is.
    pub url: StoreUrl,

    /// Where user and password come from, instead of from the URL. Default: the URL.
    ///
    /// Asked for each new connection, so that credentials may rotate.
    pub credentials: Option<CredentialsProvider>,

    /// Certificates for `valkeys://`, instead of the files that the URL names. Default: none,
    /// and the server's must be signed by an authority that browsers trust.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsSettings>,

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

    /// The longest value that is read, in bytes. Default 8 MiB. [`Cache`](crate::Cache) makes it
    /// 4 MiB more than its longest body.
    ///
    /// A longer one is an error of that key alone, and no more than this is transferred of any
    /// value for a minute; the same after a read that has timed out. A reply that announces more
    /// than this and more than 32 MiB ends the connection before it is read, so that values of
    /// someone else's take no memory.
    pub longest_value: u64,

    /// How many silent waits in a row make the connection suspect, so that it is replaced.
    /// Default 3. Operations that time out together count once. Where answers come, but each too
    /// late, that is done once in 15 seconds at most: most often the server is slow, not the
    /// connection.
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

    /// How old records may become: about the longest time that an entry is kept. Older ones are
    /// removed once an hour. Default two years, since lifetimes are a year at most and may be
    /// followed by as long a time of staleness.
    pub log_max_age: Duration,
}

impl ValkeySettings {
    /// The defaults, for the server at `url`.
    #[must_use]
    pub fn new(url: StoreUrl) -> Self {
        Self {
            url,
            credentials: None,
            #[cfg(feature = "tls")]
            tls: None,
            prefix: "trc".to_owned(),
            operation_timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(1),
            max_in_flight: 1024,
            longest_value: 8 << 20,
            timeouts_until_replaced: 3,
            failures_until_open: 5,
            probe_interval: Duration::from_millis(500),
            log_max_records: 100_000,
            log_max_age: Duration::from_secs(2 * 365 * 24 * 60 * 60),
        }
    }
}

/// Gives user and password for each new connection.
///
/// ```
/// use tower_response_cache::{CredentialsProvider, StoreUrl, ValkeySettings};
///
/// # fn token() -> String { "s3cret".to_owned() }
/// let mut settings = ValkeySettings::new(StoreUrl::parse("valkeys://cache.internal")?);
/// settings.credentials = Some(CredentialsProvider::new(|| ("app".to_owned(), token())));
/// # Ok::<_, tower_response_cache::UrlError>(())
/// ```
#[derive(Clone)]
pub struct CredentialsProvider(Arc<dyn Fn() -> (String, String) + Send + Sync>);

impl CredentialsProvider {
    /// A provider that asks `current` for the user and the password of the moment; an empty user
    /// is the default one.
    ///
    /// It is called in the background, and must not block: a token that takes a request to get
    /// is fetched by a task of your own, and left where this function finds it.
    #[must_use]
    pub fn new(current: impl Fn() -> (String, String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(current))
    }

    pub(super) fn login(&self) -> Login {
        let (user, password) = (self.0)();
        Login {
            user: (!user.is_empty()).then_some(user),
            password: (!password.is_empty()).then_some(password),
        }
    }
}

impl fmt::Debug for CredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsProvider")
    }
}

/// Certificates in PEM.
#[cfg(feature = "tls")]
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct TlsSettings {
    /// The authorities that may have signed the server's certificate; these alone.
    pub ca: Option<Vec<u8>>,
    /// This client's certificate, with those between it and its authority. Needs `key`.
    pub certificate: Option<Vec<u8>>,
    /// The key of this client's certificate.
    pub key: Option<Vec<u8>>,
}

#[cfg(feature = "tls")]
impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings").finish_non_exhaustive()
    }
}
