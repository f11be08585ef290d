//! Byte strings in one piece of memory, each after its length as LEB128. Stored fields and tags
//! keep the form in which they were read.

use bytes::{BufMut, Bytes};

/// Strings in one piece of memory. There is no `Debug`, since they may be personal.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Framed {
    count: usize,
    bytes: Bytes,
}

impl Framed {
    /// Takes `count` strings off `left`, a part of `whole`, without a copy. `None` if there are
    /// fewer.
    pub(crate) fn take(whole: &Bytes, left: &mut &[u8], count: usize) -> Option<Self> {
        let start = *left;
        for _ in 0..count {
            take_bytes(left)?;
        }
        let taken = start.get(..start.len() - left.len())?;
        Some(Self::of(count, whole.slice_ref(taken)))
    }

    /// `bytes`, which must be `count` strings.
    pub(crate) const fn of(count: usize, bytes: Bytes) -> Self {
        Self { count, bytes }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = &*self.bytes;
        std::iter::from_fn(move || take_bytes(&mut left))
    }

    /// The number of strings.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// The stored form, without the number of strings.
    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Collects strings into one piece of memory.
#[derive(Default)]
pub(crate) struct Framing {
    count: usize,
    bytes: Vec<u8>,
}

impl Framing {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            count: 0,
            bytes: Vec::with_capacity(bytes),
        }
    }

    pub(crate) fn push(&mut self, string: &[u8]) {
        put_bytes(&mut self.bytes, string);
        self.count += 1;
    }

    /// The strings, in no more memory than they need.
    pub(crate) fn finish(self) -> Framed {
        let Self { count, bytes } = self;
        Framed {
            count,
            bytes: Bytes::copy_from_slice(&bytes),
        }
    }
}

pub(crate) fn put_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

/// Writes a length as LEB128: seven bits in each byte, the lowest first.
pub(crate) fn put_length(out: &mut impl BufMut, mut length: usize) {
    while length >= 0x80 {
        out.put_u8(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    out.put_u8(length as u8);
}

/// Takes a string off `left`. `None` if not all of it is there.
pub(crate) fn take_bytes<'a>(left: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_length(left)?;
    let (taken, rest) = left.split_at_checked(length)?;
    *left = rest;
    Some(taken)
}

pub(crate) fn take_length(left: &mut &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = left.split_first()?;
        *left = rest;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(length);
        }
    }
    None
}
