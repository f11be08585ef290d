//! What a purge matches, as 128 bits.

use twox_hash::XxHash3_128;

use crate::key::{Key, Target};

/// The digest of one thing to purge: a tag, a URL, a path subtree, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Selector(u128);

impl Selector {
    /// Matches all there is.
    pub(crate) const EVERYTHING: Self = Self(0);

    pub(crate) fn tag(tag: &str) -> Self {
        Self::digest(b't', &[tag.as_bytes()])
    }

    /// One resource; without an authority, on any host and scheme.
    pub(crate) fn uri(target: &Target<'_>) -> Self {
        let query = target.query.unwrap_or_default();
        let has_query = [u8::from(target.query.is_some())];
        match &target.authority {
            Some(authority) => Self::digest(
                b'u',
                &[target.scheme, authority, target.path, &has_query, query],
            ),
            None => Self::digest(b'p', &[target.path, &has_query, query]),
        }
    }

    /// One resource, as requests ask for it that name no host.
    pub(crate) fn hostless(target: &Target<'_>) -> Self {
        let query = target.query.unwrap_or_default();
        let has_query = [u8::from(target.query.is_some())];
        Self::digest(b'n', &[target.path, &has_query, query])
    }

    /// One of the application's own values.
    pub(crate) fn value(key: &Key) -> Self {
        Self::digest(b'v', &[key.canonical()])
    }

    /// A path and all below it, on one host or on any.
    pub(crate) fn subtree(authority: Option<&[u8]>, path: &[u8]) -> Self {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        match authority {
            Some(authority) => Self::digest(b'S', &[authority, path]),
            None => Self::digest(b's', &[path]),
        }
    }

    /// All selectors that match the resource of a key (tags aside).
    pub(crate) fn matching(key: &Key) -> Vec<Self> {
        let Some(target) = key.target() else {
            return vec![Self::value(key)];
        };
        let any_host = Target {
            authority: None,
            ..target.clone()
        };
        let mut selectors = vec![Self::uri(&target), Self::uri(&any_host)];
        if target.authority.is_none() {
            selectors.push(Self::hostless(&target));
        }
        for path in subtrees(target.path) {
            selectors.push(Self::subtree(None, path));
            if let Some(authority) = &target.authority {
                selectors.push(Self::subtree(Some(authority), path));
            }
        }
        selectors
    }

    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    fn digest(kind: u8, parts: &[&[u8]]) -> Self {
        let mut framed = Vec::with_capacity(64);
        framed.push(kind);
        for part in parts {
            framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
            framed.extend_from_slice(part);
        }
        Self(XxHash3_128::oneshot(&framed))
    }
}

/// The path and every path above it, up to the root (which is empty).
fn subtrees(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = path.strip_suffix(b"/").unwrap_or(path);
    let above = (0..whole.len())
        .filter(|&at| whole.get(at) == Some(&b'/'))
        .filter_map(|at| whole.get(..at));
    above.chain(std::iter::once(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_itself_and_all_above_it() {
        let all = |path: &'static str| {
            subtrees(path.as_bytes())
                .map(|path| String::from_utf8_lossy(path).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("/"), [""]);
        assert_eq!(all("/a"), ["", "/a"]);
        assert_eq!(all("/a/b/"), ["", "/a", "/a/b"]);
    }

    #[test]
    fn no_byte_moves_between_parts() {
        let one = Selector::digest(b'u', &[b"ab", b"c"]);
        let other = Selector::digest(b'u', &[b"a", b"bc"]);
        assert_ne!(one, other);
    }
}
