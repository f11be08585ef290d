//! Where the server is, as a URL.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// The address of a Valkey (or Redis) server, with its credentials.
///
/// | URL | means |
/// |---|---|
/// | `valkey://[user[:password]@]host[:port][/db]`, `redis://…` | TCP |
/// | `valkeys://…`, `rediss://…` | TCP with TLS (feature `tls`) |
/// | `unix:///path[?db=1&user=u&pass=p]`, `valkey+unix://…`, `redis+unix://…` | a Unix socket |
///
/// `valkey://:password@host` logs in as the default user. User and password are
/// percent-decoded: write `@`, `/`, `:` and `%` in them as `%40`, `%2F`, `%3A` and `%25`.
/// Neither `Debug` nor `Display` ever shows the password.
///
/// ```
/// use tower_response_cache::StoreUrl;
///
/// let url: StoreUrl = "valkey://app:s3cret@cache.internal/2".parse()?;
/// assert_eq!(url.to_string(), "valkey://app:***@cache.internal:6379/2");
/// # Ok::<_, tower_response_cache::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    endpoint: Endpoint,
    user: Option<String>,
    password: Option<String>,
    db: u32,
}

/// Cluster and Sentinel will be further variants.
#[derive(Clone, PartialEq, Eq)]
enum Endpoint {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix { path: String },
}

