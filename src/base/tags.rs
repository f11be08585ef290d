//! The tags by which stored records are purged.

use bytes::Bytes;

use crate::base::frames::{Framed, Framing};

/// The tags of a record in their stored form, without a copy. Most are never read.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tags(Framed);

impl Tags {
    /// Takes `count` tags off `left`, a part of `whole`. `None` if there are fewer, or not text.
    pub(crate) fn take(whole: &Bytes, left: &mut &[u8], count: usize) -> Option<Self> {
        let tags = Framed::take(whole, left, count)?;
        let is_text = tags.iter().all(|tag| std::str::from_utf8(tag).is_ok());
        is_text.then_some(Self(tags))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map_while(|tag| std::str::from_utf8(tag).ok())
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The stored form, without the number of tags.
    pub(crate) const fn bytes(&self) -> &Bytes {
        self.0.bytes()
    }
}

impl<T: AsRef<str>> FromIterator<T> for Tags {
    fn from_iter<I: IntoIterator<Item = T>>(tags: I) -> Self {
        let mut out = Framing::default();
        tags.into_iter()
            .for_each(|tag| out.push(tag.as_ref().as_bytes()));
        Self(out.finish())
    }
}

/// Shows no tags, since they may be personal.
impl std::fmt::Debug for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tags({})", self.len())
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
