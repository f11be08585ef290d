//! Settings by serde, under the names of the builder's methods.

use std::fmt;

use ::serde::Deserialize;
use ::serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use super::CacheConfig;
use super::settings::{NAMES, SETTINGS};

/// Durations are strings with a unit (`50ms`). Sizes are strings with a unit (`64MiB`) or numbers
/// of bytes. An unknown setting is an error; `null` leaves a setting at its default.
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
        deserializer.deserialize_struct("CacheConfig", NAMES, SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = CacheConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CacheConfig, A::Error> {
        let mut builder = CacheConfig::builder();
        let mut seen = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                return Err(A::Error::unknown_field(&name, NAMES));
            };
            if seen.contains(&setting.name) {
                return Err(A::Error::duplicate_field(setting.name));
            }
            seen.push(setting.name);
            if let Text(Some(text)) = map.next_value()? {
                (setting.read)(&mut builder, &text).map_err(|expected| {
                    A::Error::invalid_value(Unexpected::Str(&text), &expected)
                })?;
            }
        }
        builder.build().map_err(A::Error::custom)
    }
}

/// The text of a string, a number or a boolean; `None` for `null`.
///
/// Variables and serde thereby read a setting in the same way, with the same errors.
/// `humantime_serde` and `bytesize::serde` would say less: "expected a duration",
/// "expected parsable string".
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a whole number, a boolean or null")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
        Ok(Some(on.to_string()))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}