impl StoreUrl {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// [`UrlError`] says what is wrong, and never repeats more of the URL than its scheme or
    /// a parameter's name, since the rest may be a password.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once(":/").ok_or(UrlError::NoScheme)?;
        let rest = rest.strip_prefix('/').ok_or(UrlError::NoScheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "valkey" | "redis" => Self::parse_network(rest, Transport::Plain),
            "valkeys" | "rediss" if cfg!(feature = "tls") => {
                Self::parse_network(rest, Transport::Tls)
            }
            "valkeys" | "rediss" => Err(UrlError::TlsNotBuiltIn),
            "unix" | "valkey+unix" | "redis+unix" if cfg!(unix) => Self::parse_unix(rest),
            "unix" | "valkey+unix" | "redis+unix" => Err(UrlError::NoUnixSockets),
            "valkey-cluster" | "valkeys-cluster" | "redis-cluster" | "rediss-cluster" => {
                Err(UrlError::NotSupportedYet { what: "a cluster" })
            }
            "valkey-sentinel" | "valkeys-sentinel" | "redis-sentinel" | "rediss-sentinel" => {
                Err(UrlError::NotSupportedYet { what: "Sentinel" })
            }
            scheme => Err(unknown_scheme(scheme)),
        }
    }

    fn parse_network(rest: &str, transport: Transport) -> Result<Self, UrlError> {
        let (rest, parameters) = split_parameters(rest)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host_and_port) = split_login(authority)?;
        let (host, port) = split_port(host_and_port)?;
        let mut url = Self {
            endpoint: match transport {
                Transport::Plain => Endpoint::Tcp { host, port },
                Transport::Tls => Endpoint::Tls { host, port },
            },
            user: login.user,
            password: login.password,
            db: match path.trim_end_matches('/') {
                "" => 0,
                db => db.parse().map_err(|_bad| UrlError::BadDatabase)?,
            },
        };
        url.apply(parameters)?;
        Ok(url)
    }

    fn parse_unix(rest: &str) -> Result<Self, UrlError> {
        let (rest, parameters) = split_parameters(rest)?;
        let (authority, path) = match rest.find('/') {
            Some(start) => rest.split_at_checked(start).unwrap_or((rest, "")),
            None => (rest, ""),
        };
        let (login, host) = split_login(authority)?;
        if !host.is_empty() || path.len() < 2 {
            return Err(UrlError::NoPath);
        }
        let mut url = Self {
            endpoint: Endpoint::Unix {
                path: decode(path)?,
            },
            user: login.user,
            password: login.password,
            db: 0,
        };
        url.apply(parameters)?;
        Ok(url)
    }

    fn apply(&mut self, parameters: &str) -> Result<(), UrlError> {
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match (name, value) {
                ("db", db) => self.db = db.parse().map_err(|_bad| UrlError::BadDatabase)?,
                ("user" | "username", user) => self.user = Some(decode(user)?),
                ("pass" | "password", password) => self.password = Some(decode(password)?),
                // Other clients need it said; here it is always so.
                ("protocol", "3" | "resp3") => {}
                ("protocol", _) => return Err(UrlError::NeedsResp3),
                _ => return Err(unknown_parameter(name, parameters)),
            }
        }
        Ok(())
    }

    /// What the client library needs to know.
    pub(super) fn connection_info(&self) -> redis::RedisResult<ConnectionInfo> {
        let Self {
            endpoint,
            user,
            password,
            db,
        } = self;
        let info = match endpoint.clone() {
            Endpoint::Tcp { host, port } => ConnectionAddr::Tcp(host, port),
            Endpoint::Tls { host, port } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
            Endpoint::Unix { path } => ConnectionAddr::Unix(path.into()),
        }
        .into_connection_info()?;
        let mut login = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .set_db(i64::from(*db));
        if let Some(user) = user {
            login = login.set_username(user);
        }
        if let Some(password) = password {
            login = login.set_password(password);
        }
        Ok(info.set_redis_settings(login))
    }
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        Self::parse(url)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            endpoint,
            user,
            password,
            db,
        } = self;
        f.write_str(match endpoint {
            Endpoint::Tcp { .. } => "valkey://",
            Endpoint::Tls { .. } => "valkeys://",
            Endpoint::Unix { .. } => "unix://",
        })?;
        f.write_str(user.as_deref().unwrap_or_default())?;
        if password.is_some() {
            f.write_str(":***")?;
        }
        if user.is_some() || password.is_some() {
            f.write_str("@")?;
        }
        match endpoint {
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port } => {
                match host.contains(':') {
                    true => write!(f, "[{host}]:{port}/{db}"),
                    false => write!(f, "{host}:{port}/{db}"),
                }
            }
            Endpoint::Unix { path } => write!(f, "{path}?db={db}"),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// Why a text is not the URL of a shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It does not begin with a scheme and `://`.
    NoScheme,
    /// The scheme is not one of those listed at [`StoreUrl`].
    UnknownScheme {
        /// The scheme as given, if it is safe to show.
        scheme: String,
    },
    /// The scheme is known, and not supported by this version.
    NotSupportedYet {
        /// What it would connect to.
        what: &'static str,
    },
    /// TLS was asked for and the feature `tls` is off.
    TlsNotBuiltIn,
    /// Unix sockets do not exist on this platform.
    NoUnixSockets,
    /// There is no host name.
    NoHost,
    /// The host name has characters that none may have.
    BadHost,
    /// The port is not a number from 1 to 65535.
    BadPort,
    /// The database is not a number.
    BadDatabase,
    /// A Unix socket's URL needs an absolute path and no host: `unix:///run/valkey.sock`.
    NoPath,
    /// A percent sign is not followed by two hexadecimal digits, or the result is not UTF-8.
    BadEncoding,
    /// A protocol other than RESP3 was asked for.
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
            Self::NotSupportedYet { what } => {
                write!(f, "{what} is not supported yet; expected {SCHEMES}")
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
            Self::NoPath => f.write_str("expected an absolute path, as in unix:///run/valkey.sock"),
            Self::BadEncoding => f.write_str("bad percent-encoding"),
            Self::NeedsResp3 => f.write_str("only protocol=resp3 is supported"),
            Self::UnknownParameter { name } => {
                write!(f, "unknown parameter `{name}`; expected db, user or pass")
            }
            Self::Fragment => f.write_str(
                "nothing is allowed after `#` (in a password it must be percent-encoded)",
            ),
        }
    }
}

impl std::error::Error for UrlError {}

