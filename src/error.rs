//! The errors of this crate: of the shared store, of settings, of purges.

use std::fmt;

/// The error of an operation on the shared store.
///
/// The middleware never answers with it: to a request, a fault of the store is a miss. An
/// application gets it from operations that it calls itself, such as a purge. Neither `Display`
/// nor `Debug` shows credentials, keys or values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// The store is not connected. A connection is being made in the background.
    Unavailable,
    /// The store did not answer before the deadline. A write may or may not have happened.
    TimedOut,
    /// Too many operations are under way. Nothing was sent.
    Busy,
    /// The breaker is open after repeated failures. Nothing was sent.
    Suspended,
    /// The server refused the credentials, or they do not permit this operation.
    Refused,
    /// The server is a replica and takes no writes.
    ReadOnly,
    /// The server's memory is full and its policy evicts nothing.
    Full,
    /// The server answered with another error, of which this is the code, such as `LOADING`.
    Server(ErrorCode),
    /// The value is longer than this instance reads.
    TooLong,
    /// The reply does not fit the command. The connection is replaced.
    Protocol,
}

impl StoreError {
    /// The stable name, for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed-out",
            Self::Busy => "busy",
            Self::Suspended => "suspended",
            Self::Refused => "refused",
            Self::ReadOnly => "read-only",
            Self::Full => "full",
            Self::Server(_) => "server-error",
            Self::TooLong => "too-long",
            Self::Protocol => "protocol",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("the shared store is not connected"),
            Self::TimedOut => f.write_str("the shared store did not answer in time"),
            Self::Busy => f.write_str("too many operations on the shared store are under way"),
            Self::Suspended => {
                f.write_str("operations on the shared store are suspended after repeated failures")
            }
            Self::Refused => {
                f.write_str("the shared store refused the credentials or the operation")
            }
            Self::ReadOnly => f.write_str("the shared store is read-only (a replica)"),
            Self::Full => f.write_str("the shared store is out of memory"),
            Self::Server(code) => write!(f, "the shared store answered with the error {code}"),
            Self::TooLong => f.write_str("the value is longer than this instance reads"),
            Self::Protocol => f.write_str("the shared store's reply does not fit the command"),
        }
    }
}

impl std::error::Error for StoreError {}

/// The code at the start of a server's error reply, such as `LOADING` or `ERR`.
///
/// The text after the code is dropped. It may repeat the arguments of the command, and the first
/// command of a connection carries the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCode(Box<str>);

impl ErrorCode {
    /// The code, in capitals.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The code, or `ERR` if the text does not look like a code.
    pub(crate) fn new(code: &str) -> Self {
        let in_a_code =
            |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let plausible = (1..=24).contains(&code.len()) && code.bytes().all(in_a_code);
        Self(if plausible { code } else { "ERR" }.into())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A setting has a value that is not allowed.
///
/// `Display` shows the setting, the value and what is allowed, but never a URL, which may hold a
/// password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    setting: &'static str,
    value: String,
    expected: String,
}

impl ConfigError {
    pub(crate) fn new(
        setting: &'static str,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            setting,
            value: value.into(),
            expected: expected.into(),
        }
    }

    /// The name of the builder's method, or of the variable if its value cannot be read.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting,
            value,
            expected,
        } = self;
        write!(f, "{setting} = {value}: expected {expected}")
    }
}

impl std::error::Error for ConfigError {}

/// A purge did not happen, or too few replicas have acknowledged it.
#[derive(Debug)]
pub struct PurgeError(PurgeFailure);

#[derive(Debug)]
enum PurgeFailure {
    InvalidUri,
    NotAppended(StoreError),
    NotReplicated {
        wanted: u32,
        acknowledged: u32,
        why: Option<StoreError>,
    },
}

impl PurgeError {
    pub(crate) const fn invalid_uri() -> Self {
        Self(PurgeFailure::InvalidUri)
    }

    pub(crate) const fn not_appended(error: StoreError) -> Self {
        Self(PurgeFailure::NotAppended(error))
    }

    /// `replicas` is the number of replicas that acknowledged the purge, if the store said.
    pub(crate) fn not_replicated(wanted: u32, replicas: Result<u32, StoreError>) -> Self {
        let (acknowledged, why) = match replicas {
            Ok(acknowledged) => (acknowledged, None),
            Err(error) => (0, Some(error)),
        };
        Self(PurgeFailure::NotReplicated {
            wanted,
            acknowledged,
            why,
        })
    }

    /// Whether the shared store did not take the purge. Trying again may help.
    #[must_use]
    pub const fn is_store(&self) -> bool {
        matches!(self.0, PurgeFailure::NotAppended(_))
    }

    /// The number of replicas that acknowledged the purge, if it *has* happened but these are too
    /// few (see [`Purge::replicas`](crate::Purge::replicas)). Zero if the number is not known.
    ///
    /// The purge is in force in every instance. It is lost only if the server fails and a replica
    /// without it takes over. Purging again is harmless.
    #[must_use]
    pub const fn acknowledged(&self) -> Option<u32> {
        match self.0 {
            PurgeFailure::NotReplicated { acknowledged, .. } => Some(acknowledged),
            PurgeFailure::InvalidUri | PurgeFailure::NotAppended(_) => None,
        }
    }
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            PurgeFailure::InvalidUri => {
                f.write_str("the URI to purge has an authority that is not a host")
            }
            PurgeFailure::NotAppended(_) => {
                f.write_str("the purge could not be appended to the shared log")
            }
            PurgeFailure::NotReplicated {
                wanted,
                acknowledged,
                ..
            } => write!(
                f,
                "the purge is in force, but {acknowledged} of {wanted} replicas acknowledged it"
            ),
        }
    }
}

impl std::error::Error for PurgeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            PurgeFailure::InvalidUri => None,
            PurgeFailure::NotAppended(error) => Some(error),
            PurgeFailure::NotReplicated { why, .. } => why.as_ref().map(|why| why as _),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn a_code_never_carries_free_text() {
        assert_eq!(ErrorCode::new("LOADING").as_str(), "LOADING");
        assert_eq!(ErrorCode::new("").as_str(), "ERR");
        assert_eq!(ErrorCode::new("hunter2").as_str(), "ERR");
        assert_eq!(ErrorCode::new("AUTH x").as_str(), "ERR");
    }
}
