//! What an instance knows of purges, stored for those that start.
//!
//! ```text
//! {prefix}:index                 how many parts there are
//! {prefix}:index:{parts}:{part}  one of them, with a share of the selectors
//! {prefix}:index:lease           held for a while by the instance that stores them
//!
//! checksum of the part's name and of all that follows (xxh3-64) | version 1
//! tail horizon latest hard soft: 16 each | deepest u16
//! how many were purged u32 | each: fingerprint u64, position u64 | the others, purged softly
//! ```
//!
//! Each part says by itself up to where it holds, and a selector is always in the same one. So it
//! does not matter if parts of two instances or two moments come together: they hold up to the
//! earliest of their tails.

use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use tokio::time::Instant;
use twox_hash::XxHash3_64;

use crate::base::position::LogPosition;
use crate::purge::PurgeIndex;
use crate::purge::index::{Compact, Known, Place, Snapshot};
use crate::store::{Leased, SharedStore, StoreError};

/// Where snapshots are stored, and how often.
#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    name: Arc<str>,
    /// How many records make it urgent.
    pub(super) records: usize,
}

impl Snapshots {
    /// `length` is how many records the log keeps.
    pub(super) fn new(prefix: &str, length: usize) -> Self {
        Self {
            name: format!("{prefix}:index").into(),
            records: length / RECORDS_SHARE,
        }
    }

    fn part(&self, parts: usize, part: usize) -> String {
        format!("{}:{parts}:{part}", self.name)
    }

    /// The parts that were stored last, or nothing if any of them is not to be had.
    pub(super) async fn load(&self, store: &dyn SharedStore) -> Result<Vec<Snapshot>, StoreError> {
        let deadline = Instant::now() + LOAD_TIMEOUT;
        let count = store.get(&self.name, deadline).await?;
        let count = count.and_then(|count| std::str::from_utf8(&count).ok()?.parse().ok());
        let Some(parts @ 1..=MOST_PARTS) = count else {
            return Ok(Vec::new());
        };
        let mut loaded = Vec::with_capacity(parts);
        for part in 0..parts {
            let name = self.part(parts, part);
            let bytes = store.get(&name, deadline).await?;
            match bytes.and_then(|bytes| decode(&name, &bytes)) {
                Some(snapshot) => loaded.push(snapshot),
                None => return Ok(Vec::new()),
            }
        }
        Ok(loaded)
    }

    /// Stores what is known, unless another instance has just done so.
    pub(super) async fn save(
        &self,
        store: &dyn SharedStore,
        index: &PurgeIndex,
    ) -> Result<(), StoreError> {
        let soon = || Instant::now() + PART_TIMEOUT;
        let lease = format!("{}:lease", self.name);
        let token = fastrand::u64(..).to_string();
        if store.lease(&lease, &token, INTERVAL, soon()).await? == Leased::Held {
            return Ok(());
        }
        let shares = shares(index.snapshot());
        for (part, share) in shares.iter().enumerate() {
            let name = self.part(shares.len(), part);
            let bytes = encode(&name, share);
            store.set(&name, bytes, LIFETIME, soon()).await?;
        }
        let count = Bytes::from(shares.len().to_string());
        store.set(&self.name, count, LIFETIME, soon()).await
    }
}

/// The parts of a snapshot: a power of two, so that those of another number are few.
fn shares(snapshot: Snapshot) -> Vec<Snapshot> {
    let Snapshot { known, hard, soft } = snapshot;
    let places = hard.len() + soft.len();
    let parts = places.div_ceil(PART_PLACES).next_power_of_two();
    let parts = parts.min(MOST_PARTS);
    let empty = Snapshot {
        known,
        hard: Vec::new(),
        soft: Vec::new(),
    };
    let mut shares = vec![empty; parts];
    for place in hard {
        if let Some(share) = shares.get_mut(part_of(&place, parts)) {
            share.hard.push(place);
        }
    }
    for place in soft {
        if let Some(share) = shares.get_mut(part_of(&place, parts)) {
            share.soft.push(place);
        }
    }
    shares
}

