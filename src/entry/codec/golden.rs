//! The stored form against fixtures, and against everything that it is not.

use std::fs;
use std::path::PathBuf;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, LINK, VARY};

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::base::clock::Timestamp;
use crate::base::position::{LogPosition, Moment};
use crate::key::Key;
use crate::semantics::{Flags, Lifetimes};

const FORMAT: Format = Format {
    prefix: 0,
    longest: 1 << 20,
    #[cfg(feature = "zstd")]
    compress_above: None,
};

/// The records of the fixtures. What they hold must stay as it is.
fn samples() -> [(&'static str, Record); 3] {
    [
        ("response", Record::Response(Arc::new(entry()))),
        ("marker", Record::Marker(Arc::new(marker()))),
        ("value", Record::Value(Arc::new(value()))),
    ]
}

fn entry() -> Entry {
    let mut headers = HeaderMap::new();
    headers.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.append(LINK, HeaderValue::from_static("</a>; rel=\"next\""));
    headers.append(VARY, HeaderValue::from_static("accept-language"));
    headers.append(LINK, HeaderValue::from_static("</b>; rel=\"prev\""));
    headers.append(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    headers.append("x-bytes", HeaderValue::from_bytes(b"\xfc\xff\t").unwrap());
    let second = |number: u64| Timestamp::from_secs(1_790_000_000 + number);
    let head = Head {
        key: response_key(),
        status: StatusCode::OK,
        headers: StoredHeaders::new(headers.iter().collect(), Some(12)),
        lifetimes: Lifetimes {
            born: second(0),
            stored: second(2),
            fresh_until: second(60),
            swr_until: second(90),
            sie_until: second(3600),
            kept_until: second(3600),
            flags: Flags::VALIDATOR.with(Flags::MUST_REVALIDATE),
        },
        moment: Moment::stored(LogPosition::new(1_790_000_000_001, 2)),
        tags: ["product:7", "Überschrift"].iter().collect(),
        verified: Verified::never(),
    };
    Entry {
        head,
        body: Bytes::from_static(b"Guten Tag!\n\0"),
    }
}

fn marker() -> Marker {
    let names = [
        ("accept-language", 1_790_003_600),
        ("origin", 1_790_000_060),
    ];
    let names = names.map(|(name, end)| (HeaderName::from_static(name), Timestamp::from_secs(end)));
    let key = Key::from_canonical(b"a base key");
    Marker::new(key, names.into_iter().collect(), Variants::default())
}

fn value() -> Value {
    Value {
        key: Key::of_value("", "rates"),
        stored: Timestamp::from_secs(1_790_000_000),
        fresh_until: Timestamp::from_secs(1_790_000_050),
        expires: Timestamp::from_secs(1_790_000_060),
        moment: Moment::stored(LogPosition::new(1_790_000_000_001, 2)),
        tags: ["money"].iter().collect(),
        verified: Verified::never(),
        bytes: Bytes::from_static(b"{\"eur\":1}"),
    }
}

fn response_key() -> Key {
    Key::from_canonical(b"a key of a response")
}

/// All that is stored of a record, to compare.
fn facts(record: &Record) -> String {
    match record {
        Record::Response(entry) => {
            let Head {
                key,
                status,
                headers,
                lifetimes,
                moment,
                tags,
                verified: _,
            } = &entry.head;
            let lines = headers.lines().to_map(0);
            let lines = lines.iter().collect::<Vec<_>>();
            let tags = tags.iter().collect::<Vec<_>>();
            let body = &entry.body;
            let position = moment.position;
            format!("{key:?} {status} {lines:?} {lifetimes:?} {position} {tags:?} {body:?}")
        }
        Record::Marker(marker) => {
            format!(
                "{:?} {:?} {:?}",
                marker.key, marker.names, marker.kept_until
            )
        }
        Record::Value(value) => {
            let Value {
                key,
                stored,
                fresh_until,
                expires,
                moment,
                tags,
                verified: _,
                bytes,
            } = &**value;
            let tags = tags.iter().collect::<Vec<_>>();
            let position = moment.position;
            format!("{key:?} {stored:?} {fresh_until:?} {expires:?} {position} {tags:?} {bytes:?}")
        }
    }
}

fn fixture(name: &str) -> PathBuf {
    let place = format!("src/entry/fixtures/{name}.v{VERSION}.bin");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(place)
}

/// The stored form is a promise to what other versions have stored. If this fails, raise
/// `VERSION`, and write the new fixtures with `UPDATE_FIXTURES=1`.
#[test]
fn the_stored_form_is_that_of_the_fixtures() {
    for (name, record) in samples() {
        let path = fixture(name);
        let encoded = encode(&record, FORMAT);
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(&path, &encoded).unwrap();
        }
        let golden = Bytes::from(fs::read(&path).unwrap());
        assert_eq!(encoded, golden, "{name}");
        let decoded = decode(&golden, record.key(), FORMAT).unwrap();
        assert_eq!(facts(&decoded), facts(&record), "{name}");
    }
}

#[test]
fn repeated_lines_and_their_order_are_kept() {
    let record = Record::Response(Arc::new(entry()));
    let Ok(Record::Response(decoded)) = decode(&encode(&record, FORMAT), record.key(), FORMAT)
    else {
        panic!("not a response");
    };
    let links = decoded.head.headers.ready().get_all(LINK).iter();
    assert!(links.eq(["</a>; rel=\"next\"", "</b>; rel=\"prev\""]));
}

#[test]
fn a_body_is_a_slice_of_what_was_read() {
    let record = Record::Response(Arc::new(entry()));
    let read = encode(&record, FORMAT);
    let Ok(Record::Response(decoded)) = decode(&read, record.key(), FORMAT) else {
        panic!("not a response");
    };
    let range = read.as_ptr_range();
    assert!(range.contains(&decoded.body.as_ptr()));
}

#[test]
fn no_truncation_is_decodable() {
    for (name, record) in samples() {
        let whole = encode(&record, FORMAT);
        for length in 0..whole.len() {
            let cut = whole.slice(..length);
            assert!(
                decode(&cut, record.key(), FORMAT).is_err(),
                "{name}, {length} bytes"
            );
        }
    }
}

#[test]
fn no_flipped_bit_is_decodable() {
    for (name, record) in samples() {
        let whole = encode(&record, FORMAT);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = decode(&bytes.into(), record.key(), FORMAT);
            assert!(flipped.is_err(), "{name}, bit {bit}");
        }
    }
}

