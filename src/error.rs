//! What can go wrong.

use std::fmt;

/// Why an operation on the shared store did not succeed.
///
/// Inside the middleware this is an event, never a response: a fault of the store is a miss.
/// It reaches an application only where it asked for the operation itself, such as a purge.
/// Neither `Display` nor `Debug` ever shows credentials, keys or values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no connection at the moment; one is being made in the background.
    Unavailable,
    /// The deadline passed first. A write may or may not have happened.
    TimedOut,
    /// Too many operations are under way already; nothing was sent.
    Busy,
    /// The breaker is open after repeated failures; nothing was sent.
    Suspended,
    /// The server refused the credentials, or they do not permit this operation.
    Refused,
    /// The server is a replica and takes no writes.
    ReadOnly,
    /// The server's memory is full and its policy evicts nothing.
    Full,
    /// The server answered with another error, told by its code, such as `LOADING`.
    Server(ErrorCode),
    /// The value is longer than this instance reads.
    TooLong,
    /// The reply was not one to the command that was sent; the connection is replaced.
    Protocol,
}

impl StoreError {
    /// A short, stable name for logs and metrics.
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

/// The code that begins a server's error reply, such as `LOADING` or `ERR`.
///
/// Only the code is kept, because the text after it may repeat the arguments of the command,
/// and the first command of a connection carries the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCode(Box<str>);

impl ErrorCode {
    /// The code, in capitals.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a code from a reply; what does not look like one becomes `ERR`.
    pub(crate) fn new(code: &str) -> Self {
        let plausible = (1..=24).contains(&code.len())
            && code
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        Self(if plausible { code } else { "ERR" }.into())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A setting that is not allowed.
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

    /// The setting's name, as in the builder, or the environment variable's.
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

/// A purge that did not happen, or is not as safe as it was asked to be.
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

    /// `replicas` as the store told of them.
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

    /// Whether the shared store could not take the purge: to be tried again.
    #[must_use]
    pub const fn is_store(&self) -> bool {
        matches!(self.0, PurgeFailure::NotAppended(_))
    }

    /// If the purge *has* happened, and only too few replicas are known to have it (see
    /// [`Purge::replicas`](crate::Purge::replicas)): how many have said that they do; zero where
    /// that is not known. It is in force everywhere, and lost only if the server fails and a
    /// replica without it takes over. Purging again is harmless.
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
