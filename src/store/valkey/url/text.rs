//! The parts of a URL's text.

use percent_encoding::percent_decode_str;

use super::address::{Address, Login};
use super::error::UrlError;

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

/// Strict, unlike the library: a `%` that begins no escape is an error, since what follows may be
/// a password that was not escaped.
pub(super) fn decode(text: &str) -> Result<String, UrlError> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_escape) {
        return Err(UrlError::BadEncoding);
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_not_utf8| UrlError::BadEncoding)
}
