//! The table of a cache's settings, and the builder that fills it in.

use std::sync::Arc;
use std::time::Duration;

use super::bounds::{Bounds, GIB, HOUR, KIB, MIB, MILLISECOND, MINUTE, SECOND, TextForm, YEAR};
use super::from_text::FromText;
use super::table::settings;
use crate::base::clock::{Clock, SystemClock};
use crate::error::ConfigError;
use crate::store::least_for;
use crate::store::valkey::StoreUrl;

settings! {
    /// The settings of a [`Cache`](crate::Cache).
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
        // `None` is `memory://`.
        url: Option<StoreUrl> = None,
        clock: Arc<dyn Clock> = Arc::new(SystemClock),
    }

    /// The start of every key in the shared store.
    ///
    /// Default: `trc`. Allowed: 1 to 64 visible ASCII characters other than `{` and `}`, which
    /// choose the slot in a cluster.
    ///
    /// Danger: applications that share a Valkey and a prefix answer with each other's responses.
    prefix: String {
        default: "trc".to_owned(),
        allowed: KEY_PREFIX,
        builder: |prefix: impl Into<String>| prefix.into(),
        variable: "CACHE_PREFIX" like "shop",
    }

    /// The name of this cache in `Cache-Status`, and in the label `cache` of metrics.
    ///
    /// Default: `tower-response-cache`. Allowed: a token (RFC 9211, section 2) of at most 64
    /// characters.
    status_name: String {
        default: "tower-response-cache".to_owned(),
        allowed: TOKEN,
        builder: |name: impl Into<String>| name.into(),
        variable: "CACHE_STATUS_NAME" like "edge",
    }

    /// The size of the in-process tier, in bytes.
    ///
    /// Default: 64 MiB. Zero turns the tier off; then every hit costs a round trip to the shared
    /// store. Allowed without a shared store (`memory://`): zero, or a quarter more than
    /// [`max_body`](Self::max_body), so that each body finds room. The tier has one lock for each
    /// 64 bodies of that length that it can hold.
    memory_bytes: u64 {
        default: 64 * MIB,
        allowed: ..,
        builder: |bytes: u64| bytes,
        variable: "CACHE_MEMORY_BYTES" like "64MiB",
    }

    /// The longest body that is stored, in bytes. Longer bodies pass through unstored.
    ///
    /// Default: 1 MiB. Allowed: 1 B to 256 MiB. A long value delays all clients of Valkey.
    max_body: u64 {
        default: MIB,
        allowed: 1..=256 * MIB,
        builder: |bytes: u64| bytes,
        variable: "CACHE_MAX_BODY" like "1MiB",
    }

    /// The number of variants (`Vary`) that are stored of one resource.
    ///
    /// Default: 64. Allowed: at least 1. Clients choose the header fields that variants differ
    /// by, so without a bound one client could fill the store. At the bound the
    /// variant that was stored longest ago gives way to the next.
    max_variants: usize {
        default: 64,
        allowed: 1..,
        builder: |variants: usize| variants,
        variable: "CACHE_MAX_VARIANTS" like "64",
    }

    /// The lifetime of responses that name none, where the layer's policy sets none either.
    ///
    /// Default: none. Such responses are not stored. Allowed: at most a year; zero is none.
    ///
    /// Danger: a handler that forgets `private` has its responses served to everyone.
    default_ttl: Duration {
        default: Duration::ZERO,
        allowed: Duration::ZERO..=YEAR,
        builder: |ttl: Duration| ttl,
        variable: "CACHE_DEFAULT_TTL" like "30s",
    }

    /// The time that one request waits for the shared store, all its operations together. An
    /// operation that takes longer is a miss.
    ///
    /// Default: 50 ms. Allowed: 1 ms to 1 min. It bounds the delay that a slow store can cause.
    operation_timeout: Duration {
        default: 50 * MILLISECOND,
        allowed: MILLISECOND..=MINUTE,
        builder: |timeout: Duration| timeout,
        variable: "CACHE_OPERATION_TIMEOUT" like "50ms",
    }

    /// The time that one attempt to connect to the shared store may take.
    ///
    /// Default: 2 s. Allowed: 1 ms to 1 min. Connections are made in the background, so no request
    /// waits for one beyond its operation timeout.
    connect_timeout: Duration {
        default: 2 * SECOND,
        allowed: MILLISECOND..=MINUTE,
        builder: |timeout: Duration| timeout,
        variable: "CACHE_CONNECT_TIMEOUT" like "2s",
    }

    /// The size of the queue of writes to the shared store, in bytes. Writes that do not fit are
    /// dropped and counted; responses never wait for the queue.
    ///
    /// Default: 16 MiB. Allowed: 64 KiB to 256 GiB.
    write_queue_bytes: u64 {
        default: 16 * MIB,
        allowed: 64 * KIB..=LARGEST_BUDGET,
        builder: |bytes: u64| bytes,
        variable: "CACHE_WRITE_QUEUE_BYTES" like "16MiB",
    }

    /// The length, in bytes, above which bodies are compressed in the shared store by zstd.
    ///
    /// Default: never. 4 KiB suits where memory of Valkey or the network is scarce. Compression
    /// costs some 3 ms of processor time per MiB written, and 1 ms per MiB read. Bodies with a
    /// `Content-Encoding` stay as they are.
    ///
    /// Danger: an instance built without the feature `zstd` cannot read compressed bodies. To it,
    /// they are misses.
    #[cfg(feature = "zstd")]
    compress_above: Option<u64> {
        default: None,
        allowed: ..,
        builder: |bytes: u64| Some(bytes),
        variable: "CACHE_COMPRESS_ABOVE" like "4KiB",
    }

    /// The memory for bodies that are being recorded, all together, in bytes. Responses that do not
    /// fit pass unstored.
    ///
    /// Default: 64 MiB. Allowed: [`max_body`](Self::max_body) to 256 GiB. It bounds the memory that
    /// many slow downloads can take.
    fill_bytes: u64 {
        default: 64 * MIB,
        allowed: 1..=LARGEST_BUDGET,
        builder: |bytes: u64| bytes,
        variable: "CACHE_FILL_BYTES" like "64MiB",
    }

    /// The time that a fetch goes on after its client has left, for those who wait for it and for
    /// the store.
    ///
    /// Default: 30 s. Allowed: 1 ms to 1 h.
    fill_deadline: Duration {
        default: 30 * SECOND,
        allowed: MILLISECOND..=HOUR,
        builder: |deadline: Duration| deadline,
        variable: "CACHE_FILL_DEADLINE" like "30s",
    }

    /// The time that a request waits for another request's fetch of the same resource. Then it
    /// calls the handler itself.
    ///
    /// Default: 5 s. Allowed: 1 ms to 1 h.
    follower_wait: Duration {
        default: 5 * SECOND,
        allowed: MILLISECOND..=HOUR,
        builder: |wait: Duration| wait,
        variable: "CACHE_FOLLOWER_WAIT" like "5s",
    }

    /// The number of requests that wait for one fetch. Further requests call the handler.
    ///
    /// Default: 10,000. Zero: no request waits for another.
    max_followers: usize {
        default: 10_000,
        allowed: ..,
        builder: |followers: usize| followers,
        variable: "CACHE_MAX_FOLLOWERS" like "10000",
    }

    /// The number of fetches that other requests can wait for at a time. Requests for further
    /// resources do not wait for each other.
    ///
    /// Default: 10,000. Allowed: at least 1.
    max_flights: usize {
        default: 10_000,
        allowed: 1..,
        builder: |flights: usize| flights,
        variable: "CACHE_MAX_FLIGHTS" like "10000",
    }

    /// Whether only one instance at a time fetches a response that none has.
    ///
    /// Default: `false`. Each instance fetches for itself. With `true`, the instance takes a lease
    /// in the shared store. The others wait for the response that it stores, at most
    /// [`follower_wait`](Self::follower_wait), and then call their own handlers. This pays where
    /// handlers are slow and instances many; it costs every miss two round trips to the store.
    /// Responses that cannot be stored are fetched by one instance after the other, once in every
    /// [`uncacheable_ttl`](Self::uncacheable_ttl). While the store fails there are no leases.
    lease: bool {
        default: false,
        allowed: ..,
        builder: |lease: bool| lease,
        variable: "CACHE_LEASE" like "true",
    }

    /// The time for which a URL is remembered whose response could not be shared. Meanwhile
    /// requests for it do not wait for each other.
    ///
    /// Default: 10 s. Allowed: at most 1 h.
    uncacheable_ttl: Duration {
        default: 10 * SECOND,
        allowed: Duration::ZERO..=HOUR,
        builder: |ttl: Duration| ttl,
        variable: "CACHE_UNCACHEABLE_TTL" like "10s",
    }

    /// The time for which an instance trusts its memory while it cannot read the purge log.
    ///
    /// Default: 5 s. Allowed: 100 ms to 1 h.
    ///
    /// Danger: in an outage of the store, responses are served for this long after a purge.
    purge_bound: Duration {
        default: 5 * SECOND,
        allowed: 100 * MILLISECOND..=HOUR,
        builder: |bound: Duration| bound,
        variable: "CACHE_PURGE_BOUND" like "5s",
    }

    /// The number of purges that the log retains.
    ///
    /// Default: 100,000. Allowed: at least 16. An instance remembers the purges that it has read
    /// though the log has forgotten them, and stores what it knows for those that start. If that
    /// is lost, a stored response that is older than the oldest retained purge is a miss to an
    /// instance that starts.
    purge_log_length: usize {
        default: 100_000,
        allowed: 16..,
        builder: |purges: usize| purges,
        variable: "CACHE_PURGE_LOG_LENGTH" like "100000",
    }

    /// Whether readiness answers 503 while the shared store cannot be used.
    ///
    /// Default: `false`. The application serves without the store.
    ///
    /// Danger: with `true`, an outage of the store takes out all instances at once.
    strict_readiness: bool {
        default: false,
        allowed: ..,
        builder: |strict: bool| strict,
        variable: "CACHE_STRICT_READINESS" like "true",
    }
}

