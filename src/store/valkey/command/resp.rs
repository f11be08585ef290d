//! Commands as lists of strings, and strings in replies.

use redis::{Cmd, Value};

pub(super) fn build(parts: &[&[u8]]) -> Cmd {
    let size = parts.iter().map(|part| part.len()).sum();
    let mut command = Cmd::with_capacity(parts.len(), size);
    for part in parts {
        command.arg(*part);
    }
    command
}

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