#[derive(Clone, Copy)]
enum Transport {
    Plain,
    Tls,
}

struct Login {
    user: Option<String>,
    password: Option<String>,
}

fn split_parameters(rest: &str) -> Result<(&str, &str), UrlError> {
    match rest.contains('#') {
        true => Err(UrlError::Fragment),
        false => Ok(rest.split_once('?').unwrap_or((rest, ""))),
    }
}

fn split_login(authority: &str) -> Result<(Login, &str), UrlError> {
    let Some((login, host)) = authority.rsplit_once('@') else {
        let nobody = Login {
            user: None,
            password: None,
        };
        return Ok((nobody, authority));
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (login, None),
    };
    let login = Login {
        user: match user {
            "" => None,
            user => Some(decode(user)?),
        },
        password: password.filter(|password| !password.is_empty()),
    };
    Ok((login, host))
}

fn split_port(text: &str) -> Result<(String, u16), UrlError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(UrlError::BadHost)?,
        None => match text.split_once(':') {
            Some((host, port)) => (host, port),
            None => (text, ""),
        },
    };
    let port = match port.strip_prefix(':').unwrap_or(port) {
        "" => DEFAULT_PORT,
        port => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(UrlError::BadPort)?,
    };
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    let plausible = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    match host.bytes().all(plausible) {
        true => Ok((host.to_owned(), port)),
        false => Err(UrlError::BadHost),
    }
}

fn decode(text: &str) -> Result<String, UrlError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| hex(digit.unwrap_or(b'?')));
                match digits {
                    [Some(high), Some(low)] => high << 4 | low,
                    _ => return Err(UrlError::BadEncoding),
                }
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_not_utf8| UrlError::BadEncoding)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn unknown_scheme(scheme: &str) -> UrlError {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    match scheme.bytes().all(safe) {
        true => UrlError::UnknownScheme {
            scheme: scheme.to_owned(),
        },
        false => UrlError::NoScheme,
    }
}

/// With a `?` in a password, what looks like a parameter is the rest of that password.
fn unknown_parameter(name: &str, parameters: &str) -> UrlError {
    let safe = !parameters.contains('@')
        && name.len() <= 20
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    UrlError::UnknownParameter {
        name: if safe { name } else { "…" }.to_owned(),
    }
}

const DEFAULT_PORT: u16 = 6379;