impl CacheConfig {
    /// A builder with every setting at its default.
    pub fn builder() -> CacheConfigBuilder {
        CacheConfigBuilder::default()
    }

    /// The URL of the shared store without its password, or `memory://` if there is none.
    #[must_use]
    pub fn store(&self) -> String {
        match &self.url {
            Some(url) => url.to_string(),
            None => MEMORY_URL.to_owned(),
        }
    }
}

/// Builds a [`CacheConfig`]. [`CacheConfigBuilder::build`] checks the values.
#[derive(Clone, Debug, Default)]
#[must_use = "settings do nothing until they are built"]
pub struct CacheConfigBuilder {
    config: CacheConfig,
    url: Option<String>,
}

impl CacheConfigBuilder {
    /// The shared store: `valkey://`, `redis://` or `unix://`, with TLS `valkeys://` or
    /// `rediss://`, `valkey-sentinel://` or `valkey-cluster://`. User, password and database number
    /// are parts of the URL.
    ///
    /// Default: `memory://`. Nothing is shared; each instance has its own responses in memory.
    ///
    /// Variable: `CACHE_URL`, such as `valkey://cache:6379/0`.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// The clock that lifetimes are measured by, for tests. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.config.clock = Arc::new(clock);
        self
    }

    /// Builds the settings if each is within its bounds.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting, its value, and what is allowed.
    pub fn build(self) -> Result<CacheConfig, ConfigError> {
        let Self { mut config, url } = self;
        if let Some(url) = url {
            config.url = parse_url(&url)?;
        }
        for setting in SETTINGS {
            (setting.check)(setting.name, &config)?;
        }
        let CacheConfig {
            url,
            memory_bytes,
            max_body,
            fill_bytes,
            ..
        } = &config;
        (*max_body..=LARGEST_BUDGET).check("fill_bytes", fill_bytes)?;
        if url.is_none() && *memory_bytes > 0 {
            (least_for(*max_body)..).check("memory_bytes", memory_bytes)?;
        }
        Ok(config)
    }
}

