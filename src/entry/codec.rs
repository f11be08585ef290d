//! The stored form of a [`Record`] in the shared store.
//!
//! ```text
//! magic "trc" | version 3 | checksum (u64)
//! kind 1 | flags u16 | status u16 | born stored fresh swr sie kept: u64 each | position 16
//! key | tags | headers: each a count or length as LEB128, then the bytes
//! body: the rest, so that it is a slice of what was read
//! ```
//!
//! The checksum is the XXH3 of all that follows and the XXH3 of the prefix, by exclusive or: a value
//! that was copied under the names of another prefix does not decode there. Numbers are
//! little-endian.
//!
//! A compressed response has its body's length as LEB128 before the body, and one zstd frame.
//!
//! Bytes that do not decode to the letter are a miss. So is an unknown version: two versions of the
//! crate never misread each other on one store.

mod input;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, StatusCode};
use twox_hash::XxHash3_64;

use input::Input;

use super::{
    Entry, Head, Marker, Names, Record, StoredHeaders, Value, Variants, Verified, sendable_length,
};
use crate::base::frames::{put_bytes, put_length};
use crate::base::position::Moment;
use crate::base::tags::Tags;
use crate::key::Key;
use crate::semantics::Lifetimes;

/// Why stored bytes are not a record. Each is a miss, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// Not written by this crate.
    Foreign,
    /// Written by another version of it, or by a build with more features.
    Version,
    /// Longer than this instance stores itself.
    TooLong,
    /// Not as it was written, or not under this prefix.
    Corrupt,
    /// Of another key: replies were crossed, or the value was copied.
    OtherKey,
}

/// How values are written, and how long they may be when read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// The hash of what the names in the shared store begin with.
    pub(crate) prefix: u64,
    /// The longest body, decompressed.
    pub(crate) longest: u64,
    #[cfg(feature = "zstd")]
    pub(crate) compress_above: Option<u64>,
}

/// The hash of a prefix, for [`Format`].
pub(crate) fn prefix_hash(prefix: &str) -> u64 {
    XxHash3_64::oneshot(prefix.as_bytes())
}

/// The bytes of a record.
pub(crate) fn encode(record: &Record, format: Format) -> Bytes {
    let mut out = BytesMut::with_capacity(record.weight_alone());
    out.put_slice(MAGIC);
    out.put_u8(VERSION);
    out.put_u64_le(0);
    match record {
        Record::Response(entry) => encode_entry(&mut out, entry, format),
        Record::Marker(marker) => encode_marker(&mut out, marker),
        Record::Value(value) => encode_value(&mut out, value),
    }
    let checksum = checksum(out.get(PREAMBLE..).unwrap_or_default(), format);
    if let Some(place) = out.get_mut(PREAMBLE - 8..PREAMBLE) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    out.freeze()
}

/// The record that `bytes` hold, if they hold one of `key`.
pub(crate) fn decode(bytes: &Bytes, key: &Key, format: Format) -> Result<Record, Undecodable> {
    let mut input = Input::new(bytes);
    if input.take(MAGIC.len()) != Some(MAGIC) {
        return Err(Undecodable::Foreign);
    }
    if input.u8() != Some(VERSION) {
        return Err(Undecodable::Version);
    }
    let written = input.u64().ok_or(Undecodable::Corrupt)?;
    if written != checksum(input.left(), format) {
        return Err(Undecodable::Corrupt);
    }
    let record = decode_record(&mut input, key, format)?;
    if record.key() != key {
        return Err(Undecodable::OtherKey);
    }
    Ok(record)
}

fn checksum(content: &[u8], format: Format) -> u64 {
    XxHash3_64::oneshot(content) ^ format.prefix
}

fn encode_entry(out: &mut BytesMut, entry: &Entry, format: Format) {
    let Entry { head, body } = entry;
    let Head {
        key,
        status,
        headers,
        lifetimes,
        moment,
        tags,
        verified: _,
    } = head;
    let packed = compress(headers, body, format);
    out.put_u8(match packed {
        Some(_) => COMPRESSED,
        None => RESPONSE,
    });
    put_lifetimes(out, *status, lifetimes);
    out.put_slice(&moment.position.to_bytes());
    put_bytes(out, key.canonical());
    put_tags(out, tags);
    put_length(out, headers.lines().len());
    out.put_slice(headers.lines().bytes());
    match packed {
        Some(packed) => {
            put_length(out, body.len());
            out.put_slice(&packed);
        }
        None => out.put_slice(body),
    }
}

/// The body in fewer bytes, if it is wanted and worth it.
#[cfg(feature = "zstd")]
fn compress(headers: &StoredHeaders, body: &Bytes, format: Format) -> Option<Vec<u8>> {
    let wanted = (body.len() as u64) > format.compress_above?
        && !headers.lines().contains(&http::header::CONTENT_ENCODING);
    let packed = wanted.then(|| zstd::bulk::compress(body, LEVEL).ok())??;
    (packed.len() < body.len() - body.len() / 8).then_some(packed)
}

#[cfg(not(feature = "zstd"))]
fn compress(_headers: &StoredHeaders, _body: &Bytes, _format: Format) -> Option<Vec<u8>> {
    None
}

