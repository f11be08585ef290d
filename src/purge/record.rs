//! The records of the log: purges as bytes.
//!
//! ```text
//! version 0x20 | for each selector: kind 1, and 0x80 if soft | depth u16 | digest 16 (big-endian)
//! ```
//!
//! A record of another version, or a selector of an unknown kind, may mean anything. So it counts
//! as a purge of everything. Instances of the version before this one do the same.

use super::selector::{Kind, Selector};

/// One selector of a record, and how it was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) selector: Selector,
    pub(crate) soft: bool,
}

impl Mark {
    /// A hard purge of everything.
    pub(crate) const EVERYTHING: Self = Self {
        selector: Selector::EVERYTHING,
        soft: false,
    };
}

/// The record of all that is purged together.
pub(crate) fn encode(marks: impl IntoIterator<Item = Mark>) -> Vec<u8> {
    let mut record = vec![VERSION];
    for mark in marks {
        let Mark { selector, soft } = mark;
        record.push(selector.kind() as u8 | if soft { SOFT } else { 0 });
        record.extend_from_slice(&selector.depth().to_be_bytes());
        record.extend_from_slice(&selector.digest().to_be_bytes());
    }
    record
}

/// Reads the purges of a record.
pub(crate) fn decode(record: &[u8]) -> Vec<Mark> {
    let selectors = match record.split_first() {
        Some((&VERSION, selectors)) => selectors,
        // A soft purge of the version before, whose selectors had no kind.
        Some((&SOFT_BEFORE, _)) => {
            let everything = Mark::EVERYTHING;
            return vec![Mark {
                soft: true,
                ..everything
            }];
        }
        _ => return vec![Mark::EVERYTHING],
    };
    let (chunks, rest) = selectors.as_chunks::<LENGTH>();
    if chunks.is_empty() || !rest.is_empty() {
        return vec![Mark::EVERYTHING];
    }
    chunks.iter().map(read).collect()
}

fn read(bytes: &[u8; LENGTH]) -> Mark {
    let [first, high, low, digest @ ..] = *bytes;
    let soft = first & SOFT != 0;
    let depth = u16::from_be_bytes([high, low]);
    let selector = match Kind::from_number(first & !SOFT) {
        None | Some(Kind::Everything) => Selector::EVERYTHING,
        Some(kind) => Selector::new(kind, depth, u128::from_be_bytes(digest)),
    };
    Mark { selector, soft }
}

const VERSION: u8 = 0x20;

/// The bit for soft purges in the byte of the kind.
const SOFT: u8 = 0x80;

/// The first byte of soft purges before this version.
const SOFT_BEFORE: u8 = 0x11;

/// The length of one selector, in bytes.
const LENGTH: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::Purge;

    #[test]
    fn records_read_back() {
        let purges = [
            Purge::tag("a").and_tag("b").soft(),
            Purge::path("/a/b"),
            Purge::everything(),
            Purge::uri(&"http://example.org/a?b".parse().unwrap()).unwrap(),
        ];
        let marks: Vec<_> = purges.iter().flat_map(Purge::marks).collect();
        assert_eq!(decode(&encode(marks.clone())), marks);
    }

    #[test]
    fn what_is_not_understood_purges_everything() {
        let unknown_kind = [&[VERSION, 0x7f][..], &[0; 18]].concat();
        let foreign: [&[u8]; 5] = [
            b"",
            &[VERSION],
            b"\x20short",
            b"\x7f0123456789abcdef",
            &unknown_kind,
        ];
        for record in foreign {
            assert_eq!(decode(record), [Mark::EVERYTHING], "{record:?}");
        }
    }

    /// Records of other versions stay in the log while instances are replaced.
    #[test]
    fn golden_records_of_this_version_and_the_one_before_are_read() {
        let before = |mode: u8| [&[mode][..], &[7; 16]].concat();
        assert_eq!(decode(&before(0x10)), [Mark::EVERYTHING]);
        let soft = Mark {
            soft: true,
            ..Mark::EVERYTHING
        };
        assert_eq!(decode(&before(0x11)), [soft]);
        let this = "20010000d97f874c2382f4f16eee148c08054789";
        assert_eq!(hex(&encode(Purge::tag("product:7").marks())), this);
        let soft_path = "20890002e726060694392ba21ff5e199c214989a";
        assert_eq!(hex(&encode(Purge::path("/a/b").soft().marks())), soft_path);
    }

    /// An instance of the version before reads a record with any other first byte as a purge of
    /// everything.
    #[test]
    fn the_version_before_takes_a_record_of_this_one_for_everything() {
        let record = encode(Purge::tag("a").marks());
        assert!(!matches!(record.first(), Some(0x10 | 0x11)));
    }

    #[test]
    fn a_record_of_one_selector_is_twenty_bytes() {
        assert_eq!(encode(Purge::tag("product:7").marks()).len(), 20);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