#[test]
fn nothing_may_follow() {
    for (name, record) in samples() {
        let mut bytes = encode(&record, FORMAT).to_vec();
        bytes.push(0);
        assert!(
            decode(&bytes.into(), record.key(), FORMAT).is_err(),
            "{name}"
        );
    }
}

/// Past the checksum, as of an author who means harm: an error or a record, never a panic.
#[test]
fn garbage_with_a_good_checksum_does_no_harm() {
    for (name, record) in samples() {
        let whole = encode(&record, FORMAT);
        for at in PREAMBLE..whole.len() {
            for byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] = byte;
                let sum = XxHash3_64::oneshot(&bytes[PREAMBLE..]);
                bytes[PREAMBLE - 8..PREAMBLE].copy_from_slice(&sum.to_le_bytes());
                let decoded = decode(&bytes.into(), record.key(), FORMAT);
                if let Ok(decoded) = decoded {
                    assert_eq!(decoded.key(), record.key(), "{name}, byte {at}");
                }
            }
        }
    }
}

#[test]
fn why_bytes_are_no_record_is_told_apart() {
    let record = Record::Response(Arc::new(entry()));
    let good = encode(&record, FORMAT);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Bytes::from(bytes)
    };
    let last = good.len() - 1;
    let table = [
        ("empty", Bytes::new(), Undecodable::Foreign),
        (
            "another's",
            Bytes::from_static(b"hello"),
            Undecodable::Foreign,
        ),
        (
            "JSON",
            Bytes::from_static(b"{\"a\":1}"),
            Undecodable::Foreign,
        ),
        (
            "an older version",
            with(3, VERSION - 1),
            Undecodable::Version,
        ),
        (
            "a newer version",
            with(3, VERSION + 1),
            Undecodable::Version,
        ),
        (
            "the preamble only",
            good.slice(..PREAMBLE - 1),
            Undecodable::Corrupt,
        ),
        ("half", good.slice(..last / 2), Undecodable::Corrupt),
        ("another last byte", with(last, b'!'), Undecodable::Corrupt),
    ];
    for (name, bytes, expected) in table {
        assert_eq!(
            decode(&bytes, record.key(), FORMAT).unwrap_err(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_record_of_another_key_is_told_as_such() {
    let other = Key::from_canonical(b"another key");
    for (name, record) in samples() {
        let read = decode(&encode(&record, FORMAT), &other, FORMAT);
        assert_eq!(read.unwrap_err(), Undecodable::OtherKey, "{name}");
    }
}