/// By the highest bits of the fingerprint.
const fn part_of(place: &Place, parts: usize) -> usize {
    ((place.fingerprint as u128 * parts as u128) >> 64) as usize
}

fn encode(name: &str, share: &Snapshot) -> Bytes {
    let Snapshot { known, hard, soft } = share;
    let Known {
        tail,
        horizon,
        latest,
        hard: all_hard,
        soft: all_soft,
        deepest,
    } = known;
    let mut out = Vec::with_capacity(HEAD + (hard.len() + soft.len()) * size_of::<Place>());
    out.put_u64_le(0);
    out.put_u8(VERSION);
    for position in [tail, horizon, latest, all_hard, all_soft] {
        out.put_slice(&position.to_bytes());
    }
    out.put_u16_le(*deepest);
    out.put_u32_le(u32::try_from(hard.len()).unwrap_or(u32::MAX));
    for place in hard.iter().chain(soft) {
        out.put_u64_le(place.fingerprint);
        out.put_u64_le(place.position.to_bits());
    }
    if let Some((place, content)) = out.split_first_chunk_mut() {
        *place = checksum(name, content);
    }
    out.into()
}

/// The part of this name, if the bytes are as they were written.
fn decode(name: &str, bytes: &[u8]) -> Option<Snapshot> {
    let (sum, content) = bytes.split_first_chunk()?;
    let (&version, mut rest) = content.split_first()?;
    if *sum != checksum(name, content) || version != VERSION {
        return None;
    }
    let mut position = || {
        let (bytes, after) = rest.split_first_chunk()?;
        rest = after;
        Some(LogPosition::from_bytes(*bytes))
    };
    let known = Known {
        tail: position()?,
        horizon: position()?,
        latest: position()?,
        hard: position()?,
        soft: position()?,
        deepest: 0,
    };
    let (deepest, rest) = rest.split_first_chunk()?;
    let (hard, rest) = rest.split_first_chunk()?;
    let (places, []) = rest.as_chunks::<16>() else {
        return None;
    };
    let mut places: Vec<Place> = places.iter().map(place).collect();
    let hard = u32::from_le_bytes(*hard) as usize;
    let soft = places.split_off(hard.min(places.len()));
    Some(Snapshot {
        known: Known {
            deepest: u16::from_le_bytes(*deepest),
            ..known
        },
        hard: places,
        soft,
    })
}

const fn place(bytes: &[u8; 16]) -> Place {
    let both = u128::from_le_bytes(*bytes);
    Place {
        fingerprint: both as u64,
        position: Compact::from_bits((both >> 64) as u64),
    }
}

fn checksum(name: &str, content: &[u8]) -> [u8; 8] {
    let mut hasher = XxHash3_64::new();
    hasher.write(name.as_bytes());
    hasher.write(content);
    hasher.finish().to_le_bytes()
}

const VERSION: u8 = 1;

/// Of a part, before its places.
const HEAD: usize = 8 + 1 + 5 * 16 + 2 + 4;

/// A part is 128 KiB at most, unless there are as many parts as there may be: a longer value would
/// hold up what else is read on the same connection.
const PART_PLACES: usize = 8192;

/// Enough for what the tables may hold.
const MOST_PARTS: usize = 128;

/// What is known is stored as soon as so small a share of the log is new: it has to be there when
/// what came before it is trimmed.
const RECORDS_SHARE: usize = 8;

/// How often it is stored at most, by whatever instance.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often it is stored if there is little new.
pub(super) const INTERVAL_AT_REST: Duration = Duration::from_secs(60);

/// As long as nobody stores it anew.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An instance that starts trusts nothing stored before it has looked.
const LOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Nobody waits for it.
const PART_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
