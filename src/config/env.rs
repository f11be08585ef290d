//! Settings from the environment.

use std::time::Duration;

use bytesize::ByteSize;

use super::{CacheConfig, CacheConfigBuilder};
use crate::error::ConfigError;

impl CacheConfig {
    /// The settings of this process's environment; what is not set is at its default.
    ///
    /// | variable | like | setting |
    /// |---|---|---|
    /// | `CACHE_URL` | `valkey://cache:6379/0` | [`url`](CacheConfigBuilder::url) |
    /// | `CACHE_PREFIX` | `shop` | [`prefix`](CacheConfigBuilder::prefix) |
    /// | `CACHE_STATUS_NAME` | `edge` | [`status_name`](CacheConfigBuilder::status_name) |
    /// | `CACHE_MEMORY_BYTES` | `64MiB` | [`memory_bytes`](CacheConfigBuilder::memory_bytes) |
    /// | `CACHE_MAX_BODY` | `1MiB` | [`max_body`](CacheConfigBuilder::max_body) |
    /// | `CACHE_MAX_VARIANTS` | `64` | [`max_variants`](CacheConfigBuilder::max_variants) |
    /// | `CACHE_DEFAULT_TTL` | `30s` | [`default_ttl`](CacheConfigBuilder::default_ttl) |
    /// | `CACHE_OPERATION_TIMEOUT` | `50ms` | [`operation_timeout`](CacheConfigBuilder::operation_timeout) |
    /// | `CACHE_CONNECT_TIMEOUT` | `2s` | [`connect_timeout`](CacheConfigBuilder::connect_timeout) |
    /// | `CACHE_WRITE_QUEUE_BYTES` | `16MiB` | [`write_queue_bytes`](CacheConfigBuilder::write_queue_bytes) |
    /// | `CACHE_COMPRESS_ABOVE` (feature `zstd`) | `4KiB` | `compress_above` |
    /// | `CACHE_FILL_BYTES` | `64MiB` | [`fill_bytes`](CacheConfigBuilder::fill_bytes) |
    /// | `CACHE_FILL_DEADLINE` | `30s` | [`fill_deadline`](CacheConfigBuilder::fill_deadline) |
    /// | `CACHE_FOLLOWER_WAIT` | `5s` | [`follower_wait`](CacheConfigBuilder::follower_wait) |
    /// | `CACHE_MAX_FOLLOWERS` | `10000` | [`max_followers`](CacheConfigBuilder::max_followers) |
    /// | `CACHE_MAX_FLIGHTS` | `10000` | [`max_flights`](CacheConfigBuilder::max_flights) |
    /// | `CACHE_UNCACHEABLE_TTL` | `10s` | [`uncacheable_ttl`](CacheConfigBuilder::uncacheable_ttl) |
    /// | `CACHE_LEASE` | `false` | [`lease`](CacheConfigBuilder::lease) |
    /// | `CACHE_PURGE_BOUND` | `5s` | [`purge_bound`](CacheConfigBuilder::purge_bound) |
    /// | `CACHE_PURGE_LOG_LENGTH` | `100000` | [`purge_log_length`](CacheConfigBuilder::purge_log_length) |
    /// | `CACHE_STRICT_READINESS` | `true` | [`strict_readiness`](CacheConfigBuilder::strict_readiness) |
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the variable's setting, its value, and what is allowed.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// As [`CacheConfig::from_env`], from anything that has variables.
    ///
    /// ```
    /// use tower_response_cache::CacheConfig;
    ///
    /// let config = CacheConfig::from_vars(|name| match name {
    ///     "CACHE_URL" => Some("valkey://:secret@cache.internal".to_owned()),
    ///     _ => None,
    /// })?;
    /// assert!(!config.store().contains("secret"));
    /// # Ok::<(), tower_response_cache::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`CacheConfig::from_env`].
    pub fn from_vars(
        mut variable: impl FnMut(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut builder = Self::builder();
        for &(name, set) in VARIABLES {
            if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
                builder = set(builder, &value)
                    .map_err(|expected| ConfigError::new(name, value, expected))?;
            }
        }
        builder.build()
    }
}

