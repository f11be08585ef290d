//! The commands that are sent, and how their replies are read.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, ErrorKind, RedisError, Value};

use crate::error::{ErrorCode, StoreError};
use crate::store::Leased;

mod log;
mod nodes;

pub(crate) use log::{
    bounds, log_append, log_append_at, log_bounds, log_look, log_read, log_trim, position,
    presence, records, wait,
};
pub(crate) use nodes::{
    Redirect, SlotRange, address, asking, is_primary, primary, redirect, role, slot_ranges, slots,
};

pub(crate) fn get(key: &str) -> Cmd {
    build(&[b"GET", key.as_bytes()])
}

/// As [`get`], but reads at most one byte more than the longest value, which shows that it is too
/// long.
pub(crate) fn get_bounded(key: &str, longest: u64) -> Cmd {
    build(&[
        b"GETRANGE",
        key.as_bytes(),
        b"0",
        longest.min(LONGEST_VALUE).to_string().as_bytes(),
    ])
}

/// `PX` takes whole milliseconds, and zero is an error.
pub(crate) fn set(key: &str, value: &[u8], ttl: Duration) -> Cmd {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let millis = millis.clamp(1, LONGEST_TTL_MS).to_string();
    build(&[b"SET", key.as_bytes(), value, b"PX", millis.as_bytes()])
}

/// `UNLINK` frees large values outside the server's main thread.
pub(crate) fn unlink(keys: &[String]) -> Cmd {
    let size = keys.iter().map(String::len).sum::<usize>() + 8;
    let mut command = Cmd::with_capacity(keys.len() + 1, size);
    command.arg(b"UNLINK");
    for key in keys {
        command.arg(key.as_bytes());
    }
    command
}

pub(crate) fn lease(key: &str, token: &str, ttl: Duration) -> Cmd {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let millis = millis.clamp(1, LONGEST_TTL_MS).to_string();
    build(&[
        b"SET",
        key.as_bytes(),
        token.as_bytes(),
        b"NX",
        b"PX",
        millis.as_bytes(),
    ])
}

/// Valkey 9.0 and later.
pub(crate) fn release(key: &str, token: &str) -> Cmd {
    build(&[b"DELIFEQ", key.as_bytes(), token.as_bytes()])
}

/// The server repeats `nonce`, so a reply that belongs to another command is noticed.
pub(crate) fn ping(nonce: u64) -> Cmd {
    build(&[b"PING", nonce.to_string().as_bytes()])
}

/// A key that is not there has an empty range, and nothing that the cache stores is empty: the
/// two are one.
pub(crate) fn value(reply: Value, longest: u64) -> Result<Option<Bytes>, StoreError> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) if bytes.is_empty() => Ok(None),
        Value::BulkString(bytes) if bytes.len() as u64 > longest => Err(StoreError::TooLong),
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        _ => Err(StoreError::Protocol),
    }
}

pub(crate) fn okay(reply: &Value) -> Result<(), StoreError> {
    match reply {
        Value::Okay => Ok(()),
        _ => Err(StoreError::Protocol),
    }
}

pub(crate) fn leased(reply: &Value) -> Result<Leased, StoreError> {
    match reply {
        Value::Okay => Ok(Leased::Granted),
        Value::Nil => Ok(Leased::Held),
        _ => Err(StoreError::Protocol),
    }
}

pub(crate) fn count(reply: &Value) -> Result<u64, StoreError> {
    match reply {
        Value::Int(count) => u64::try_from(*count).map_err(|_negative| StoreError::Protocol),
        _ => Err(StoreError::Protocol),
    }
}

pub(crate) fn pong(reply: &Value, nonce: u64) -> Result<(), StoreError> {
    match text(reply) {
        Some(text) if text == nonce.to_string() => Ok(()),
        _ => Err(StoreError::Protocol),
    }
}

/// What a failed command says about the connection it was sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The connection is fine.
    Keep,
    /// Another connection may reach a server that is better off; keep this one until then.
    Relieve,
    /// As bad as no answer: enough of them in a row condemn the connection.
    Strike,
    /// The connection is of no more use.
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

/// An error of the connection in words. The text of a server's error is left out: it may
/// repeat the arguments of the command, and the first command carries the password.
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

fn build(parts: &[&[u8]]) -> Cmd {
    let size = parts.iter().map(|part| part.len()).sum();
    let mut command = Cmd::with_capacity(parts.len(), size);
    for part in parts {
        command.arg(*part);
    }
    command
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The server refuses ends of ranges beyond what it counts to, and keeps no longer value by far.
const LONGEST_VALUE: u64 = 1 << 40;

/// About 100 years; the server refuses times beyond what its clock can tell.
const LONGEST_TTL_MS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_time_to_live_is_never_zero() {
        let packed = |ttl| String::from_utf8(set("k", b"v", ttl).get_packed_command()).unwrap();
        assert!(packed(Duration::ZERO).ends_with("PX\r\n$1\r\n1\r\n"));
        assert!(packed(Duration::from_millis(1500)).ends_with("PX\r\n$4\r\n1500\r\n"));
        assert!(packed(Duration::MAX).ends_with("3153600000000\r\n"));
    }

    #[test]
    fn replies_of_another_kind_are_a_breach_of_protocol() {
        assert_eq!(value(Value::Okay, 9), Err(StoreError::Protocol));
        assert_eq!(okay(&bulk("OK")), Err(StoreError::Protocol));
        assert_eq!(count(&Value::Int(-1)), Err(StoreError::Protocol));
        assert_eq!(pong(&bulk("2"), 1), Err(StoreError::Protocol));
        assert_eq!(position(&bulk("x")), Err(StoreError::Protocol));
        assert_eq!(records(Value::Int(1)), Err(StoreError::Protocol));
        assert_eq!(bounds(&Value::Nil), Err(StoreError::Protocol));
    }

    #[test]
    fn a_value_is_read_up_to_its_longest() {
        assert_eq!(value(Value::Nil, 3), Ok(None));
        assert_eq!(value(bulk(""), 3), Ok(None));
        assert_eq!(value(bulk("abc"), 3), Ok(Some(Bytes::from("abc"))));
        assert_eq!(value(bulk("abcd"), 3), Err(StoreError::TooLong));
    }

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
