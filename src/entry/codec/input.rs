//! Reads stored bytes.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::base::clock::Timestamp;
use crate::base::frames::{take_bytes, take_length};
use crate::base::lines::Lines;
use crate::base::position::LogPosition;
use crate::base::tags::Tags;
use crate::entry::RESERVED;
use crate::key::Key;
use crate::semantics::{Flags, Lifetimes};

/// The bytes that are still to be read. Every length in them is checked against what is left before
/// memory is allocated for it. Values and bodies are slices of the whole, without a copy.
pub(super) struct Input<'a> {
    whole: &'a Bytes,
    left: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(whole: &'a Bytes) -> Self {
        Self { whole, left: whole }
    }

    pub(super) const fn left(&self) -> &'a [u8] {
        self.left
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(length)?;
        self.left = left;
        Some(taken)
    }

    /// Takes all bytes that are left.
    pub(super) fn rest(&mut self) -> Bytes {
        self.whole.slice_ref(std::mem::take(&mut self.left))
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
        take_length(&mut self.left)
    }

    /// Takes a number of items, each of which takes at least a byte.
    pub(super) fn count(&mut self) -> Option<usize> {
        self.length().filter(|count| *count <= self.left.len())
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        take_bytes(&mut self.left)
    }

    /// Takes the key. It shares the memory of `asked` if the two are equal, as they nearly always
    /// are.
    pub(super) fn key(&mut self, asked: &Key) -> Option<Key> {
        let canonical = self.bytes()?;
        Some(if canonical == asked.canonical() {
            asked.clone()
        } else {
            Key::from_canonical(canonical)
        })
    }

    pub(super) fn tags(&mut self) -> Option<Tags> {
        let count = self.count()?;
        Tags::take(self.whole, &mut self.left, count)
    }

    pub(super) fn headers(&mut self) -> Option<(Lines, HeaderMap)> {
        let count = self.count()?;
        Lines::take(self.whole, &mut self.left, count, RESERVED)
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