/// Reads one variable into the builder, or says what is allowed.
type Set = fn(CacheConfigBuilder, &str) -> Result<CacheConfigBuilder, &'static str>;

const VARIABLES: &[(&str, Set)] = &[
    ("CACHE_URL", |builder, value| Ok(builder.url(value))),
    ("CACHE_PREFIX", |builder, value| Ok(builder.prefix(value))),
    ("CACHE_STATUS_NAME", |builder, value| {
        Ok(builder.status_name(value))
    }),
    ("CACHE_MEMORY_BYTES", |builder, value| {
        Ok(builder.memory_bytes(size(value)?))
    }),
    ("CACHE_MAX_BODY", |builder, value| {
        Ok(builder.max_body(size(value)?))
    }),
    ("CACHE_MAX_VARIANTS", |builder, value| {
        Ok(builder.max_variants(count(value)?))
    }),
    ("CACHE_DEFAULT_TTL", |builder, value| {
        Ok(builder.default_ttl(duration(value)?))
    }),
    ("CACHE_OPERATION_TIMEOUT", |builder, value| {
        Ok(builder.operation_timeout(duration(value)?))
    }),
    ("CACHE_CONNECT_TIMEOUT", |builder, value| {
        Ok(builder.connect_timeout(duration(value)?))
    }),
    ("CACHE_WRITE_QUEUE_BYTES", |builder, value| {
        Ok(builder.write_queue_bytes(size(value)?))
    }),
    #[cfg(feature = "zstd")]
    ("CACHE_COMPRESS_ABOVE", |builder, value| {
        Ok(builder.compress_above(size(value)?))
    }),
    ("CACHE_FILL_BYTES", |builder, value| {
        Ok(builder.fill_bytes(size(value)?))
    }),
    ("CACHE_FILL_DEADLINE", |builder, value| {
        Ok(builder.fill_deadline(duration(value)?))
    }),
    ("CACHE_FOLLOWER_WAIT", |builder, value| {
        Ok(builder.follower_wait(duration(value)?))
    }),
    ("CACHE_MAX_FOLLOWERS", |builder, value| {
        Ok(builder.max_followers(count(value)?))
    }),
    ("CACHE_MAX_FLIGHTS", |builder, value| {
        Ok(builder.max_flights(count(value)?))
    }),
    ("CACHE_UNCACHEABLE_TTL", |builder, value| {
        Ok(builder.uncacheable_ttl(duration(value)?))
    }),
    ("CACHE_LEASE", |builder, value| {
        Ok(builder.lease(value.parse().map_err(|_bad| "true or false")?))
    }),
    ("CACHE_PURGE_BOUND", |builder, value| {
        Ok(builder.purge_bound(duration(value)?))
    }),
    ("CACHE_PURGE_LOG_LENGTH", |builder, value| {
        Ok(builder.purge_log_length(count(value)?))
    }),
    ("CACHE_STRICT_READINESS", |builder, value| {
        Ok(builder.strict_readiness(value.parse().map_err(|_bad| "true or false")?))
    }),
];

fn count(value: &str) -> Result<usize, &'static str> {
    value.trim().parse().map_err(|_bad| "a number such as 64")
}

/// A duration such as `50ms`, `5s` or `1h 30m`; a bare `0` needs no unit.
pub(super) fn duration(value: &str) -> Result<Duration, &'static str> {
    if value.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(value.trim()).map_err(|_bad| "a duration such as 50ms, 5s or 1h")
}

/// A size such as `64MiB`; a bare number is bytes.
pub(super) fn size(value: &str) -> Result<u64, &'static str> {
    let size: Result<ByteSize, _> = value.trim().parse();
    size.map(|size| size.as_u64())
        .map_err(|_bad| "a size such as 65536, 64KiB or 1MiB")
}
