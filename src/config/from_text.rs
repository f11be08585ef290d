//! Settings as text: the value of a variable, or a string that serde reads.

use std::time::Duration;

use bytesize::ByteSize;

/// A type of settings that can be read from text. A `u64` is a number of bytes.
pub(super) trait FromText: Sized {
    /// The value, or the form that was expected.
    fn from_text(text: &str) -> Result<Self, &'static str>;
}

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        Ok(text.to_owned())
    }
}

impl FromText for bool {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        text.parse().map_err(|_error| "true or false")
    }
}

impl FromText for usize {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        let count = text.trim().parse();
        count.map_err(|_error| "a number such as 64")
    }
}

/// A bare number is bytes.
impl FromText for u64 {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        let size: Result<ByteSize, _> = text.trim().parse();
        size.map(|size| size.as_u64())
            .map_err(|_error| "a size such as 65536, 64KiB or 1MiB")
    }
}

/// A bare `0` needs no unit.
impl FromText for Duration {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        if text.trim() == "0" {
            return Ok(Self::ZERO);
        }
        humantime::parse_duration(text.trim()).map_err(|_error| "a duration such as 50ms, 5s or 1h")
    }
}

#[cfg(feature = "zstd")]
impl<T: FromText> FromText for Option<T> {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        T::from_text(text).map(Some)
    }
}
