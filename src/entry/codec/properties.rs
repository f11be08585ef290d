//! The stored form of any record, and what damage makes of it.

use http::HeaderMap;
use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::base::clock::Timestamp;
use crate::base::position::{LogPosition, Moment};
use crate::semantics::Flags;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_record_comes_back_as_it_was(record in records(), format in formats()) {
        let bytes = encode(&record, format);
        let read = decode(&bytes, record.key(), format).unwrap();
        prop_assert_eq!(encode(&read, format), bytes);
        prop_assert_eq!(format!("{read:?}"), format!("{record:?}"));
        prop_assert!(same_content(&read, &record));
    }

    #[test]
    fn no_damaged_record_is_believed(
        record in records(),
        format in formats(),
        damages in prop::collection::vec(damages(), 1..4),
    ) {
        let bytes = encode(&record, format);
        let mut damaged = bytes.to_vec();
        for damage in damages {
            damage.to(&mut damaged);
        }
        let changed = damaged != bytes;
        let read = decode(&damaged.into(), record.key(), format);
        prop_assert_eq!(read.is_err(), changed);
    }

    #[test]
    fn no_record_is_another_key_s(record in records(), other in keys(), format in formats()) {
        let read = decode(&encode(&record, format), &other, format);
        prop_assert_eq!(read.is_ok(), other == *record.key());
    }
}

/// What `Debug` does not show.
fn same_content(one: &Record, other: &Record) -> bool {
    match (one, other) {
        (Record::Response(one), Record::Response(other)) => {
            one.body == other.body
                && one.head.tags == other.head.tags
                && one.head.headers.lines() == other.head.headers.lines()
                && one.head.headers.ready() == other.head.headers.ready()
        }
        (Record::Value(one), Record::Value(other)) => {
            one.bytes == other.bytes && one.tags == other.tags
        }
        (Record::Marker(one), Record::Marker(other)) => one.names == other.names,
        _ => false,
    }
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Repeat(prop::sample::Index),
}

impl Damage {
    fn to(self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        if length == 0 {
            return;
        }
        match self {
            Self::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Insert(at, byte) => bytes.insert(at.index(length), byte),
            Self::Remove(at) => drop(bytes.remove(at.index(length))),
            Self::Repeat(at) => bytes.extend_from_within(at.index(length)..),
        }
    }
}

fn damages() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 1_u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        at().prop_map(Damage::Cut),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
        at().prop_map(Damage::Repeat),
    ]
}

fn formats() -> impl Strategy<Value = Format> {
    prop::option::of(Just(64)).prop_map(|_compress_above| Format {
        prefix: 0,
        longest: 1 << 20,
        #[cfg(feature = "zstd")]
        compress_above: _compress_above,
    })
}

pub(crate) fn records() -> impl Strategy<Value = Record> {
    prop_oneof![
        entries().prop_map(|entry| Record::Response(Arc::new(entry))),
        markers().prop_map(|marker| Record::Marker(Arc::new(marker))),
        values().prop_map(|value| Record::Value(Arc::new(value))),
    ]
}

fn entries() -> impl Strategy<Value = Entry> {
    let status = (100_u16..1000).prop_map(|status| StatusCode::from_u16(status).unwrap());
    let lines = prop::collection::vec((names(), any::<Vec<u8>>()), 0..6);
    let body = prop_oneof![
        any::<Vec<u8>>(),
        (any::<u8>(), 0..300_usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    (
        keys(),
        status,
        lines,
        lifetimes(),
        positions(),
        tags(),
        body,
    )
        .prop_map(|(key, status, lines, lifetimes, position, tags, body)| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.append(name, value);
                }
            }
            let length = sendable_length(status, Some(body.len() as u64));
            let head = Head {
                key,
                status,
                headers: StoredHeaders::new(headers.iter().collect(), length),
                lifetimes,
                moment: Moment::stored(position),
                tags,
                verified: Verified::never(),
            };
            Entry {
                head,
                body: body.into(),
            }
        })
}

fn markers() -> impl Strategy<Value = Marker> {
    let names = prop::collection::btree_map(names().prop_map(|it| it.to_string()), times(), 0..4);
    (keys(), names).prop_map(|(key, names)| {
        let names = names.into_iter();
        let names = names.map(|(name, end)| (name.parse().unwrap(), end));
        Marker::new(key, names.collect(), Variants::default())
    })
}

fn values() -> impl Strategy<Value = Value> {
    let times = [times(), times(), times()];
    (keys(), times, positions(), tags(), any::<Vec<u8>>()).prop_map(
        |(key, [stored, fresh_until, expires], position, tags, bytes)| Value {
            key,
            stored,
            fresh_until,
            expires,
            moment: Moment::stored(position),
            tags,
            verified: Verified::never(),
            bytes: bytes.into(),
        },
    )
}

fn lifetimes() -> impl Strategy<Value = Lifetimes> {
    let six = [times(), times(), times(), times(), times(), times()];
    (six, any::<u16>()).prop_map(|(six, flags)| {
        let [born, stored, fresh_until, swr_until, sie_until, kept_until] = six;
        Lifetimes {
            born,
            stored,
            fresh_until,
            swr_until,
            sie_until,
            kept_until,
            flags: Flags::from_bits(flags),
        }
    })
}

fn keys() -> impl Strategy<Value = Key> {
    let spaces = prop::sample::select(vec!["properties", "fuzzing"]);
    let names = prop::sample::select(vec!["", "key"]);
    (spaces, names).prop_map(|(space, name)| Key::of_value(space, name))
}

fn names() -> impl Strategy<Value = HeaderName> {
    let names = [
        "etag",
        "link",
        "content-length",
        "content-encoding",
        "age",
        "cache-status",
        "x",
    ];
    prop::sample::select(names.map(HeaderName::from_static).to_vec())
}

fn tags() -> impl Strategy<Value = Tags> {
    prop::collection::vec(any::<String>(), 0..4).prop_map(|tags| tags.iter().collect())
}

fn times() -> impl Strategy<Value = Timestamp> + Clone {
    any::<u64>().prop_map(Timestamp::from_millis)
}

fn positions() -> impl Strategy<Value = LogPosition> {
    (any::<u64>(), any::<u64>()).prop_map(|(ms, seq)| LogPosition::new(ms, seq))
}
