//! The commands that are sent, and how their replies are read.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, ErrorKind, RedisError, Value};

use super::url::Address;
use crate::error::{ErrorCode, StoreError};
use crate::store::{Leased, LogBounds, LogPosition, Presence, Trimmed};

pub(super) fn get(key: &str) -> Cmd {
    build(&[b"GET", key.as_bytes()])
}

/// `PX` takes whole milliseconds, and zero is an error.
pub(super) fn set(key: &str, value: &[u8], ttl: Duration) -> Cmd {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let millis = millis.clamp(1, LONGEST_TTL_MS).to_string();
    build(&[b"SET", key.as_bytes(), value, b"PX", millis.as_bytes()])
}

/// `UNLINK` frees large values outside the server's main thread.
pub(super) fn unlink(keys: &[String]) -> Cmd {
    let size = keys.iter().map(String::len).sum::<usize>() + 8;
    let mut command = Cmd::with_capacity(keys.len() + 1, size);
    command.arg(b"UNLINK");
    for key in keys {
        command.arg(key.as_bytes());
    }
    command
}

pub(super) fn lease(key: &str, token: &str, ttl: Duration) -> Cmd {
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
pub(super) fn release(key: &str, token: &str) -> Cmd {
    build(&[b"DELIFEQ", key.as_bytes(), token.as_bytes()])
}

/// The server repeats `nonce`, so a reply that belongs to another command is noticed.
pub(super) fn ping(nonce: u64) -> Cmd {
    build(&[b"PING", nonce.to_string().as_bytes()])
}

/// At the next position, by the server's clock.
pub(super) fn log_append(log: &str, max_records: u64, record: &[u8]) -> Cmd {
    append(log, max_records, b"*", record)
}

/// An error if the log is already there or beyond.
pub(super) fn log_append_at(log: &str, max_records: u64, at: LogPosition, record: &[u8]) -> Cmd {
    append(log, max_records, at.to_string().as_bytes(), record)
}

/// `MAXLEN ~` trims whole nodes of the stream only, which costs next to nothing.
fn append(log: &str, max_records: u64, id: &[u8], record: &[u8]) -> Cmd {
    let max_records = max_records.to_string();
    build(&[
        b"XADD",
        log.as_bytes(),
        b"MAXLEN",
        b"~",
        max_records.as_bytes(),
        id,
        FIELD,
        record,
    ])
}

/// Waits for replicas to have what was written on this connection; `WAIT n 0` would wait for ever.
pub(super) fn wait(replicas: u32, time: Duration) -> Cmd {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    build(&[
        b"WAIT",
        replicas.to_string().as_bytes(),
        millis.max(1).to_string().as_bytes(),
    ])
}

/// The record at one position.
pub(super) fn log_look(log: &str, position: LogPosition) -> Cmd {
    let position = position.to_string();
    build(&[
        b"XRANGE",
        log.as_bytes(),
        position.as_bytes(),
        position.as_bytes(),
    ])
}

/// Forgets the records before `oldest`, in whole nodes of the stream.
pub(super) fn log_trim(log: &str, oldest: LogPosition) -> Cmd {
    let oldest = oldest.to_string();
    build(&[b"XTRIM", log.as_bytes(), b"MINID", b"~", oldest.as_bytes()])
}

/// `BLOCK 0` would wait for ever.
pub(super) fn log_read(log: &str, after: LogPosition, block: Duration) -> Cmd {
    let millis = u64::try_from(block.as_millis()).unwrap_or(u64::MAX);
    build(&[
        b"XREAD",
        b"COUNT",
        RECORDS_A_READ,
        b"BLOCK",
        millis.max(1).to_string().as_bytes(),
        b"STREAMS",
        log.as_bytes(),
        after.to_string().as_bytes(),
    ])
}

pub(super) fn log_bounds(log: &str) -> Cmd {
    build(&[b"XINFO", b"STREAM", log.as_bytes()])
}

/// Asks a Sentinel where the primary is.
pub(super) fn primary(name: &str) -> Cmd {
    build(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()])
}

pub(super) fn role() -> Cmd {
    build(&[b"ROLE"])
}

/// Asks a node of a cluster which node has which slots.
pub(super) fn slots() -> Cmd {
    build(&[b"CLUSTER", b"SLOTS"])
}

pub(super) fn asking() -> Cmd {
    build(&[b"ASKING"])
}

/// A host and a port, as a Sentinel gives them.
pub(super) fn address(reply: &Value) -> Option<Address> {
    let Value::Array(parts) = reply else {
        return None;
    };
    let [host, port] = parts.as_slice() else {
        return None;
    };
    let port = match port {
        Value::Int(port) => u16::try_from(*port).ok()?,
        port => text(port)?.parse().ok()?,
    };
    let host = text(host)?.to_owned();
    (!host.is_empty() && port != 0).then_some(Address { host, port })
}

/// Consecutive slots of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotRange {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) owner: Address,
}

