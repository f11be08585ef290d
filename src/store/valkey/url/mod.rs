//! The URL of a server, a cluster, or Sentinels.

mod error;
mod parts;

use std::fmt;
use std::str::FromStr;

pub use self::error::UrlError;
pub(crate) use self::parts::{Address, Login, TlsFiles, Transport};
use self::parts::{decode, split_login, split_parameters, split_port};

/// The address of a Valkey (or Redis) server, with its credentials.
///
/// | URL | means |
/// |---|---|
/// | `valkey://[user[:password]@]host[:port][/db]`, `redis://…` | TCP |
/// | `valkeys://…`, `rediss://…` | TCP with TLS (feature `tls`) |
/// | `unix:///path[?db=1&user=u&pass=p]`, `valkey+unix://…`, `redis+unix://…` | a Unix socket |
/// | `valkey-sentinel://[user:password@]host[:port][,host[:port]…]/primary[/db]` | the primary of that name, found by asking these Sentinels |
/// | `valkey-cluster://[user:password@]host[:port][,host[:port]…]` | a cluster, found by asking these nodes |
///
/// `valkeys-sentinel://` and `valkeys-cluster://` use TLS for all connections; `redis` may stand
/// for `valkey` everywhere. The credentials are those of the data servers. For Sentinels with
/// credentials of their own, add `?sentinel_user=…&sentinel_pass=…`.
///
/// `valkey://:password@host` logs in as the default user. User and password are
/// percent-decoded: write `@`, `/`, `:` and `%` in them as `%40`, `%2F`, `%3A` and `%25`.
/// Neither `Debug` nor `Display` ever shows the password.
///
/// With TLS the server's certificate must be signed by an authority that browsers trust, or by
/// one in the PEM file of `?ca=/path`. With `&cert=/path&key=/path` the client shows a certificate
/// too. The files are read for each new connection, so that they may be replaced. Certificates
/// are always verified, and nothing is ever sent without TLS.
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
    pub(crate) location: Location,
    pub(crate) login: Login,
    pub(crate) db: u32,
    pub(crate) files: TlsFiles,
}

