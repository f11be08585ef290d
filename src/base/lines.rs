//! Header fields as they are stored: in one piece of memory, in order, with repeated lines.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::frames::{Framed, Framing, take_bytes};

/// The stored lines of a response.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Lines(Framed);

impl Lines {
    /// Takes `count` lines off `left`, a part of `whole`, and makes a map of them with room for
    /// `room` more. `None` if they are not fields.
    pub(crate) fn take(
        whole: &Bytes,
        left: &mut &[u8],
        count: usize,
        room: usize,
    ) -> Option<(Self, HeaderMap)> {
        let start = *left;
        let mut fields = with_room(count, room);
        for _ in 0..count {
            let (name, value) = (take_bytes(left)?, take_bytes(left)?);
            append(&mut fields, whole, name, value)?;
        }
        let taken = start.get(..start.len() - left.len())?;
        let lines = Framed::of(count.checked_mul(2)?, whole.slice_ref(taken));
        Some((Self(lines), fields))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut strings = self.0.iter();
        std::iter::from_fn(move || Some((strings.next()?, strings.next()?)))
    }

    /// The number of lines.
    pub(crate) const fn len(&self) -> usize {
        self.0.len() / 2
    }

    /// The stored form, without the number of lines.
    pub(crate) const fn bytes(&self) -> &Bytes {
        self.0.bytes()
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.iter()
            .any(|(line, _)| line == name.as_str().as_bytes())
    }

    /// The fields as a map with room for `room` more.
    pub(crate) fn to_map(&self, room: usize) -> HeaderMap {
        let mut fields = with_room(self.len(), room);
        for (name, value) in self.iter() {
            // The lines came from a map, so they are fields. If there are too many, the first are
            // kept.
            let _ = append(&mut fields, self.bytes(), name, value);
        }
        fields
    }
}

fn with_room(lines: usize, more: usize) -> HeaderMap {
    // If there are too many lines for a map, they may share few names, and the map grows as needed.
    HeaderMap::try_with_capacity(lines.saturating_add(more)).unwrap_or_default()
}

/// Appends a field whose value is a slice of `whole`. `None` if it is not a field, or if there are
/// too many.
fn append(fields: &mut HeaderMap, whole: &Bytes, name: &[u8], value: &[u8]) -> Option<()> {
    if fields.keys_len() >= MAX_FIELDS {
        return None;
    }
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_maybe_shared(whole.slice_ref(value)).ok()?;
    fields.try_append(name, value).ok()?;
    Some(())
}

impl<'a> FromIterator<(&'a HeaderName, &'a HeaderValue)> for Lines {
    fn from_iter<I: IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>>(lines: I) -> Self {
        let mut out = Writer::default();
        lines
            .into_iter()
            .for_each(|(name, value)| out.push(name, value));
        out.finish()
    }
}

/// Collects lines into one piece of memory.
pub(crate) struct Writer(Framing);

impl Default for Writer {
    fn default() -> Self {
        Self(Framing::with_capacity(USUAL))
    }
}

impl Writer {
    pub(crate) fn push(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.0.push(name.as_str().as_bytes());
        self.0.push(value.as_bytes());
    }

    pub(crate) fn finish(self) -> Lines {
        Lines(self.0.finish())
    }
}

/// Shows no values, since they may be personal.
impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lines({})", self.len())
    }
}

/// The largest number of fields. A `HeaderMap` panics when it is full, so this leaves room for the
/// fields that the cache adds.
pub(crate) const MAX_FIELDS: usize = 24_000;

/// The initial size of the memory, in bytes. The fields of most responses take less.
const USUAL: usize = 512;