/// Which primary has which slots, sorted. A node that does not say its own name is the one
/// that was `asked`.
pub(super) fn slot_ranges(reply: &Value, asked: &Address) -> Option<Vec<SlotRange>> {
    let Value::Array(list) = reply else {
        return None;
    };
    let mut ranges = list
        .iter()
        .map(|range| slot_range(range, asked))
        .collect::<Option<Vec<_>>>()?;
    ranges.sort_unstable_by_key(|range| range.first);
    Some(ranges)
}

/// First slot, last slot, primary, replicas.
fn slot_range(reply: &Value, asked: &Address) -> Option<SlotRange> {
    let Value::Array(parts) = reply else {
        return None;
    };
    let [
        Value::Int(first),
        Value::Int(last),
        Value::Array(primary),
        ..,
    ] = parts.as_slice()
    else {
        return None;
    };
    let [host, Value::Int(port), ..] = primary.as_slice() else {
        return None;
    };
    Some(SlotRange {
        first: u16::try_from(*first).ok()?,
        last: u16::try_from(*last).ok()?,
        owner: Address {
            host: match text(host) {
                None | Some("" | "?") => asked.host.clone(),
                Some(host) => host.to_owned(),
            },
            port: u16::try_from(*port).ok()?,
        },
    })
}

/// To which other node a cluster's node sends a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// For good.
    Moved(Address),
    /// For this once.
    Ask(Address),
}

/// `MOVED 3999 127.0.0.1:6381`, of which the first word is the code.
pub(super) fn redirect(error: &RedisError) -> Option<Redirect> {
    let kind = match error.code()? {
        "MOVED" => Redirect::Moved,
        "ASK" => Redirect::Ask,
        _ => return None,
    };
    let (host, port) = error.detail()?.split_once(' ')?.1.rsplit_once(':')?;
    let address = Address {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.trim().parse().ok()?,
    };
    (!address.host.is_empty()).then(|| kind(address))
}

/// Whether the server takes writes, by its own account.
pub(super) fn is_primary(reply: &Value) -> bool {
    match reply {
        Value::Array(parts) => parts.first().and_then(text) == Some("master"),
        _ => false,
    }
}

pub(super) fn value(reply: Value) -> Result<Option<Bytes>, StoreError> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        _ => Err(StoreError::Protocol),
    }
}

pub(super) fn okay(reply: &Value) -> Result<(), StoreError> {
    match reply {
        Value::Okay => Ok(()),
        _ => Err(StoreError::Protocol),
    }
}

pub(super) fn leased(reply: &Value) -> Result<Leased, StoreError> {
    match reply {
        Value::Okay => Ok(Leased::Granted),
        Value::Nil => Ok(Leased::Held),
        _ => Err(StoreError::Protocol),
    }
}

pub(super) fn count(reply: &Value) -> Result<u64, StoreError> {
    match reply {
        Value::Int(count) => u64::try_from(*count).map_err(|_negative| StoreError::Protocol),
        _ => Err(StoreError::Protocol),
    }
}

pub(super) fn pong(reply: &Value, nonce: u64) -> Result<(), StoreError> {
    match text(reply) {
        Some(text) if text == nonce.to_string() => Ok(()),
        _ => Err(StoreError::Protocol),
    }
}

pub(super) fn position(reply: &Value) -> Result<LogPosition, StoreError> {
    text(reply)
        .and_then(LogPosition::parse)
        .ok_or(StoreError::Protocol)
}

/// A map of one stream to its records, each an identifier and a list of fields and values.
pub(super) fn records(reply: Value) -> Result<Vec<(LogPosition, Bytes)>, StoreError> {
    let streams = match reply {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(streams) => streams,
        _ => return Err(StoreError::Protocol),
    };
    let mut records = Vec::new();
    for (_log, list) in streams {
        let Value::Array(list) = list else {
            return Err(StoreError::Protocol);
        };
        records.reserve(list.len());
        for item in list {
            records.push(record(item)?);
        }
    }
    Ok(records)
}

/// A list of the one record, or of none.
pub(super) fn presence(reply: &Value) -> Result<Presence, StoreError> {
    match reply {
        Value::Array(records) if records.is_empty() => Ok(Presence::Absent),
        Value::Array(_) => Ok(Presence::Present),
        _ => Err(StoreError::Protocol),
    }
}

/// A record without our field was not written by us; it is empty rather than missing, so
/// that the reader's position moves past it.
fn record(item: Value) -> Result<(LogPosition, Bytes), StoreError> {
    let Value::Array(parts) = item else {
        return Err(StoreError::Protocol);
    };
    let Ok([id, fields]) = <[Value; 2]>::try_from(parts) else {
        return Err(StoreError::Protocol);
    };
    let id = position(&id)?;
    let mut fields = match fields {
        Value::Array(fields) => fields.into_iter(),
        _ => return Err(StoreError::Protocol),
    };
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if let (Value::BulkString(name), Value::BulkString(value)) = (name, value)
            && name == FIELD
        {
            return Ok((id, Bytes::from(value)));
        }
    }
    Ok((id, Bytes::new()))
}