/// The length is checked before memory is taken for it, and nothing longer comes out.
#[cfg(feature = "zstd")]
fn decompress(input: &mut Input<'_>, format: Format) -> Result<Bytes, Undecodable> {
    let length = input.length().ok_or(Undecodable::Corrupt)?;
    if length as u64 > format.longest {
        return Err(Undecodable::TooLong);
    }
    let body = zstd::bulk::decompress(input.left(), length);
    body.ok()
        .filter(|body| body.len() == length)
        .map(Bytes::from)
        .ok_or(Undecodable::Corrupt)
}

#[cfg(not(feature = "zstd"))]
fn decompress(_input: &mut Input<'_>, _format: Format) -> Result<Bytes, Undecodable> {
    Err(Undecodable::Version)
}

fn encode_marker(out: &mut BytesMut, marker: &Marker) {
    let Marker {
        key,
        names,
        kept_until: _,
        variants: _,
    } = marker;
    out.put_u8(MARKER);
    put_bytes(out, key.canonical());
    put_length(out, names.fields().len());
    for (name, end) in names.iter() {
        put_bytes(out, name.as_str().as_bytes());
        out.put_u64_le(end.as_millis());
    }
}

fn encode_value(out: &mut BytesMut, value: &Value) {
    let Value {
        key,
        stored,
        fresh_until,
        expires,
        moment,
        tags,
        verified: _,
        bytes,
    } = value;
    out.put_u8(VALUE);
    for time in [stored, fresh_until, expires] {
        out.put_u64_le(time.as_millis());
    }
    out.put_slice(&moment.position.to_bytes());
    put_bytes(out, key.canonical());
    put_tags(out, tags);
    out.put_slice(bytes);
}

fn decode_record(input: &mut Input<'_>, key: &Key, format: Format) -> Result<Record, Undecodable> {
    let kind = input.u8().ok_or(Undecodable::Corrupt)?;
    let record = match kind {
        RESPONSE | COMPRESSED => return decode_entry(input, kind, key, format),
        MARKER => decode_marker(input, key).map(|marker| Record::Marker(Arc::new(marker))),
        VALUE => decode_value(input, key).map(|value| Record::Value(Arc::new(value))),
        _ => return Err(Undecodable::Version),
    };
    record.ok_or(Undecodable::Corrupt)
}

fn decode_entry(
    input: &mut Input<'_>,
    kind: u8,
    key: &Key,
    format: Format,
) -> Result<Record, Undecodable> {
    let head = decode_head(input, key).ok_or(Undecodable::Corrupt)?;
    let body = match kind {
        COMPRESSED => decompress(input, format)?,
        _ => input.rest(),
    };
    if body.len() as u64 > format.longest {
        return Err(Undecodable::TooLong);
    }
    let head = head(body.len() as u64);
    Ok(Record::Response(Arc::new(Entry { head, body })))
}

/// The head, as a function of the body's length.
fn decode_head(input: &mut Input<'_>, key: &Key) -> Option<impl FnOnce(u64) -> Head + use<>> {
    let (status, lifetimes) = input.lifetimes()?;
    let moment = Moment::stored(input.position()?);
    let key = input.key(key)?;
    let tags = input.tags()?;
    let (lines, fields) = input.headers()?;
    Some(move |length| Head {
        key,
        status,
        headers: StoredHeaders::read(lines, fields, sendable_length(status, Some(length))),
        lifetimes,
        moment,
        tags,
        verified: Verified::never(),
    })
}

fn decode_marker(input: &mut Input<'_>, key: &Key) -> Option<Marker> {
    let key = input.key(key)?;
    let mut names = Vec::new();
    for _ in 0..input.count()? {
        let name = HeaderName::from_bytes(input.bytes()?).ok()?;
        names.push((name, input.time()?));
    }
    let names = Names::read(names).filter(|_| input.left().is_empty())?;
    Some(Marker::new(key, names, Variants::default()))
}

fn decode_value(input: &mut Input<'_>, key: &Key) -> Option<Value> {
    Some(Value {
        stored: input.time()?,
        fresh_until: input.time()?,
        expires: input.time()?,
        moment: Moment::stored(input.position()?),
        key: input.key(key)?,
        tags: input.tags()?,
        verified: Verified::never(),
        bytes: input.rest(),
    })
}

fn put_lifetimes(out: &mut BytesMut, status: StatusCode, lifetimes: &Lifetimes) {
    let Lifetimes {
        born,
        stored,
        fresh_until,
        swr_until,
        sie_until,
        kept_until,
        flags,
    } = *lifetimes;
    out.put_u16_le(flags.bits());
    out.put_u16_le(status.as_u16());
    for time in [born, stored, fresh_until, swr_until, sie_until, kept_until] {
        out.put_u64_le(time.as_millis());
    }
}

fn put_tags(out: &mut BytesMut, tags: &Tags) {
    put_length(out, tags.len());
    out.put_slice(tags.bytes());
}

const MAGIC: &[u8] = b"trc";
pub(crate) const VERSION: u8 = 3;
const PREAMBLE: usize = MAGIC.len() + 1 + 8;

const RESPONSE: u8 = 1;
const MARKER: u8 = 2;
const VALUE: u8 = 3;
const COMPRESSED: u8 = 4;

/// The fastest level that is worth it.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 1;

#[cfg(test)]
mod golden;
#[cfg(test)]
pub(crate) mod properties;
#[cfg(test)]
mod tests;
