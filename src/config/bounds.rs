//! What each setting may be.

use std::time::Duration;

use bytesize::ByteSize;

use super::{CacheConfig, policy};
use crate::error::ConfigError;

pub(super) fn check(config: &CacheConfig) -> Result<(), ConfigError> {
    check_names(config)?;
    let millisecond = Duration::from_millis(1);
    let minute = Duration::from_secs(60);
    let hour = Duration::from_secs(3600);
    let CacheConfig {
        operation_timeout,
        connect_timeout,
        fill_deadline,
        follower_wait,
        uncacheable_ttl,
        purge_bound,
        default_ttl,
        max_body,
        fill_bytes,
        write_queue_bytes,
        ..
    } = config;
    check_duration("operation_timeout", *operation_timeout, millisecond, minute)?;
    check_duration("connect_timeout", *connect_timeout, millisecond, minute)?;
    check_duration("fill_deadline", *fill_deadline, millisecond, hour)?;
    check_duration("follower_wait", *follower_wait, millisecond, hour)?;
    check_duration("uncacheable_ttl", *uncacheable_ttl, Duration::ZERO, hour)?;
    check_duration("purge_bound", *purge_bound, 100 * millisecond, hour)?;
    let ttl = default_ttl.unwrap_or_default();
    check_duration("default_ttl", ttl, Duration::ZERO, policy::YEAR)?;
    check_size("max_body", *max_body, 1, 256 << 20)?;
    check_size("fill_bytes", *fill_bytes, *max_body, LARGEST_BUDGET)?;
    check_size(
        "write_queue_bytes",
        *write_queue_bytes,
        64 << 10,
        LARGEST_BUDGET,
    )?;
    check_count("max_variants", config.max_variants, 1)?;
    check_count("max_flights", config.max_flights, 1)?;
    check_count("purge_log_length", config.purge_log_length, 16)
}

fn check_names(config: &CacheConfig) -> Result<(), ConfigError> {
    let CacheConfig {
        prefix,
        status_name,
        ..
    } = config;
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}');
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(plain) {
        let expected = "1 to 64 visible ASCII characters other than { and }";
        return Err(ConfigError::new("prefix", prefix, expected));
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    let begins = status_name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*');
    if !begins || status_name.len() > 64 || !status_name.bytes().all(token) {
        let expected = "a structured-field token of at most 64 characters";
        return Err(ConfigError::new("status_name", status_name, expected));
    }
    Ok(())
}

pub(super) fn check_duration(
    setting: &'static str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let [value, least, most] =
        [value, least, most].map(|one| humantime::format_duration(one).to_string());
    Err(ConfigError::new(
        setting,
        value,
        format!("{least} to {most}"),
    ))
}

fn check_size(setting: &'static str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let [value, least, most] = [value, least, most].map(|one| ByteSize::b(one).to_string());
    Err(ConfigError::new(
        setting,
        value,
        format!("{least} to {most}"),
    ))
}

fn check_count(setting: &'static str, value: usize, least: usize) -> Result<(), ConfigError> {
    if value >= least {
        return Ok(());
    }
    Err(ConfigError::new(
        setting,
        value.to_string(),
        format!("at least {least}"),
    ))
}

/// Budgets are counted in KiB by a 32-bit semaphore; this is far above any use.
const LARGEST_BUDGET: u64 = 256 << 30;
