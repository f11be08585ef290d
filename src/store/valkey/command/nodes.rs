//! The commands that find the right server, and the redirections to it.

use redis::{Cmd, RedisError, Value};

use super::resp::{build, text};
use crate::store::valkey::url::Address;

/// Asks a Sentinel where the primary is.
pub(crate) fn primary(name: &str) -> Cmd {
    build(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()])
}

pub(crate) fn role() -> Cmd {
    build(&[b"ROLE"])
}

/// Asks a node of a cluster which node has which slots.
pub(crate) fn slots() -> Cmd {
    build(&[b"CLUSTER", b"SLOTS"])
}

pub(crate) fn asking() -> Cmd {
    build(&[b"ASKING"])
}

/// Reads the host and port that a Sentinel answers with.
pub(crate) fn address(reply: &Value) -> Option<Address> {
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
pub(crate) struct SlotRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) owner: Address,
}

/// Reads which primary has which slots, and sorts them. A node without a name is the one that was
/// `asked`.
pub(crate) fn slot_ranges(reply: &Value, asked: &Address) -> Option<Vec<SlotRange>> {
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

/// Reads a list of the first slot, the last slot, the primary, and replicas.
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

/// The other node to which a node of a cluster redirects a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot has moved: the node is asked from now on.
    Moved(Address),
    /// The slot is moving: the node is asked this once.
    Ask(Address),
}

impl Redirect {
    /// Fills in an empty host: it means the host of the node that has answered.
    pub(crate) fn seen_from(self, host: &str) -> Self {
        let named = |mut address: Address| {
            if address.host.is_empty() {
                host.clone_into(&mut address.host);
            }
            address
        };
        match self {
            Self::Moved(address) => Self::Moved(named(address)),
            Self::Ask(address) => Self::Ask(named(address)),
        }
    }
}

/// Reads `MOVED 3999 127.0.0.1:6381`, of which the first word is the code. The host may be empty.
pub(crate) fn redirect(error: &RedisError) -> Option<Redirect> {
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
    Some(kind(address))
}

/// Whether a server says that it is a primary.
pub(crate) fn is_primary(reply: &Value) -> bool {
    match reply {
        Value::Array(parts) => parts.first().and_then(text) == Some("master"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
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
        let unnamed = redirected("MOVED", "3999 :6381").map(|redirect| redirect.seen_from("here"));
        assert_eq!(unnamed, Some(Redirect::Moved(node("here"))));
        for detail in ["", "3999", "3999 h:x", "3999 h"] {
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
}
