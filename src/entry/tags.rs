//! The tags of a stored response or value.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::codec::{Input, put_bytes};

/// What something stored can be purged by, one after the other as they are stored: taken from
/// there without a copy, and as often as not never looked at.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    count: usize,
    framed: Bytes,
}

impl Tags {
    /// The next `count` tags of what is read, if they are there and are text.
    pub(super) fn read(input: &mut Input<'_>, count: usize) -> Option<Self> {
        let framed = input.left();
        for _ in 0..count {
            std::str::from_utf8(input.bytes()?).ok()?;
        }
        let length = framed.len() - input.left().len();
        let framed = input.slice(framed.get(..length)?);
        Some(Self { count, framed })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut input = Input::new(&self.framed);
        std::iter::from_fn(move || std::str::from_utf8(input.bytes()?).ok())
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// As they are stored, without their number.
    pub(super) fn framed(&self) -> &[u8] {
        &self.framed
    }

    /// What they take in memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.framed.len()
    }
}

impl<T: AsRef<str>> FromIterator<T> for Tags {
    fn from_iter<I: IntoIterator<Item = T>>(tags: I) -> Self {
        let mut framed = BytesMut::new();
        let mut count = 0;
        for tag in tags {
            put_bytes(&mut framed, tag.as_ref().as_bytes());
            count += 1;
        }
        Self {
            count,
            framed: Bytes::copy_from_slice(&framed),
        }
    }
}

/// Tags may be personal: they are not shown.
impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tags({})", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_those_they_were_made_of() {
        let long = "t".repeat(256);
        for tags in [
            &[][..],
            &["one"],
            &["one", "zwei", ""],
            &[long.as_str(), "x"],
        ] {
            let made: Tags = tags.iter().collect();
            assert_eq!(made.iter().collect::<Vec<_>>(), tags);
            assert_eq!(made.len(), tags.len());
        }
    }
}
