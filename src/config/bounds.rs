//! The values that a setting may have.

use std::ops::{RangeFrom, RangeFull, RangeInclusive};
use std::time::Duration;

use bytesize::ByteSize;

use crate::error::ConfigError;

/// The values of type `T` that a setting may have.
pub(super) trait Bounds<T> {
    fn check(&self, setting: &'static str, value: &T) -> Result<(), ConfigError>;
}

impl<T> Bounds<T> for RangeFull {
    fn check(&self, _setting: &'static str, _value: &T) -> Result<(), ConfigError> {
        Ok(())
    }
}

impl<T: Show + PartialOrd> Bounds<T> for RangeInclusive<T> {
    fn check(&self, setting: &'static str, value: &T) -> Result<(), ConfigError> {
        if self.contains(value) {
            return Ok(());
        }
        let expected = format!("{} to {}", self.start().show(), self.end().show());
        Err(ConfigError::new(setting, value.show(), expected))
    }
}

impl<T: Show + PartialOrd> Bounds<T> for RangeFrom<T> {
    fn check(&self, setting: &'static str, value: &T) -> Result<(), ConfigError> {
        if self.contains(value) {
            return Ok(());
        }
        let expected = format!("at least {}", self.start.show());
        Err(ConfigError::new(setting, value.show(), expected))
    }
}

/// Text of some form.
pub(super) struct TextForm {
    /// The form in words, for errors.
    pub(super) expected: &'static str,
    pub(super) matches: fn(&str) -> bool,
}

impl Bounds<String> for TextForm {
    fn check(&self, setting: &'static str, value: &String) -> Result<(), ConfigError> {
        if (self.matches)(value) {
            return Ok(());
        }
        Err(ConfigError::new(setting, value, self.expected))
    }
}

/// How a value and its bounds read in an error. A `u64` is a number of bytes.
pub(super) trait Show {
    fn show(&self) -> String;
}

impl Show for Duration {
    fn show(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Show for u64 {
    fn show(&self) -> String {
        ByteSize::b(*self).to_string()
    }
}

impl Show for usize {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Show for u8 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Show for f32 {
    fn show(&self) -> String {
        self.to_string()
    }
}

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
