//! The parts of a URL: addresses, logins and paths.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use super::error::UrlError;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// Paths of PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<String>,
    pub(crate) cert: Option<String>,
    pub(crate) key: Option<String>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Shows the beginning of an authority, without the password.
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, password } = self;
        f.write_str(user.as_deref().unwrap_or_default())?;
        if password.is_some() {
            f.write_str(":***")?;
        }
        if user.is_some() || password.is_some() {
            f.write_str("@")?;
        }
        Ok(())
    }
}

pub(super) fn split_parameters(rest: &str) -> Result<(&str, &str), UrlError> {
    if rest.contains('#') {
        return Err(UrlError::Fragment);
    }
    Ok(rest.split_once('?').unwrap_or((rest, "")))
}

pub(super) fn split_login(authority: &str) -> Result<(Login, &str), UrlError> {
    let Some((login, host)) = authority.rsplit_once('@') else {
        return Ok((Login::default(), authority));
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

pub(super) fn split_port(text: &str, default: u16) -> Result<Address, UrlError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(UrlError::BadHost)?,
        None => match text.split_once(':') {
            Some((host, port)) => (host, port),
            None => (text, ""),
        },
    };
    let port = match port.strip_prefix(':').unwrap_or(port) {
        "" => default,
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
    if !host.bytes().all(plausible) {
        return Err(UrlError::BadHost);
    }
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

/// Undoes percent-encoding, and refuses a `%` that two hexadecimal digits do not follow. The crate
/// would leave it as it is, and a typing error in a password would show only at the login.
pub(super) fn decode(text: &str) -> Result<String, UrlError> {
    let is_encoded = |after: &str| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_encoded) {
        return Err(UrlError::BadEncoding);
    }
    percent_decode_str(text)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_not_utf8| UrlError::BadEncoding)
}
