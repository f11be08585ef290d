//! The commands about the purge log, and their replies.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::resp::{build, text};
use crate::error::StoreError;
use crate::store::{LogBounds, LogPosition, Presence, Trimmed};

/// Appends at the next position, by the server's clock.
pub(crate) fn log_append(log: &str, max_records: u64, record: &[u8]) -> Cmd {
    append(log, max_records, b"*", record)
}

/// Appends at a position. The server answers `ERR` if the log is there already, or beyond.
pub(crate) fn log_append_at(log: &str, max_records: u64, at: LogPosition, record: &[u8]) -> Cmd {
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

/// Waits for replicas to have what was written on this connection. At least a millisecond, since
/// `WAIT n 0` waits for ever.
pub(crate) fn wait(replicas: u32, time: Duration) -> Cmd {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    build(&[
        b"WAIT",
        replicas.to_string().as_bytes(),
        millis.max(1).to_string().as_bytes(),
    ])
}

/// Reads the record at one position.
pub(crate) fn log_look(log: &str, position: LogPosition) -> Cmd {
    let position = position.to_string();
    build(&[
        b"XRANGE",
        log.as_bytes(),
        position.as_bytes(),
        position.as_bytes(),
    ])
}

/// Removes the records before `oldest`, but only whole nodes of the stream.
pub(crate) fn log_trim(log: &str, oldest: LogPosition) -> Cmd {
    let oldest = oldest.to_string();
    build(&[b"XTRIM", log.as_bytes(), b"MINID", b"~", oldest.as_bytes()])
}

/// Blocks for a millisecond at least, since `BLOCK 0` waits for ever.
pub(crate) fn log_read(log: &str, after: LogPosition, block: Duration) -> Cmd {
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

pub(crate) fn log_bounds(log: &str) -> Cmd {
    build(&[b"XINFO", b"STREAM", log.as_bytes()])
}

pub(crate) fn position(reply: &Value) -> Result<LogPosition, StoreError> {
    text(reply)
        .and_then(LogPosition::parse)
        .ok_or(StoreError::Protocol)
}

/// Reads a map of one stream to its records, each an identifier and a list of fields and values.
pub(crate) fn records(reply: Value) -> Result<Vec<(LogPosition, Bytes)>, StoreError> {
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

/// Reads a list of one record or none.
pub(crate) fn presence(reply: &Value) -> Result<Presence, StoreError> {
    match reply {
        Value::Array(records) if records.is_empty() => Ok(Presence::Absent),
        Value::Array(_) => Ok(Presence::Present),
        _ => Err(StoreError::Protocol),
    }
}

/// Reads a record. One without the field [`FIELD`] was written by another application; it counts
/// as empty, so that the reader's position moves past it.
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

pub(crate) fn bounds(reply: &Value) -> Result<LogBounds, StoreError> {
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
        trimmed: if complete {
            Trimmed::Nothing
        } else {
            Trimmed::Some
        },
        added,
    })
}

/// The only field of a record.
const FIELD: &[u8] = b"r";

/// Limits a reply to a few hundred kilobytes, so that a long log comes in several.
const RECORDS_A_READ: &[u8] = b"1000";

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn replies_of_another_kind_are_a_breach_of_protocol() {
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
}
