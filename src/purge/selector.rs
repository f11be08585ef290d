//! Selectors: what a purge matches, as a kind and 128 bits.

use twox_hash::XxHash3_128;
use twox_hash::xxhash3_128::Hasher;

use crate::base::tags::Tags;
use crate::key::{Key, Target};

/// One thing to purge: a tag, a URL, a path subtree, a value, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Selector {
    kind: Kind,
    /// The number of segments in the path of a subtree. Zero for other kinds.
    depth: u16,
    digest: u128,
}

/// The kinds of selectors. Records in the log have these numbers, so no number is ever used for
/// another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    Everything = 0,
    Tag = 1,
    /// One of the application's own values.
    Value = 2,
    /// A URL with its scheme, as an unsafe request changes it (RFC 9111 4.4).
    Origin = 3,
    /// A URL with any scheme, since a proxy in front may have ended TLS.
    AnyScheme = 4,
    /// A path and query on any host.
    AnyHost = 5,
    /// As `Origin`, with any query.
    OriginPath = 6,
    /// As `AnyScheme`, with any query.
    AnySchemePath = 7,
    /// As `AnyHost`, with any query.
    AnyHostPath = 8,
    /// A path and all below it, on any host.
    Subtree = 9,
}

/// The parts of an entry that selectors match.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) key: &'a Key,
    pub(crate) tags: &'a Tags,
    /// The policy has a query rule, so that other queries may ask for the same entry.
    pub(crate) has_query_rule: bool,
}

impl Selector {
    /// The selector that matches everything.
    pub(crate) const EVERYTHING: Self = Self {
        kind: Kind::Everything,
        depth: 0,
        digest: 0,
    };

    pub(crate) fn tag(tag: &str) -> Self {
        Self::of(Kind::Tag, &[tag.as_bytes()])
    }

    /// One of the application's own values.
    pub(crate) fn value(key: &Key) -> Self {
        Self::of(Kind::Value, &[key.canonical()])
    }

    /// The selectors of one resource on any scheme, and without an authority on any host. If it has
    /// a query, they also match entries of its path whose query a rule has changed.
    pub(crate) fn uri(target: &Target<'_>) -> Vec<Self> {
        let (exact, any_query) = match target.authority {
            Some(_) => (Kind::AnyScheme, Kind::AnySchemePath),
            None => (Kind::AnyHost, Kind::AnyHostPath),
        };
        Self::with_any_query(target, exact, any_query)
    }

    /// The selectors of one resource of one origin, like those of [`Selector::uri`].
    pub(crate) fn target(target: &Target<'_>) -> Vec<Self> {
        Self::with_any_query(target, Kind::Origin, Kind::OriginPath)
    }