/// `None` if the URL asks for memory alone.
fn parse_url(url: &str) -> Result<Option<StoreUrl>, ConfigError> {
    if url.eq_ignore_ascii_case(MEMORY_URL) || url.eq_ignore_ascii_case("memory:") {
        return Ok(None);
    }
    StoreUrl::parse(url).map(Some).map_err(|error| {
        ConfigError::new("url", "(hidden: it may hold a password)", error.to_string())
    })
}

/// A setting, for code that goes over all of them.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    pub(super) read: ReadSetting,
    check: CheckSetting,
    #[cfg(test)]
    pub(super) example: &'static str,
    #[cfg(test)]
    pub(super) documentation: &'static str,
}

/// Reads text into the builder. The error is the form that was expected.
type ReadSetting = fn(&mut CacheConfigBuilder, &str) -> Result<(), &'static str>;

/// Checks the setting of this name against its bounds.
type CheckSetting = fn(&'static str, &CacheConfig) -> Result<(), ConfigError>;

/// The builder parses the URL when it builds, so that no error repeats a password.
const URL: Setting = Setting {
    name: "url",
    variable: "CACHE_URL",
    read: |builder, text| {
        builder.url = Some(text.to_owned());
        Ok(())
    },
    check: |_name, _config| Ok(()),
    #[cfg(test)]
    example: "valkey://cache:6379/0",
    #[cfg(test)]
    documentation: "",
};

const MEMORY_URL: &str = "memory://";

const KEY_PREFIX: TextForm = TextForm {
    expected: "1 to 64 visible ASCII characters other than { and }",
    matches: |prefix| {
        let visible = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}');
        (1..=64).contains(&prefix.len()) && prefix.bytes().all(visible)
    },
};

const TOKEN: TextForm = TextForm {
    expected: "a structured-field token of at most 64 characters",
    matches: |name| {
        let first = |letter: char| letter.is_ascii_alphabetic() || letter == '*';
        let other = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
        name.len() <= 64 && name.starts_with(first) && name.bytes().all(other)
    },
};

/// A 32-bit semaphore counts budgets in KiB. This bound is far above any use.
const LARGEST_BUDGET: u64 = 256 * GIB;
