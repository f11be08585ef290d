use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue, LINK};

use super::*;
use crate::base::clock::Timestamp;
use crate::base::position::{LogPosition, Moment};
use crate::semantics::Flags;

const FORMAT: Format = Format {
    prefix: 0,
    longest: 1 << 20,
    #[cfg(feature = "zstd")]
    compress_above: None,
};

fn key(name: &str) -> Key {
    Key::of_value("test", name)
}

fn entry(body: &[u8]) -> Record {
    let mut headers = HeaderMap::new();
    headers.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.append(LINK, HeaderValue::from_static("<a>"));
    headers.append(LINK, HeaderValue::from_bytes(b"<\xff>").unwrap());
    entry_with(&headers, body)
}

fn entry_with(headers: &HeaderMap, body: &[u8]) -> Record {
    let at = Timestamp::from_millis;
    let head = Head {
        key: key("k"),
        status: StatusCode::NOT_FOUND,
        headers: StoredHeaders::new(headers.iter().collect(), Some(body.len() as u64)),
        lifetimes: Lifetimes {
            born: at(1),
            stored: at(2),
            fresh_until: at(3),
            swr_until: at(4),
            sie_until: at(5),
            kept_until: at(u64::MAX),
            flags: Flags::VALIDATOR,
        },
        moment: Moment::stored(LogPosition::new(7, 8)),
        tags: ["one", "two"].iter().collect(),
        verified: Verified::never(),
    };
    Record::Response(Arc::new(Entry {
        head,
        body: Bytes::copy_from_slice(body),
    }))
}

fn marker() -> Record {
    let names = [CONTENT_TYPE, LINK].map(|name| (name, Timestamp::from_millis(9)));
    let names = names.into_iter().collect();
    Record::Marker(Arc::new(Marker::new(key("k"), names, Variants::default())))
}

fn value() -> Record {
    Record::Value(Arc::new(Value {
        key: key("k"),
        stored: Timestamp::from_millis(7),
        fresh_until: Timestamp::from_millis(8),
        expires: Timestamp::from_millis(9),
        moment: Moment::stored(LogPosition::new(7, 8)),
        tags: ["one"].iter().collect(),
        verified: Verified::never(),
        bytes: Bytes::from_static(b"value"),
    }))
}

/// Writes the preamble again, as one would who wants to be believed.
fn sealed(content: &[u8]) -> Bytes {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    out.extend_from_slice(&XxHash3_64::oneshot(content).to_le_bytes());
    out.extend_from_slice(content);
    out.into()
}

#[test]
fn what_is_written_is_read() {
    for record in [entry(b""), entry(b"body"), marker(), value()] {
        let bytes = encode(&record, FORMAT);
        let read = decode(&bytes, &key("k"), FORMAT).unwrap();
        assert_eq!(encode(&read, FORMAT), bytes);
        assert_eq!(format!("{read:?}"), format!("{record:?}"));
    }
}

#[test]
fn what_is_stored_shows_neither_content_nor_fields() {
    let mut headers = HeaderMap::new();
    headers.insert("x-secret", HeaderValue::from_static("in-a-field"));
    let shown = format!("{:?}", entry_with(&headers, b"in-the-content"));
    assert!(!shown.contains("in-"), "{shown}");
    assert!(shown.contains("body: 14 bytes"), "{shown}");
}

#[test]
fn no_flipped_bit_and_no_lost_or_added_end_is_believed() {
    for record in [entry(b"body"), marker(), value()] {
        let bytes = encode(&record, FORMAT);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = decode(&flipped.into(), &key("k"), FORMAT);
            assert!(read.is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            let read = decode(&bytes.slice(..length), &key("k"), FORMAT);
            assert!(read.is_err(), "length {length}");
        }
        let longer = [&bytes, &b"\0"[..]].concat();
        assert!(decode(&longer.into(), &key("k"), FORMAT).is_err());
    }
}

#[test]
fn nothing_that_is_sealed_anew_takes_memory_or_panics() {
    for record in [entry(b"body"), marker(), value()] {
        let bytes = encode(&record, FORMAT);
        let content = &bytes[PREAMBLE..];
        for place in 0..content.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = content.to_vec();
                changed[place] = byte;
                // Another record, perhaps; never more than there are bytes for.
                let _read = decode(&sealed(&changed), &key("k"), FORMAT);
            }
            let _read = decode(&sealed(&content[..place]), &key("k"), FORMAT);
        }
    }
    let boastful = [&[MARKER][..], &[0; 8], &[0], b"\xff\xff\xff\xff\x7f"].concat();
    let read = decode(&sealed(&boastful), &key("k"), FORMAT);
    assert_eq!(read.unwrap_err(), Undecodable::Corrupt);
}