    /// A path and all below it, on any host.
    pub(crate) fn subtree(path: &[u8]) -> Self {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let depth = path.iter().filter(|byte| **byte == b'/').count();
        Self {
            kind: Kind::Subtree,
            depth: u16::try_from(depth).unwrap_or(u16::MAX),
            digest: subtree_digest(path),
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        self.kind
    }

    pub(crate) const fn depth(self) -> u16 {
        self.depth
    }

    pub(crate) const fn digest(self) -> u128 {
        self.digest
    }

    pub(super) const fn new(kind: Kind, depth: u16, digest: u128) -> Self {
        Self {
            kind,
            depth,
            digest,
        }
    }

    fn with_any_query(target: &Target<'_>, exact: Kind, any_query: Kind) -> Vec<Self> {
        let mut selectors = vec![Self::url(target, exact)];
        if target.query.is_some() {
            selectors.push(Self::url(target, any_query));
        }
        selectors
    }

    fn url(target: &Target<'_>, kind: Kind) -> Self {
        let authority = target.authority.as_deref();
        let scope: [&[u8]; 3] = match kind {
            Kind::Origin | Kind::OriginPath => {
                let named = if authority.is_some() { b"\x01" } else { b"\0" };
                [named, target.scheme, authority.unwrap_or_default()]
            }
            Kind::AnyScheme | Kind::AnySchemePath => [
                b"",
                b"",
                without_default_port(authority.unwrap_or_default()),
            ],
            _ => [b"", b"", b""],
        };
        let (has_query, query): (&[u8], &[u8]) = match kind {
            Kind::Origin | Kind::AnyScheme | Kind::AnyHost => match target.query {
                Some(query) => (b"\x01", query),
                None => (b"\0", b""),
            },
            _ => (b"", b""),
        };
        let [named, scheme, authority] = scope;
        Self::of(
            kind,
            &[named, scheme, authority, target.path, has_query, query],
        )
    }

    /// Hashes the parts, framed by their lengths, so that no byte moves from one to the next.
    fn of(kind: Kind, parts: &[&[u8]]) -> Self {
        let length: usize = parts.iter().map(|part| part.len() + 8).sum();
        let mut framed = Vec::with_capacity(length + 1);
        framed.push(kind as u8);
        for part in parts {
            framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
            framed.extend_from_slice(part);
        }
        Self {
            kind,
            depth: 0,
            digest: XxHash3_128::oneshot(&framed),
        }
    }
}

impl Kind {
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Everything,
            1 => Self::Tag,
            2 => Self::Value,
            3 => Self::Origin,
            4 => Self::AnyScheme,
            5 => Self::AnyHost,
            6 => Self::OriginPath,
            7 => Self::AnySchemePath,
            8 => Self::AnyHostPath,
            9 => Self::Subtree,
            _ => return None,
        })
    }
}

impl Subject<'_> {
    /// All selectors that match the entry except `Everything`: those of the key, those of the tags,
    /// and then the subtrees from the root down to `deepest`.
    pub(super) fn selectors(&self, deepest: u16) -> Vec<Selector> {
        let mut selectors = Vec::with_capacity(8);
        let target = self.key.target();
        match &target {
            None => selectors.push(Selector::value(self.key)),
            Some(target) => {
                let kinds = [Kind::Origin, Kind::AnyScheme, Kind::AnyHost];
                selectors.extend(kinds.map(|kind| Selector::url(target, kind)));
                if self.has_query_rule {
                    let kinds = [Kind::OriginPath, Kind::AnySchemePath, Kind::AnyHostPath];
                    selectors.extend(kinds.map(|kind| Selector::url(target, kind)));
                }
            }
        }
        selectors.extend(self.tags.iter().map(Selector::tag));
        if let Some(target) = &target {
            selectors.extend(subtrees(target.path).take(usize::from(deepest) + 1));
        }
        selectors
    }
}

/// Every subtree that a path is in, from the root (which is empty) to the path itself, in one pass
/// over its bytes.
fn subtrees(path: &[u8]) -> impl Iterator<Item = Selector> {
    let whole = path.strip_suffix(b"/").unwrap_or(path);
    let slashes = (0..whole.len()).filter(|&at| whole.get(at) == Some(&b'/'));
    let mut hasher = subtree_hasher();
    let mut hashed = 0;
    let ends = slashes
        .chain(std::iter::once(whole.len()))
        .zip(0..=u16::MAX);
    ends.map(move |(end, depth)| {
        hasher.write(whole.get(hashed..end).unwrap_or_default());
        hashed = end;
        Selector::new(Kind::Subtree, depth, hasher.finish_128())
    })
}

fn subtree_digest(path: &[u8]) -> u128 {
    let mut hasher = subtree_hasher();
    hasher.write(path);
    hasher.finish_128()
}

/// The hasher of subtrees. There is only one part, so it needs no length in front. A pass over all
/// prefixes would not know the length.
fn subtree_hasher() -> Hasher {
    let mut hasher = Hasher::new();
    hasher.write(&[Kind::Subtree as u8]);
    hasher
}

