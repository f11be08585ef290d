//! The errors of URLs.

use std::fmt;

/// Why a text is not the URL of a shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It does not begin with a scheme and `://`.
    NoScheme,
    /// The scheme is not one of those listed at [`StoreUrl`](super::StoreUrl).
    UnknownScheme {
        /// The scheme as given, if it is safe to show.
        scheme: String,
    },
    /// The scheme needs TLS, and the feature `tls` is off.
    TlsNotBuiltIn,
    /// Unix sockets do not exist on this platform.
    NoUnixSockets,
    /// There is no host name.
    NoHost,
    /// The host name has a character that no host name may have.
    BadHost,
    /// The port is not a number from 1 to 65535.
    BadPort,
    /// A Sentinel's URL ends in the name of a primary: `valkey-sentinel://host:26379/name`.
    NoPrimary,
    /// `ca`, `cert` or `key` is given, and the scheme is not one with TLS.
    NotTls,
    /// Of `cert` and `key` only one is given.
    HalfACertificate,
    /// A cluster has no database but 0.
    DatabaseOfCluster,
    /// The database is not a number.
    BadDatabase,
    /// A Unix socket's URL needs an absolute path and no host: `unix:///run/valkey.sock`.
    NoPath,
    /// A percent sign is not followed by two hexadecimal digits, or the result is not UTF-8.
    BadEncoding,
    /// The parameter `protocol` is not RESP3.
    NeedsResp3,
    /// A parameter after `?` is not known.
    UnknownParameter {
        /// Its name, if it is safe to show.
        name: String,
    },
    /// There is something after `#`.
    Fragment,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme => write!(f, "no scheme; expected {SCHEMES}"),
            Self::UnknownScheme { scheme } => {
                write!(f, "unknown scheme `{scheme}`; expected {SCHEMES}")
            }
            Self::TlsNotBuiltIn => f.write_str("TLS needs this crate's feature `tls`"),
            Self::NoUnixSockets => f.write_str("there are no Unix sockets on this platform"),
            Self::NoHost => f.write_str("no host name"),
            Self::BadHost => f.write_str("not a host name"),
            Self::BadPort => f.write_str(
                "the port is not a number from 1 to 65535 \
                 (a `/`, `:` or `@` in a password must be percent-encoded)",
            ),
            Self::BadDatabase => f.write_str(
                "the database is not a number \
                 (a `/`, `:` or `@` in a password must be percent-encoded)",
            ),
            Self::NoPrimary => {
                f.write_str("no name of a primary, as in valkey-sentinel://host:26379/name")
            }
            Self::NotTls => f.write_str("ca, cert and key need valkeys:// or rediss://"),
            Self::HalfACertificate => f.write_str("cert and key need each other"),
            Self::DatabaseOfCluster => f.write_str("a cluster has database 0 only"),
            Self::NoPath => f.write_str("expected an absolute path, as in unix:///run/valkey.sock"),
            Self::BadEncoding => f.write_str("bad percent-encoding"),
            Self::NeedsResp3 => f.write_str("only protocol=resp3 is supported"),
            Self::UnknownParameter { name } => {
                write!(
                    f,
                    "unknown parameter `{name}`; expected db, user, pass, ca, cert or key"
                )
            }
            Self::Fragment => f.write_str(
                "nothing is allowed after `#` (in a password it must be percent-encoded)",
            ),
        }
    }
}

impl std::error::Error for UrlError {}

impl UrlError {
    pub(super) fn unknown_scheme(scheme: &str) -> Self {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.bytes().all(safe) {
            return Self::NoScheme;
        }
        Self::UnknownScheme {
            scheme: scheme.to_owned(),
        }
    }

    /// If a password has a `?`, the rest of the password looks like a parameter. So a name is shown
    /// only if it cannot be part of a password.
    pub(super) fn unknown_parameter(name: &str, parameters: &str) -> Self {
        let safe = !parameters.contains('@')
            && name.len() <= 20
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        Self::UnknownParameter {
            name: if safe { name } else { "…" }.to_owned(),
        }
    }
}

const SCHEMES: &str = "valkey://, valkeys://, redis://, rediss:// or unix://, \
     valkey-sentinel:// or valkey-cluster://";
