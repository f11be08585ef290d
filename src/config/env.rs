//! Settings from the environment.

use super::CacheConfig;
use super::settings::SETTINGS;
use crate::error::ConfigError;

impl CacheConfig {
    /// The settings in the environment of this process. A variable that is unset or empty leaves
    /// its setting at the default.
    ///
    /// The methods of [`CacheConfigBuilder`](crate::CacheConfigBuilder) name their variables:
    /// `CACHE_` and the setting's name in capitals. Durations have units (`50ms`, `5s`,
    /// `1h 30m`). Sizes have units (`64KiB`, `1MiB`) or are bytes.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the variable or its setting, the value, and what is allowed.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// As [`CacheConfig::from_env`], with the variables that `variable` returns.
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
        for setting in SETTINGS {
            if let Some(value) = variable(setting.variable).filter(|value| !value.is_empty()) {
                (setting.read)(&mut builder, &value)
                    .map_err(|expected| ConfigError::new(setting.variable, value, expected))?;
            }
        }
        builder.build()
    }
}
