//! Stored bytes as they are read.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::clock::Timestamp;
use crate::entry::Tags;
use crate::key::Key;
use crate::policy::{Flags, Lifetimes};
use crate::position::LogPosition;

/// What is still to be read. Every read is checked against what is there, so that no length in
/// the input is believed before memory is taken for it.
///
/// Values and bodies are slices of the whole; what is short-lived or converted is only looked at.
pub(in crate::entry) struct Input<'a> {
    whole: &'a Bytes,
    left: &'a [u8],
}

impl<'a> Input<'a> {
    pub(in crate::entry) fn new(whole: &'a Bytes) -> Self {
        Self { whole, left: whole }
    }

    pub(in crate::entry) const fn left(&self) -> &'a [u8] {
        self.left
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(length)?;
        self.left = left;
        Some(taken)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> Bytes {
        self.whole.slice_ref(std::mem::take(&mut self.left))
    }

    /// A part of what is read, without a copy.
    pub(in crate::entry) fn slice(&self, part: &[u8]) -> Bytes {
        self.whole.slice_ref(part)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, left) = self.left.split_first_chunk::<N>()?;
        self.left = left;
        Some(*array)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn time(&mut self) -> Option<Timestamp> {
        self.u64().map(Timestamp::from_millis)
    }

    pub(super) fn position(&mut self) -> Option<LogPosition> {
        self.array().map(LogPosition::from_bytes)
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        let mut length = 0_usize;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(length);
            }
        }
        None
    }

    /// A number of things that take at least a byte each.
    pub(super) fn count(&mut self) -> Option<usize> {
        self.length().filter(|count| *count <= self.left.len())
    }

    pub(in crate::entry) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// The key, which most often is the one that was asked for.
    pub(super) fn key(&mut self, asked: &Key) -> Option<Key> {
        let canonical = self.bytes()?;
        Some(match canonical == asked.canonical() {
            true => asked.clone(),
            false => Key::from_canonical(canonical),
        })
    }

    pub(super) fn tags(&mut self) -> Option<Tags> {
        let count = self.count()?;
        Tags::read(self, count)
    }

    pub(super) fn headers(&mut self) -> Option<HeaderMap> {
        let count = self.count()?;
        let mut headers = HeaderMap::try_with_capacity(count.saturating_add(3)).ok()?;
        for _ in 0..count {
            let name = HeaderName::from_bytes(self.bytes()?).ok()?;
            let value = self.bytes()?;
            let value = self.slice(value);
            let value = HeaderValue::from_maybe_shared(value).ok()?;
            headers.try_append(name, value).ok()?;
        }
        Some(headers)
    }

    pub(super) fn lifetimes(&mut self) -> Option<(StatusCode, Lifetimes)> {
        let flags = Flags::from_bits(self.u16()?);
        let status = StatusCode::from_u16(self.u16()?).ok()?;
        let lifetimes = Lifetimes {
            born: self.time()?,
            stored: self.time()?,
            fresh_until: self.time()?,
            swr_until: self.time()?,
            sie_until: self.time()?,
            kept_until: self.time()?,
            flags,
        };
        Some((status, lifetimes))
    }
}
