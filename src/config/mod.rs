//! Typed settings: by builder, from the environment, by serde.

mod bounds;
mod env;
mod policy;
#[cfg(feature = "serde")]
mod serde;

use std::sync::Arc;
use std::time::Duration;

pub use policy::{Policy, PolicyBuilder};

use crate::base::clock::{Clock, SystemClock};
use crate::error::ConfigError;
use crate::store::valkey::StoreUrl;

/// The settings of a [`Cache`](crate::Cache): where responses are stored, and within which bounds.
///
/// ```
/// use std::time::Duration;
/// use tower_response_cache::CacheConfig;
///
/// let config = CacheConfig::builder()
///     .url("valkey://cache.internal:6379/2")
///     .prefix("shop")
///     .memory_bytes(256 << 20)
///     .operation_timeout(Duration::from_millis(20))
///     .build()?;
/// # drop(config);
///
/// let error = CacheConfig::builder().url("http://example.com").build().unwrap_err();
/// assert_eq!(error.setting(), "url");
/// # Ok::<(), tower_response_cache::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// `None` is `memory://`: nothing is shared.
    pub(crate) url: Option<StoreUrl>,
    pub(crate) prefix: String,
    pub(crate) status_name: String,
    pub(crate) memory_bytes: u64,
    pub(crate) max_body: u64,
    pub(crate) max_variants: usize,
    pub(crate) default_ttl: Option<Duration>,
    pub(crate) operation_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) write_queue_bytes: u64,
    #[cfg(feature = "zstd")]
    pub(crate) compress_above: Option<u64>,
    pub(crate) fill_bytes: u64,
    pub(crate) fill_deadline: Duration,
    pub(crate) follower_wait: Duration,
    pub(crate) max_followers: usize,
    pub(crate) max_flights: usize,
    pub(crate) uncacheable_ttl: Duration,
    pub(crate) lease: bool,
    pub(crate) purge_bound: Duration,
    pub(crate) purge_log_length: usize,
    pub(crate) strict_readiness: bool,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Default for CacheConfig {
    /// In memory only, with every setting at its default.
    fn default() -> Self {
        Self {
            url: None,
            prefix: "trc".to_owned(),
            status_name: "tower-response-cache".to_owned(),
            memory_bytes: 64 << 20,
            max_body: 1 << 20,
            max_variants: 64,
            default_ttl: None,
            operation_timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(2),
            write_queue_bytes: 16 << 20,
            #[cfg(feature = "zstd")]
            compress_above: None,
            fill_bytes: 64 << 20,
            fill_deadline: Duration::from_secs(30),
            follower_wait: Duration::from_secs(5),
            max_followers: 10_000,
            max_flights: 10_000,
            uncacheable_ttl: Duration::from_secs(10),
            lease: false,
            purge_bound: Duration::from_secs(5),
            purge_log_length: 100_000,
            strict_readiness: false,
            clock: Arc::new(SystemClock),
        }
    }
}

impl CacheConfig {
    /// Settings to be filled in, each at its default.
    pub fn builder() -> CacheConfigBuilder {
        CacheConfigBuilder::default()
    }

    /// Where responses are stored, without the password; `memory://` if nowhere but in process.
    #[must_use]
    pub fn store(&self) -> String {
        match &self.url {
            Some(url) => url.to_string(),
            None => MEMORY_URL.to_owned(),
        }
    }
}

/// Builds a [`CacheConfig`]. Values are checked by [`CacheConfigBuilder::build`].
#[derive(Clone, Debug, Default)]
#[must_use = "settings do nothing until they are built"]
pub struct CacheConfigBuilder {
    config: CacheConfig,
    url: Option<String>,
}

