//! The records that both tiers hold.

pub(crate) mod codec;
mod headers;
mod marker;

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use crate::base::clock::Timestamp;
use crate::base::position::Moment;
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::tags::Tags;
use crate::key::Key;
use crate::semantics::Lifetimes;

use headers::RESERVED;
pub(crate) use headers::{StoredHeaders, sendable_length};
pub(crate) use marker::{Known, Marker, Names, Variants};

/// A complete stored response.
pub(crate) struct Entry {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

/// Shows no content, since it may be personal.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, body } = self;
        f.debug_struct("Entry")
            .field("head", head)
            .field("body", &format_args!("{} bytes", body.len()))
            .finish()
    }
}

impl Entry {
    /// Whether this entry was stored later than another.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        self.head.lifetimes.stored > other.head.lifetimes.stored
    }

    /// The memory that the entry takes, in bytes.
    fn weight(&self) -> usize {
        let Head {
            key, headers, tags, ..
        } = &self.head;
        counted::<Self>()
            + key.canonical().len()
            + self.body.len()
            + headers.weight()
            + tags.bytes().len()
            + Verified::weight(key, tags)
    }
}

/// A stored response without its body. Decisions need no more, and followers of a fill get it before
/// the body has ended.
pub(crate) struct Head {
    /// The key of this variant.
    pub(crate) key: Key,
    pub(crate) status: StatusCode,
    pub(crate) headers: StoredHeaders,
    pub(crate) lifetimes: Lifetimes,
    /// What the instance knew of purges before it called the handler.
    pub(crate) moment: Moment,
    pub(crate) tags: Tags,
    /// The last verdict of the purge index on this entry.
    pub(crate) verified: Verified,
}

impl Head {
    /// This head with a strong `ETag` of the content's digest; `None` if it has an `ETag`, or is
    /// not that of a 200. Equal content has equal tags in every instance (RFC 9110 8.8.3).
    pub(crate) fn with_etag_of(&self, body: &[u8]) -> Option<Self> {
        if self.status != StatusCode::OK || self.headers.lines().contains(&ETAG) {
            return None;
        }
        let digest = Sha256::digest(body);
        let half = u128::from_be_bytes(*digest.first_chunk()?);
        let mut headers = self.headers.lines().to_map(1);
        headers.insert(
            ETAG,
            HeaderValue::try_from(format!("\"{half:032x}\"")).ok()?,
        );
        Some(self.with_headers(&headers, body.len()))
    }

    /// This head with other fields.
    pub(crate) fn with_headers(&self, headers: &HeaderMap, length: usize) -> Self {
        let length = sendable_length(self.status, Some(length as u64));
        Self {
            headers: StoredHeaders::new(headers.iter().collect(), length),
            ..self.again()
        }
    }

    /// A copy of the head whose validity has to be judged anew.
    pub(crate) fn again(&self) -> Self {
        let Self {
            key,
            status,
            headers,
            lifetimes,
            moment,
            tags,
            verified: _,
        } = self;
        Self {
            key: key.clone(),
            status: *status,
            headers: headers.again(),
            lifetimes: *lifetimes,
            moment: *moment,
            tags: tags.clone(),
            verified: Verified::never(),
        }
    }
}

/// The verdict of the purges on an entry, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Valid,
    /// A soft purge matches the entry, so it is stale.
    Soft,
    Purged,
}

impl Verdict {
    pub(crate) const fn of(is_purged: bool, is_stale: bool) -> Self {
        match (is_purged, is_stale) {
            (true, _) => Self::Purged,
            (false, true) => Self::Soft,
            (false, false) => Self::Valid,
        }
    }
}

/// The last verdict of the purges on an entry, with the version of the index at which it was given,
/// and the entry's fingerprints.
#[derive(Debug)]
pub(crate) struct Verified {
    /// The version, and the verdict in the last two bits.
    noted: AtomicU64,
    fingerprints: OnceLock<Box<[u64]>>,
}

impl Verified {
    pub(crate) const fn never() -> Self {
        Self {
            noted: AtomicU64::new(u64::MAX),
            fingerprints: OnceLock::new(),
        }
    }

    /// What is kept once purges are looked up, at most.
    fn weight(key: &Key, tags: &Tags) -> usize {
        let is_slash = |byte: &&u8| **byte == b'/';
        let subtrees = key.canonical().iter().filter(is_slash).count();
        let fingerprints =
            URL_FINGERPRINTS + tags.len() + (subtrees + 1).min(usize::from(DEEPEST_KEPT) + 1);
        fingerprints * size_of::<u64>()
    }

