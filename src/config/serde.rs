//! Settings by serde: the builder's names, durations as `50ms`, sizes as `64MiB`.

use std::time::Duration;

use ::serde::Deserialize;
use ::serde::de::{self, Deserializer};

use super::{CacheConfig, env};

/// Durations and sizes are strings with a unit; sizes may be plain numbers of bytes.
/// Unknown settings are errors.
///
/// ```
/// use tower_response_cache::CacheConfig;
///
/// let config: CacheConfig = serde_json::from_str(
///     r#"{ "url": "valkey://cache.internal", "operation_timeout": "20ms", "max_body": "2MiB" }"#,
/// )?;
/// assert_eq!(config.store(), "valkey://cache.internal:6379/0");
///
/// let error = serde_json::from_str::<CacheConfig>(r#"{ "memory": "1MiB" }"#).unwrap_err();
/// assert!(error.to_string().contains("unknown field `memory`"));
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for CacheConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Fields::deserialize(deserializer)?
            .build()
            .map_err(de::Error::custom)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    url: Option<String>,
    prefix: Option<String>,
    status_name: Option<String>,
    memory_bytes: Option<Size>,
    max_body: Option<Size>,
    max_variants: Option<usize>,
    default_ttl: Option<Time>,
    operation_timeout: Option<Time>,
    connect_timeout: Option<Time>,
    write_queue_bytes: Option<Size>,
    #[cfg(feature = "zstd")]
    compress_above: Option<Size>,
    fill_bytes: Option<Size>,
    fill_deadline: Option<Time>,
    follower_wait: Option<Time>,
    max_followers: Option<usize>,
    max_flights: Option<usize>,
    uncacheable_ttl: Option<Time>,
    lease: Option<bool>,
    purge_bound: Option<Time>,
    purge_log_length: Option<usize>,
    strict_readiness: Option<bool>,
}

impl Fields {
    fn build(self) -> Result<CacheConfig, crate::ConfigError> {
        let mut builder = CacheConfig::builder();
        #[cfg(feature = "zstd")]
        if let Some(Size(bytes)) = self.compress_above {
            builder = builder.compress_above(bytes);
        }
        macro_rules! set {
            ($($field:ident $(. $inner:tt)?),* $(,)?) => {
                let Self { $($field,)* .. } = self;
                $(if let Some(value) = $field {
                    builder = builder.$field(value $(. $inner)?);
                })*
            };
        }
        set!(
            url,
            prefix,
            status_name,
            memory_bytes.0,
            max_body.0,
            max_variants,
            default_ttl.0,
            operation_timeout.0,
            connect_timeout.0,
            write_queue_bytes.0,
            fill_bytes.0,
            fill_deadline.0,
            follower_wait.0,
            max_followers,
            max_flights,
            uncacheable_ttl.0,
            lease,
            purge_bound.0,
            purge_log_length,
            strict_readiness,
        );
        builder.build()
    }
}

struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = String::deserialize(deserializer)?;
        let time = env::duration(&value).map(Self);
        time.map_err(|expected| de::Error::invalid_value(de::Unexpected::Str(&value), &expected))
    }
}

struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(bytes) => Ok(Self(bytes)),
            Either::Text(value) => env::size(&value).map(Self).map_err(|expected| {
                de::Error::invalid_value(de::Unexpected::Str(&value), &expected)
            }),
        }
    }
}
