//! The commands about values, leases and the server, and their replies.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::resp::{build, text};
use crate::error::StoreError;
use crate::store::Leased;

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

pub(crate) fn set(key: &str, value: &[u8], ttl: Duration) -> Cmd {
    let millis = millis(ttl);
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
    let millis = millis(ttl);
    build(&[
        b"SET",
        key.as_bytes(),
        token.as_bytes(),
        b"NX",
        b"PX",
        millis.as_bytes(),
    ])
}

/// Needs Valkey 9.0 or later.
pub(crate) fn release(key: &str, token: &str) -> Cmd {
    build(&[b"DELIFEQ", key.as_bytes(), token.as_bytes()])
}

/// The server repeats `nonce`, so a reply that belongs to another command is noticed.
pub(crate) fn ping(nonce: u64) -> Cmd {
    build(&[b"PING", nonce.to_string().as_bytes()])
}

/// `GETRANGE` answers with an empty range if the key is not there. The cache stores no empty
/// value, so both mean that there is no value.
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

/// A time for `PX`, which takes whole milliseconds and not zero.
fn millis(ttl: Duration) -> String {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    millis.clamp(1, LONGEST_TTL_MS).to_string()
}

/// The server refuses the end of a range that its integers cannot hold. No value is as long as
/// this.
const LONGEST_VALUE: u64 = 1 << 40;

/// About 100 years. The server refuses times that its clock cannot hold.
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
    }

    #[test]
    fn a_value_is_read_up_to_its_longest() {
        assert_eq!(value(Value::Nil, 3), Ok(None));
        assert_eq!(value(bulk(""), 3), Ok(None));
        assert_eq!(value(bulk("abc"), 3), Ok(Some(Bytes::from("abc"))));
        assert_eq!(value(bulk("abcd"), 3), Err(StoreError::TooLong));
    }
}
