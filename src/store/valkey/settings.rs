//! The settings of the client.

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

    /// Gives the user and the password, in place of those in the URL. Default: those in the URL.
    ///
    /// It is called for each new connection, so that credentials may rotate.
    pub credentials: Option<CredentialsProvider>,

    /// Certificates for `valkeys://`, in place of the files that the URL names. Default: none. The
    /// server's certificate must then be signed by an authority that browsers trust.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsSettings>,

    /// The prefix of the log's key: `{prefix}:log`. Default `trc`.
    pub prefix: String,

    /// How long one operation should take at most. Default 50 ms.
    ///
    /// The deadline of each operation comes from its caller. An answer that takes this long counts
    /// as slow; a deadline of less than half of it, when missed, says nothing about the server. If
    /// this is too short, a busy server looks dead.
    pub operation_timeout: Duration,

    /// How long making a connection may take, name resolution, TLS and login included.
    /// Default 1 s.
    ///
    /// No operation waits that long: connections are made in the background. A value above a
    /// second delays recovery by as much, if a dial hangs while the server comes back.
    pub connect_timeout: Duration,

    /// How many operations may be in flight; more fail as busy. Default 1024.
    pub max_in_flight: usize,

    /// The longest value that is read, in bytes. Default 8 MiB. [`Cache`](crate::Cache) makes it
    /// 4 MiB more than its longest body.
    ///
    /// A longer value is an error of its key alone. For a minute after that, or after a read that
    /// timed out, no more than this is transferred of any value. A reply that announces more than
    /// this, and more than 32 MiB, ends the connection before it is read, so that the values of
    /// other applications take no memory.
    pub longest_value: u64,

    /// After how many timeouts in a row the connection is replaced. Default 3.
    ///
    /// Operations that time out together count once. If answers come, but each too late, the
    /// connection is replaced once in 15 seconds at most: most often the server is slow, not the
    /// connection.
    pub timeouts_until_replaced: u32,

    /// How many failures in a row open a breaker. Default 5.
    pub failures_until_open: u32,

    /// How long a breaker stays open before one operation probes. Default 500 ms, jittered
    /// by a quarter each way. With a value above a second, hits return late after a fault.
    pub probe_interval: Duration,

    /// About how many records the log keeps (`MAXLEN ~`). Default 100 000, some 2 MB.
    ///
    /// An entry older than the oldest record cannot be trusted any more, so too few cost hits.
    pub log_max_records: u64,

    /// How old a record may become. Older ones are removed once an hour. Default two years.
    ///
    /// It should be the longest time that an entry is kept: a lifetime is a year at most, and may
    /// be followed by as long a time of staleness.
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
    /// A provider that calls `current` for the user and the password. An empty user means the
    /// default one.
    ///
    /// It is called in the background, and must not block. If a token takes a request to get,
    /// fetch it in a task of your own, and let this function read what the task has stored.
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
    /// The only authorities that may have signed the server's certificate.
    pub ca: Option<Vec<u8>>,
    /// This client's certificate and its chain up to the authority. Needs `key`.
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