    /// The verdict, if it was given at this version.
    pub(crate) fn at(&self, version: u64) -> Option<Verdict> {
        let noted = self.noted.load(Ordering::Acquire);
        if noted >> 2 != version & (u64::MAX >> 2) {
            return None;
        }
        match noted & 3 {
            0 => Some(Verdict::Valid),
            1 => Some(Verdict::Soft),
            2 => Some(Verdict::Purged),
            _ => None,
        }
    }

    pub(crate) fn note(&self, version: u64, verdict: Verdict) {
        self.noted
            .store(version << 2 | verdict as u64, Ordering::Release);
    }

    /// The entry's fingerprints, which are hashed when they are first needed.
    pub(crate) fn fingerprints(&self, hash: impl FnOnce() -> Box<[u64]>) -> &[u64] {
        self.fingerprints.get_or_init(hash)
    }
}

/// Shows no header values and tags, since they may be personal.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            status,
            headers,
            lifetimes,
            moment,
            tags,
            verified: _,
        } = self;
        f.debug_struct("Head")
            .field("key", key)
            .field("status", status)
            .field("headers", &headers.lines().len())
            .field("lifetimes", lifetimes)
            .field("moment", moment)
            .field("tags", &tags.len())
            .finish()
    }
}

/// A value of the application's own.
pub(crate) struct Value {
    pub(crate) key: Key,
    pub(crate) stored: Timestamp,
    /// From this time on the value is returned only if no new one can be made.
    pub(crate) fresh_until: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) moment: Moment,
    pub(crate) tags: Tags,
    pub(crate) verified: Verified,
    pub(crate) bytes: Bytes,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, expires, .. } = self;
        f.debug_struct("Value")
            .field("key", key)
            .field("expires", expires)
            .finish_non_exhaustive()
    }
}

/// The record under a key, in either tier.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Response(Arc<Entry>),
    Marker(Arc<Marker>),
    Value(Arc<Value>),
}

impl Record {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Response(entry) => &entry.head.key,
            Self::Marker(marker) => &marker.key,
            Self::Value(value) => &value.key,
        }
    }

    /// The time from which the record is of no use.
    pub(crate) fn kept_until(&self) -> Timestamp {
        match self {
            Self::Response(entry) => entry.head.lifetimes.kept_until,
            Self::Marker(marker) => marker.kept_until,
            Self::Value(value) => value.expires,
        }
    }

    /// The stored response, or the only variant of a marker.
    pub(crate) fn response(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Response(entry) => Some(entry),
            Self::Marker(marker) => marker.only(),
            Self::Value(_) => None,
        }
    }

    pub(crate) fn into_response(self) -> Option<Arc<Entry>> {
        match self {
            Self::Response(entry) => Some(entry),
            Self::Marker(_) | Self::Value(_) => None,
        }
    }

    pub(crate) fn into_value(self) -> Option<Arc<Value>> {
        match self {
            Self::Value(value) => Some(value),
            Self::Response(_) | Self::Marker(_) => None,
        }
    }

    /// The memory that the record takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Marker(marker) => {
                // The marker's key is a part of the variant's.
                let shared = marker.key.canonical().len();
                let only = marker.only().map(|entry| entry.weight());
                self.weight_alone() + only.map_or(0, |only| only.saturating_sub(shared))
            }
            Self::Response(_) | Self::Value(_) => self.weight_alone(),
        }
    }

    /// The weight without a marker's only variant. In the shared store a record takes a little less.
    pub(crate) fn weight_alone(&self) -> usize {
        let own = match self {
            Self::Response(entry) => entry.weight(),
            Self::Marker(marker) => {
                counted::<Marker>()
                    + marker.key.canonical().len()
                    + marker.fields().len() * size_of::<(HeaderName, Timestamp)>()
            }
            Self::Value(value) => {
                counted::<Value>()
                    + value.key.canonical().len()
                    + value.bytes.len()
                    + value.tags.bytes().len()
                    + Verified::weight(&value.key, &value.tags)
            }
        };
        MAP_OVERHEAD + own
    }
}

/// The size of a struct with its reference counts and those of its key.
const fn counted<T>() -> usize {
    size_of::<T>() + 4 * size_of::<usize>()
}

/// Three for the URL, and three more where a rule changes its query.
const URL_FINGERPRINTS: usize = 6;

/// The deepest subtree of a path that is hashed once and kept. Few purges go deeper.
pub(crate) const DEEPEST_KEPT: u16 = 16;

/// The memory of the tier's map for each record. The map grows by doubling.
const MAP_OVERHEAD: usize = 96;