impl CacheConfigBuilder {
    /// The shared store: `valkey://`, `valkeys://` (TLS), `redis://`, `rediss://` or `unix://`,
    /// with user, password and database number; or `memory://`, the default, for none.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// The beginning of every key in the shared store. Default: `trc`. Applications that share
    /// a Valkey need different ones. 1 to 64 visible ASCII characters other than `{` and `}`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.prefix = prefix.into();
        self
    }

    /// This cache's name in `Cache-Status`. Default: `tower-response-cache`. A token (RFC 9211 2).
    pub fn status_name(mut self, name: impl Into<String>) -> Self {
        self.config.status_name = name.into();
        self
    }

    /// The most that the in-process tier may hold, in bytes. Default: 64 MiB; 0 turns it off,
    /// so that every hit costs a round trip.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.config.memory_bytes = bytes;
        self
    }

    /// The longest body that is stored, in bytes. Default: 1 MiB, at most 256 MiB. Longer ones pass
    /// through. Valkey serves long values slowly, and to everyone.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.config.max_body = bytes;
        self
    }

    /// The most variants (`Vary`) of one resource. Default: 64; at least 1. Further ones pass unstored.
    pub fn max_variants(mut self, variants: usize) -> Self {
        self.config.max_variants = variants;
        self
    }

    /// The lifetime of responses that name none, for layers whose policy sets none either.
    /// Default: zero, they are not stored. Dangerous where handlers forget `private`.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.config.default_ttl = (!ttl.is_zero()).then_some(ttl);
        self
    }

    /// The longest that one request waits for the shared store, over all its operations.
    /// Default: 50 ms; 1 ms to 60 s. What takes longer is a miss.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.config.operation_timeout = timeout;
        self
    }

    /// The longest that connecting to the shared store may take. Default: 2 s; 1 ms to 60 s.
    /// No request waits for it beyond its operation timeout.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// The most that may wait to be written to the shared store, in bytes. Default: 16 MiB; at
    /// least 64 KiB. Beyond it writes are dropped and counted; responses never wait.
    pub fn write_queue_bytes(mut self, bytes: u64) -> Self {
        self.config.write_queue_bytes = bytes;
        self
    }

    /// Compresses bodies of more than so many bytes in the shared store, by zstd. Default: never;
    /// 4 KiB is sensible where Valkey's memory or the network is scarce: it costs some 3 ms of
    /// processor time per MiB written and 1 ms per MiB read. Bodies with a `Content-Encoding`
    /// stay as they are. Instances built without the feature cannot read what is compressed.
    #[cfg(feature = "zstd")]
    pub fn compress_above(mut self, bytes: u64) -> Self {
        self.config.compress_above = Some(bytes);
        self
    }

    /// The most that bodies being recorded may take together, in bytes. Default: 64 MiB; at least
    /// the longest body. Beyond it responses pass unstored.
    pub fn fill_bytes(mut self, bytes: u64) -> Self {
        self.config.fill_bytes = bytes;
        self
    }

    /// How long a response that others may wait for is still fetched after its own client went away.
    /// Default: 30 s; 1 ms to 1 h.
    pub fn fill_deadline(mut self, deadline: Duration) -> Self {
        self.config.fill_deadline = deadline;
        self
    }

    /// How long a request waits for another's fetch of the same thing before it calls the handler
    /// itself. Default: 5 s; 1 ms to 1 h.
    pub fn follower_wait(mut self, wait: Duration) -> Self {
        self.config.follower_wait = wait;
        self
    }

    /// The most requests that wait for one fetch. Default: 10,000. Further ones call the handler.
    pub fn max_followers(mut self, followers: usize) -> Self {
        self.config.max_followers = followers;
        self
    }

    /// The most fetches that others can wait for at a time. Default: 10,000; at least 1.
    pub fn max_flights(mut self, flights: usize) -> Self {
        self.config.max_flights = flights;
        self
    }

    /// How long a URL whose response could not be shared is remembered as such, so that requests
    /// for it do not wait for each other. Default: 10 s; at most 1 h.
    pub fn uncacheable_ttl(mut self, ttl: Duration) -> Self {
        self.config.uncacheable_ttl = ttl;
        self
    }

    /// Whether one instance at a time fetches a response that none has: it takes a lease in the
    /// shared store, and the others wait for what it stores, as long as
    /// [`follower_wait`](Self::follower_wait) at most; then they call their own handlers.
    /// Default: no, each instance fetches for itself. It costs every miss two round trips to the
    /// store and pays where handlers are slow and instances many. Responses that cannot be stored
    /// are fetched by one instance after the other, once in every
    /// [`uncacheable_ttl`](Self::uncacheable_ttl). A store that fails is as no lease.
    pub fn lease(mut self, lease: bool) -> Self {
        self.config.lease = lease;
        self
    }

    /// How long this instance trusts what it has in memory when it cannot see the purge log.
    /// Default: 5 s; 100 ms to 1 h. It is the bound on staleness after a purge in an outage.
    pub fn purge_bound(mut self, bound: Duration) -> Self {
        self.config.purge_bound = bound;
        self
    }

    /// The most purges that the log retains. Default: 100,000; at least 16. Entries older than the
    /// oldest purge retained are misses, so a log too short for its purges shortens lifetimes.
    pub fn purge_log_length(mut self, records: usize) -> Self {
        self.config.purge_log_length = records;
        self
    }

    /// Whether readiness reports 503 while the shared store cannot be used. Default: no: the
    /// application serves without it, and taking every instance out at once would be the outage.
    pub fn strict_readiness(mut self, strict: bool) -> Self {
        self.config.strict_readiness = strict;
        self
    }

    /// Where the time comes from. Default: the system's clock. For tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.config.clock = Arc::new(clock);
        self
    }

    /// The settings, if each is within its bounds.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting, the value it was given, and what is allowed.
    pub fn build(self) -> Result<CacheConfig, ConfigError> {
        let Self { mut config, url } = self;
        if let Some(url) = url {
            config.url = store_url(&url)?;
        }
        bounds::check(&config)?;
        Ok(config)
    }
}

/// `memory://` is no store; anything else must be one.
fn store_url(url: &str) -> Result<Option<StoreUrl>, ConfigError> {
    if url.eq_ignore_ascii_case(MEMORY_URL) || url.eq_ignore_ascii_case("memory:") {
        return Ok(None);
    }
    StoreUrl::parse(url).map(Some).map_err(|error| {
        ConfigError::new("url", "(hidden: it may hold a password)", error.to_string())
    })
}

const MEMORY_URL: &str = "memory://";

#[cfg(test)]
mod tests;