pub(super) fn bounds(reply: &Value) -> Result<LogBounds, StoreError> {
    let Value::Map(facts) = reply else {
        return Err(StoreError::Protocol);
    };
    let fact = |wanted: &str| {
        facts
            .iter()
            .find_map(|(name, fact)| (text(name) == Some(wanted)).then_some(fact))
    };
    let entry = |name| match fact(name) {
        Some(Value::Array(parts)) => parts.first().and_then(text).and_then(LogPosition::parse),
        _ => None,
    };
    let number = |name| match fact(name) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    };
    let last_generated = fact("last-generated-id")
        .and_then(text)
        .and_then(LogPosition::parse)
        .ok_or(StoreError::Protocol)?;
    let added = number("entries-added").and_then(|added| u64::try_from(added).ok());
    let Some((first, last)) = entry("first-entry").zip(entry("last-entry")) else {
        return Ok(LogBounds::Empty {
            last_generated,
            added,
        });
    };
    let complete = added.is_some() && number("entries-added") == number("length");
    Ok(LogBounds::Held {
        first,
        last,
        last_generated,
        trimmed: match complete {
            true => Trimmed::Nothing,
            false => Trimmed::Some,
        },
        added,
    })
}

/// What a failed command says about the connection it was sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
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
pub(super) fn classify(error: &RedisError) -> (StoreError, Remedy) {
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
pub(super) fn describe(error: &RedisError) -> String {
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

/// The one field of a record.
const FIELD: &[u8] = b"r";

/// A few hundred kilobytes at most, so that a long log does not come as one reply.
const RECORDS_A_READ: &[u8] = b"1000";

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
        assert_eq!(value(Value::Okay), Err(StoreError::Protocol));
        assert_eq!(okay(&bulk("OK")), Err(StoreError::Protocol));
        assert_eq!(count(&Value::Int(-1)), Err(StoreError::Protocol));
        assert_eq!(pong(&bulk("2"), 1), Err(StoreError::Protocol));
        assert_eq!(position(&bulk("x")), Err(StoreError::Protocol));
        assert_eq!(records(Value::Int(1)), Err(StoreError::Protocol));
        assert_eq!(bounds(&Value::Nil), Err(StoreError::Protocol));
    }

    #[test]
    fn a_foreign_record_is_empty_and_keeps_its_place() {
        let item = |fields| Value::Array(vec![bulk("5-1"), Value::Array(fields)]);
        let read = |item| records(Value::Map(vec![(bulk("log"), Value::Array(vec![item]))]));
        let at = LogPosition::new(5, 1);
        assert_eq!(
            read(item(vec![bulk("r"), bulk("x")])),
            Ok(vec![(at, Bytes::from("x"))])
        );
        assert_eq!(
            read(item(vec![bulk("q"), bulk("x")])),
            Ok(vec![(at, Bytes::new())])
        );
        assert_eq!(read(bulk("5-1")), Err(StoreError::Protocol));
    }

    #[test]
    fn redirections_name_a_node() {
        let redirected = |code: &str, detail: &str| {
            let detail = Some(detail.to_owned());
            redirect(&redis::make_extension_error(code.to_owned(), detail))
        };
        let node = |host: &str| Address {
            host: host.to_owned(),
            port: 6381,
        };
        let moved = redirected("MOVED", "3999 127.0.0.1:6381");
        assert_eq!(moved, Some(Redirect::Moved(node("127.0.0.1"))));
        let asked = redirected("ASK", "3999 ::1:6381");
        assert_eq!(asked, Some(Redirect::Ask(node("::1"))));
        for detail in ["", "3999", "3999 :6381", "3999 h:x", "3999 h"] {
            assert_eq!(redirected("MOVED", detail), None, "{detail}");
        }
        assert_eq!(redirected("ERR", "3999 h:6381"), None);
    }

    #[test]
    fn slots_are_read() {
        let asked = Address {
            host: "asked".to_owned(),
            port: 1,
        };
        let range = |first, last, host: Value, port| {
            let node = Value::Array(vec![host, Value::Int(port), bulk("id")]);
            Value::Array(vec![Value::Int(first), Value::Int(last), node])
        };
        let reply = Value::Array(vec![range(9, 10, bulk("h"), 2), range(0, 8, Value::Nil, 3)]);
        let read = slot_ranges(&reply, &asked).unwrap();
        let owners = read.iter().map(|range| range.owner.to_string());
        assert!(owners.eq(["asked:3", "h:2"]));
        let bad = Value::Array(vec![range(0, 99999, bulk("h"), 2)]);
        assert_eq!(slot_ranges(&bad, &asked), None);
        assert_eq!(slot_ranges(&Value::Okay, &asked), None);
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