/// The server or servers that a URL names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Location {
    Server(Transport, Address),
    Unix {
        path: String,
    },
    Sentinel {
        transport: Transport,
        sentinels: Vec<Address>,
        primary: String,
        /// The credentials for the Sentinels themselves.
        login: Login,
    },
    Cluster(Transport, Vec<Address>),
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
        let scheme = scheme.to_ascii_lowercase();
        if let "unix" | "valkey+unix" | "redis+unix" = scheme.as_str() {
            return if cfg!(unix) {
                Self::parse_unix(rest)
            } else {
                Err(UrlError::NoUnixSockets)
            };
        }
        let (protocol, kind) = scheme.split_once('-').unwrap_or((&scheme, ""));
        let transport = match protocol {
            "valkey" | "redis" => Transport::Plain,
            "valkeys" | "rediss" => Transport::Tls,
            _ => return Err(UrlError::unknown_scheme(&scheme)),
        };
        let parse = match kind {
            "" if protocol.len() == scheme.len() => Self::parse_server,
            "sentinel" => Self::parse_sentinel,
            "cluster" => Self::parse_cluster,
            _ => return Err(UrlError::unknown_scheme(&scheme)),
        };
        if transport == Transport::Tls && !cfg!(feature = "tls") {
            return Err(UrlError::TlsNotBuiltIn);
        }
        parse(rest, transport)
    }

    fn parse_server(rest: &str, transport: Transport) -> Result<Self, UrlError> {
        let (rest, parameters) = split_parameters(rest)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host_and_port) = split_login(authority)?;
        let address = split_port(host_and_port, DEFAULT_PORT)?;
        let mut url = Self::new(Location::Server(transport, address), login);
        url.db = database(path)?;
        url.apply(parameters)
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
        let path = decode(path)?;
        Self::new(Location::Unix { path }, login).apply(parameters)
    }

    fn parse_sentinel(rest: &str, transport: Transport) -> Result<Self, UrlError> {
        let (rest, parameters) = split_parameters(rest)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = split_login(authority)?;
        let (primary, db) = path.split_once('/').unwrap_or((path, ""));
        if primary.is_empty() {
            return Err(UrlError::NoPrimary);
        }
        let location = Location::Sentinel {
            transport,
            sentinels: addresses(hosts, SENTINEL_PORT)?,
            primary: decode(primary)?,
            login: Login::default(),
        };
        let mut url = Self::new(location, login);
        url.db = database(db)?;
        url.apply(parameters)
    }

    fn parse_cluster(rest: &str, transport: Transport) -> Result<Self, UrlError> {
        let (rest, parameters) = split_parameters(rest)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = split_login(authority)?;
        let location = Location::Cluster(transport, addresses(hosts, DEFAULT_PORT)?);
        let mut url = Self::new(location, login);
        url.db = database(path)?;
        let url = url.apply(parameters)?;
        match url.db {
            0 => Ok(url),
            _ => Err(UrlError::DatabaseOfCluster),
        }
    }

    fn new(location: Location, login: Login) -> Self {
        Self {
            location,
            login,
            db: 0,
            files: TlsFiles::default(),
        }
    }

    /// The URL of one node of a cluster, with the same credentials and certificates.
    pub(crate) fn at(&self, transport: Transport, address: Address) -> Self {
        Self {
            location: Location::Server(transport, address),
            ..self.clone()
        }
    }

    fn apply(mut self, parameters: &str) -> Result<Self, UrlError> {
        let tls = self.transport() == Transport::Tls;
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match (name, value) {
                ("db", db) => self.db = db.parse().map_err(|_bad| UrlError::BadDatabase)?,
                ("user" | "username", user) => self.login.user = Some(decode(user)?),
                ("pass" | "password", password) => self.login.password = Some(decode(password)?),
                ("ca", path) if tls => self.files.ca = Some(decode(path)?),
                ("cert", path) if tls => self.files.cert = Some(decode(path)?),
                ("key", path) if tls => self.files.key = Some(decode(path)?),
                ("ca" | "cert" | "key", _) => return Err(UrlError::NotTls),
                // Other clients need this parameter; this one always speaks RESP3.
                ("protocol", "3" | "resp3") => {}
                ("protocol", _) => return Err(UrlError::NeedsResp3),
                (name, value) => self.apply_to_sentinels(name, value, parameters)?,
            }
        }
        if self.files.cert.is_some() != self.files.key.is_some() {
            return Err(UrlError::HalfACertificate);
        }
        Ok(self)
    }

    fn apply_to_sentinels(&mut self, name: &str, value: &str, all: &str) -> Result<(), UrlError> {
        match (&mut self.location, name) {
            (Location::Sentinel { login, .. }, "sentinel_user") => {
                login.user = Some(decode(value)?)
            }
            (Location::Sentinel { login, .. }, "sentinel_pass") => {
                login.password = Some(decode(value)?);
            }
            _ => return Err(UrlError::unknown_parameter(name, all)),
        }
        Ok(())
    }

    fn transport(&self) -> Transport {
        match &self.location {
            Location::Server(transport, _)
            | Location::Cluster(transport, _)
            | Location::Sentinel { transport, .. } => *transport,
            Location::Unix { .. } => Transport::Plain,
        }
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
            location,
            login,
            db,
            files: _,
        } = self;
        let secure = match self.transport() {
            Transport::Plain => "",
            Transport::Tls => "s",
        };
        match location {
            Location::Server(..) => write!(f, "valkey{secure}://{login}")?,
            Location::Sentinel { .. } => write!(f, "valkey{secure}-sentinel://{login}")?,
            Location::Cluster(..) => write!(f, "valkey{secure}-cluster://{login}")?,
            Location::Unix { .. } => write!(f, "unix://{login}")?,
        }
        match location {
            Location::Server(_, address) => write!(f, "{address}/{db}"),
            Location::Unix { path } => write!(f, "{path}?db={db}"),
            Location::Sentinel {
                sentinels, primary, ..
            } => write!(f, "{}/{primary}/{db}", List(sentinels)),
            Location::Cluster(_, seeds) => write!(f, "{}", List(seeds)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

struct List<'a>(&'a [Address]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

fn addresses(hosts: &str, port: u16) -> Result<Vec<Address>, UrlError> {
    hosts
        .split(',')
        .map(|host| split_port(host, port))
        .collect()
}

fn database(path: &str) -> Result<u32, UrlError> {
    match path.trim_end_matches('/') {
        "" => Ok(0),
        db => db.parse().map_err(|_bad| UrlError::BadDatabase),
    }
}

const DEFAULT_PORT: u16 = 6379;

const SENTINEL_PORT: u16 = 26379;

#[cfg(test)]
mod tests;
