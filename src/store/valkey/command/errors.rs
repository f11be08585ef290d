//! What the errors of commands mean.

use redis::{ErrorKind, RedisError};

use crate::error::{ErrorCode, StoreError};

/// What to do with the connection on which a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Keep the connection.
    Keep,
    /// Keep the connection, and dial another, which may reach a server that takes writes.
    Relieve,
    /// Count the failure like a missing answer: enough of them in a row replace the connection.
    Strike,
    /// Replace the connection.
    Replace,
}

/// What an error means to the caller and to the connection.
pub(crate) fn classify(error: &RedisError) -> (StoreError, Remedy) {
    match (error.kind(), error.code()) {
        (_, Some(code)) => classify_code(code),
        (ErrorKind::Io, _) => (StoreError::Unavailable, Remedy::Replace),
        (ErrorKind::AuthenticationFailed, _) => (StoreError::Refused, Remedy::Replace),
        _ => (StoreError::Protocol, Remedy::Replace),
    }
}

fn classify_code(code: &str) -> (StoreError, Remedy) {
    match code {
        "NOAUTH" | "WRONGPASS" | "DENIED" => (StoreError::Refused, Remedy::Replace),
        "NOPERM" => (StoreError::Refused, Remedy::Keep),
        "READONLY" => (StoreError::ReadOnly, Remedy::Relieve),
        "OOM" => (StoreError::Full, Remedy::Keep),
        "LOADING" | "MASTERDOWN" => (server(code), Remedy::Replace),
        "BUSY" => (server(code), Remedy::Strike),
        _ => (server(code), Remedy::Keep),
    }
}

fn server(code: &str) -> StoreError {
    StoreError::Server(ErrorCode::new(code))
}

/// Describes an error without the text of the server, which may repeat the arguments of the
/// command: the first command carries the password.
pub(crate) fn describe(error: &RedisError) -> String {
    match (error.kind(), error.code()) {
        (ErrorKind::RESP3NotSupported, _) => {
            "the server does not speak RESP3, which takes Redis 6 or Valkey".to_owned()
        }
        (_, Some(code)) => format!("the server answered {}", ErrorCode::new(code)),
        (ErrorKind::Io, _) => error.to_string(),
        _ => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_have_their_remedies() {
        let classified = |code: &str| classify(&redis::make_extension_error(code.to_owned(), None));
        for (code, error, remedy) in [
            ("WRONGPASS", StoreError::Refused, Remedy::Replace),
            ("NOAUTH", StoreError::Refused, Remedy::Replace),
            ("NOPERM", StoreError::Refused, Remedy::Keep),
            ("READONLY", StoreError::ReadOnly, Remedy::Relieve),
            ("OOM", StoreError::Full, Remedy::Keep),
            ("LOADING", server("LOADING"), Remedy::Replace),
            ("MASTERDOWN", server("MASTERDOWN"), Remedy::Replace),
            ("BUSY", server("BUSY"), Remedy::Strike),
            ("WRONGTYPE", server("WRONGTYPE"), Remedy::Keep),
        ] {
            assert_eq!(classified(code), (error, remedy), "{code}");
        }
    }

    #[test]
    fn a_description_leaves_out_what_the_server_echoes() {
        let error = redis::make_extension_error(
            "ERR".to_owned(),
            Some("unknown command 'HELLO' with args '3' 'AUTH' 'default' 'hunter2'".to_owned()),
        );
        assert_eq!(describe(&error), "the server answered ERR");
    }
}