/// There would be no room for those that a cache adds, and a `HeaderMap` panics then.
#[test]
fn more_fields_than_leave_room_are_refused() {
    let name = |number| HeaderName::try_from(format!("x-{number}")).unwrap();
    for (fields, expected) in [(24_000, None), (24_576, Some(Undecodable::Corrupt))] {
        let lines = (0..fields).map(|number| (name(number), HeaderValue::from_static("1")));
        let stored = encode(&entry_with(&lines.collect(), b""), FORMAT);
        assert_eq!(decode(&stored, &key("k"), FORMAT).err(), expected);
    }
}

#[test]
fn refusals_have_their_reasons() {
    let bytes = encode(&entry(b"body"), FORMAT);
    let refused = |bytes: &Bytes| decode(bytes, &key("k"), FORMAT).unwrap_err();
    assert_eq!(refused(&"foreign".into()), Undecodable::Foreign);
    assert_eq!(refused(&Bytes::new()), Undecodable::Foreign);
    let mut newer = bytes.to_vec();
    newer[MAGIC.len()] = VERSION + 1;
    assert_eq!(refused(&newer.into()), Undecodable::Version);
    assert_eq!(refused(&sealed(&[99])), Undecodable::Version);
    assert_eq!(refused(&sealed(&[])), Undecodable::Corrupt);
    let other = decode(&bytes, &key("l"), FORMAT).unwrap_err();
    assert_eq!(other, Undecodable::OtherKey);
    let short = Format {
        longest: 3,
        ..FORMAT
    };
    let read = decode(&bytes, &key("k"), short);
    assert_eq!(read.unwrap_err(), Undecodable::TooLong);
}

#[test]
fn a_value_that_was_copied_under_another_prefix_does_not_decode() {
    let under = |prefix| Format {
        prefix: prefix_hash(prefix),
        ..FORMAT
    };
    for record in [entry(b"body"), marker(), value()] {
        let bytes = encode(&record, under("app"));
        assert!(decode(&bytes, &key("k"), under("app")).is_ok());
        for other in ["", "ap", "apps", "App"] {
            let read = decode(&bytes, &key("k"), under(other));
            assert_eq!(read.unwrap_err(), Undecodable::Corrupt, "{other}");
        }
    }
    // A change here makes every stored response of every user a miss.
    assert_eq!(prefix_hash("app"), 6_875_997_123_822_733_088);
}

#[cfg(feature = "zstd")]
mod compressed {
    use super::*;

    const PACKED: Format = Format {
        compress_above: Some(1000),
        ..FORMAT
    };

    fn body(record: &Record) -> &Bytes {
        match record {
            Record::Response(entry) => &entry.body,
            _ => panic!("no response"),
        }
    }

    #[test]
    fn long_bodies_shrink_and_come_back() {
        let long = b"all work and no play ".repeat(1000);
        let bytes = encode(&entry(&long), PACKED);
        assert!(bytes.len() < long.len() / 10);
        // Whatever the reader's own setting.
        let read = decode(&bytes, &key("k"), FORMAT).unwrap();
        assert_eq!(body(&read), &long);
        let short = encode(&entry(&long[..1000]), PACKED);
        assert!(short.len() > 1000);
    }

    #[test]
    fn what_does_not_shrink_or_is_coded_already_stays() {
        let mut dice = fastrand::Rng::with_seed(1);
        let noise = std::iter::repeat_with(|| dice.u8(..)).take(5000);
        let record = entry(&noise.collect::<Vec<_>>());
        assert_eq!(encode(&record, PACKED), encode(&record, FORMAT));
    }

    #[test]
    fn a_bomb_is_not_set_off() {
        let long = vec![0; 1 << 20];
        let bytes = encode(&entry(&long), PACKED);
        let modest = Format {
            longest: (1 << 20) - 1,
            ..FORMAT
        };
        let read = decode(&bytes, &key("k"), modest);
        assert_eq!(read.unwrap_err(), Undecodable::TooLong);

        // One that says it is short.
        let packed = zstd::bulk::compress(&long, 1).unwrap();
        let honest = bytes.len() - packed.len() - 3;
        let content = [&bytes[PREAMBLE..honest], &[100], &packed].concat();
        let read = decode(&sealed(&content), &key("k"), FORMAT);
        assert_eq!(read.unwrap_err(), Undecodable::Corrupt);
    }
}