/// An authority without the default port of either scheme.
fn without_default_port(authority: &[u8]) -> &[u8] {
    [b":80".as_slice(), b":443"]
        .iter()
        .find_map(|port| authority.strip_suffix(*port))
        .unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;
    use crate::key::{KeyBuilder, KeyRules, Scheme};

    fn matches(purged: &[Selector], uri: &str, has_query_rule: bool) -> bool {
        let uri: Uri = uri.parse().unwrap();
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.uri = uri;
        let key = KeyBuilder::of_request(&parts, &KeyRules::default(), 0).unwrap();
        let key = key.base().to_key();
        let subject = Subject {
            key: &key,
            tags: &Tags::default(),
            has_query_rule,
        };
        let all = subject.selectors(u16::MAX);
        purged.iter().any(|selector| all.contains(selector))
    }

    fn target(uri: &Uri) -> Target<'_> {
        Target::of_uri(uri, Scheme::Http).unwrap()
    }

    #[test]
    fn a_path_is_in_itself_and_in_all_above_it() {
        for (path, above) in [
            ("/", &[""][..]),
            ("/a", &["", "/a"]),
            ("/a/b/", &["", "/a", "/a/b"]),
            ("/a//b", &["", "/a", "/a/", "/a//b"]),
            ("*", &["*"]),
        ] {
            let found: Vec<_> = subtrees(path.as_bytes()).collect();
            let digests = found.iter().map(|selector| selector.digest());
            let expected = above.iter().map(|path| subtree_digest(path.as_bytes()));
            assert!(digests.eq(expected), "{path}");
            let depths = found.iter().map(|selector| usize::from(selector.depth()));
            assert!(depths.eq(0..above.len()), "{path}");
        }
        let purged = Selector::subtree(b"/a/b/");
        assert_eq!(subtrees(b"/a/b/c").nth(2), Some(purged));
    }

    #[test]
    fn no_byte_moves_between_parts() {
        let one = Selector::of(Kind::Tag, &[b"ab", b"c"]);
        let other = Selector::of(Kind::Tag, &[b"a", b"bc"]);
        assert_ne!(one, other);
    }

    #[test]
    fn a_change_concerns_its_origin_and_a_purge_either_scheme() {
        let uri: Uri = "http://example.org/a?b".parse().unwrap();
        let change = Selector::target(&target(&uri));
        let purge = Selector::uri(&target(&uri));
        let any: Uri = "/a?b".parse().unwrap();
        let on_any_host = Selector::uri(&target(&any));
        for (stored, changed, purged, by_path) in [
            ("http://example.org/a?b", true, true, true),
            ("https://example.org/a?b", false, true, true),
            ("https://example.org:443/a?b", false, true, true),
            ("https://example.org:80/a?b", false, true, true),
            ("http://example.org:81/a?b", false, false, true),
            ("http://example.com/a?b", false, false, true),
            ("http://example.org/a?c", false, false, false),
            ("http://example.org/a", false, false, false),
            ("/a?b", false, false, true),
        ] {
            assert_eq!(matches(&change, stored, false), changed, "{stored}");
            assert_eq!(matches(&purge, stored, false), purged, "{stored}");
            assert_eq!(matches(&on_any_host, stored, false), by_path, "{stored}");
        }
    }

    #[test]
    fn where_a_rule_changes_queries_any_query_of_the_path_is_meant() {
        for (purged, expected) in [
            ("http://example.org/a?utm=1", true),
            ("http://example.org/a?b", true),
            ("http://example.org/b?utm=1", false),
            ("http://example.com/a?utm=1", false),
        ] {
            let uri: Uri = purged.parse().unwrap();
            for selectors in [
                Selector::target(&target(&uri)),
                Selector::uri(&target(&uri)),
            ] {
                let stored = "http://example.org/a";
                assert_eq!(matches(&selectors, stored, true), expected, "{purged}");
                assert!(!matches(&selectors, stored, false), "{purged}");
            }
        }
    }
}