const SCHEMES: &str = "valkey://, valkeys://, redis://, rediss:// or unix://";

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Result<String, UrlError> {
        StoreUrl::parse(url).map(|url| url.to_string())
    }

    #[test]
    fn urls_are_read() {
        for (url, expected) in [
            ("valkey://h", "valkey://h:6379/0"),
            ("redis://h:1", "valkey://h:1/0"),
            ("VALKEY://h:1/7", "valkey://h:1/7"),
            ("valkey://h/", "valkey://h:6379/0"),
            ("valkey://[::1]:7/1", "valkey://[::1]:7/1"),
            ("valkey://[fe80::1]", "valkey://[fe80::1]:6379/0"),
            ("valkey://u:p@h", "valkey://u:***@h:6379/0"),
            ("valkey://u@h", "valkey://u@h:6379/0"),
            ("valkey://:p@h", "valkey://:***@h:6379/0"),
            ("valkey://:@h", "valkey://h:6379/0"),
            ("redis://h?protocol=resp3&db=4", "valkey://h:6379/4"),
            ("unix:///run/v.sock", "unix:///run/v.sock?db=0"),
            (
                "valkey+unix:///a%20b?db=3&user=u&pass=p",
                "unix://u:***@/a b?db=3",
            ),
            ("redis+unix://u:p@/a", "unix://u:***@/a?db=0"),
        ] {
            assert_eq!(shown(url).as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn tls_urls_need_the_feature() {
        for url in ["valkeys://h", "rediss://h"] {
            match cfg!(feature = "tls") {
                true => assert_eq!(shown(url).as_deref(), Ok("valkeys://h:6379/0")),
                false => assert_eq!(shown(url), Err(UrlError::TlsNotBuiltIn)),
            }
        }
    }

    #[test]
    fn credentials_are_percent_decoded() {
        let url = StoreUrl::parse("valkey://us%65r:p%40%2F%3a%25%C3%A9@h").unwrap();
        assert_eq!(url.user.as_deref(), Some("user"));
        assert_eq!(url.password.as_deref(), Some("p@/:%é"));
        let info = url.connection_info().unwrap();
        assert_eq!(info.redis_settings().password(), Some("p@/:%é"));
        assert_eq!(info.redis_settings().protocol(), ProtocolVersion::RESP3);
    }

    #[test]
    fn an_at_sign_in_a_password_is_understood() {
        let url = StoreUrl::parse("valkey://u:p@ss@h").unwrap();
        assert_eq!(url.password.as_deref(), Some("p@ss"));
        assert_eq!(url.to_string(), "valkey://u:***@h:6379/0");
    }

    #[test]
    fn bad_urls_are_told_apart() {
        let parameter = |name: &str| UrlError::UnknownParameter {
            name: name.to_owned(),
        };
        let cluster = UrlError::NotSupportedYet { what: "a cluster" };
        let sentinel = UrlError::NotSupportedYet { what: "Sentinel" };
        for (url, expected) in [
            ("", UrlError::NoScheme),
            ("localhost:6379", UrlError::NoScheme),
            ("valkey:/h", UrlError::NoScheme),
            (
                "http://h",
                UrlError::UnknownScheme {
                    scheme: "http".to_owned(),
                },
            ),
            ("p@ss word://h", UrlError::NoScheme),
            ("valkey://", UrlError::NoHost),
            ("valkey://u:p@", UrlError::NoHost),
            ("valkey://:7", UrlError::NoHost),
            ("valkey://h h", UrlError::BadHost),
            ("valkey://[::1", UrlError::BadHost),
            ("valkey://h:0", UrlError::BadPort),
            ("valkey://h:70000", UrlError::BadPort),
            ("valkey://h:6379:1", UrlError::BadPort),
            ("valkey://h/x", UrlError::BadDatabase),
            ("valkey://h/-1", UrlError::BadDatabase),
            ("valkey://u:%zz@h", UrlError::BadEncoding),
            ("valkey://u:%f@h", UrlError::BadEncoding),
            ("valkey://u:%ff@h", UrlError::BadEncoding),
            ("valkey://h?protocol=2", UrlError::NeedsResp3),
            ("valkey://h?timeout=1", parameter("timeout")),
            ("valkey://h?S3CRET", parameter("…")),
            ("valkey://h#insecure", UrlError::Fragment),
            ("unix://", UrlError::NoPath),
            ("unix:///", UrlError::NoPath),
            ("unix://host/path", UrlError::NoPath),
            ("valkey-cluster://a,b", cluster),
            ("valkey-sentinel://a:1,b/main", sentinel),
        ] {
            assert_eq!(shown(url), Err(expected), "{url}");
        }
    }

    #[test]
    fn no_text_shows_the_password() {
        const SECRET: &str = "hunter2";
        let secret_letters = StoreUrl::parse("valkey://u:x?letters=1@h").unwrap_err();
        assert!(!secret_letters.to_string().contains("letters"));
        for url in [
            "valkey://u:hunter2@h",
            "valkey://:hunter2@h:1/2",
            "unix:///a?pass=hunter2",
            "valkey://u:hunter2/x@h",
            "valkey://u:hunter2#x@h",
            "valkey://u:x?hunter2=1@h",
            "valkey://u:x?hunter2@h",
            "valkey://u:hunter2%@h",
            "valkey://hunter2:x",
            "hunter2",
            "hunter2@h://x",
            "valkey-cluster://u:hunter2@h",
        ] {
            let text = match StoreUrl::parse(url) {
                Ok(url) => format!("{url} {url:?} {url:#?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}
