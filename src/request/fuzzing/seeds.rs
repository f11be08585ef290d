//! Records of the present stored form, from which the fuzz target of the codec begins.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::tests::{cases, corpus};
use super::*;
use crate::entry::codec::properties::records;

/// What fuzzing has reached of an older form decodes no more. `UPDATE_FIXTURES=1` then writes the
/// corpus anew, and `scripts/fuzz` goes on from there.
#[test]
fn the_corpus_of_the_codec_is_of_the_present_form() {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        write_corpus();
    }
    let mut kinds = BTreeMap::new();
    for record in cases("codec")
        .iter()
        .filter_map(|it| sealed_record(it).ok())
    {
        *kinds.entry(kind(&record)).or_insert(0) += 1;
    }
    let enough = kinds.values().filter(|count| **count >= EACH);
    assert_eq!(enough.count(), 3, "{kinds:?}");
}

fn write_corpus() {
    let mut lines = BTreeSet::new();
    for (place, record) in some_records().iter().enumerate() {
        let bytes = encode(record, FORMAT).slice(PREAMBLE..);
        let at = place * 7 % bytes.len();
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (place % 8);
        lines.extend([&bytes[..], &bytes[..at], &flipped].map(escaped));
    }
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    std::fs::write(corpus("codec"), text).unwrap();
}

/// So many short records of each kind, always the same ones.
fn some_records() -> Vec<Record> {
    let mut runner = TestRunner::deterministic();
    let mut kinds = BTreeMap::new();
    let mut chosen = Vec::new();
    while chosen.len() < 3 * EACH {
        let record = records().new_tree(&mut runner).unwrap().current();
        let count = kinds.entry(kind(&record)).or_insert(0);
        let is_short = encode(&record, FORMAT).len() < LONGEST;
        if is_short && *record.key() == asked() && *count < EACH {
            *count += 1;
            chosen.push(record);
        }
    }
    chosen
}

const fn kind(record: &Record) -> &'static str {
    match record {
        Record::Response(_) => "response",
        Record::Marker(_) => "marker",
        Record::Value(_) => "value",
    }
}

/// As a line of the corpus: `\xHH` for what cannot stand in one, and for the backslash.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut line, byte| {
        match byte {
            b' '..=b'[' | b']'..=b'~' => line.push(char::from(*byte)),
            _ => write!(line, "\\x{byte:02x}").unwrap(),
        }
        line
    })
}

/// How many records of each kind there are at least.
const EACH: usize = 30;

/// Of what a fuzz target is given.
const LONGEST: usize = 400;

/// Magic, version and checksum.
const PREAMBLE: usize = 12;
