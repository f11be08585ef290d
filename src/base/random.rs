//! Random numbers and hashers. A test seeds both for its thread with
//! [`testing::seed`](crate::testing::seed).
//!
//! The numbers are those of `fastrand`, which has a generator for each thread. This module makes
//! only the hashers whose layout can be observed: entries of the same shard evict each other. A map
//! that is never iterated, or only to remove old entries, behaves the same with any hasher.

use std::hash::Hash;

use foldhash::fast::SeedableRandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter, Weighter};

/// The hashers of maps whose layout shows.
pub(crate) type Hashers = SeedableRandomState;

/// A map that evicts by S3-FIFO.
pub(crate) type Map<K, V, W = UnitWeighter> = Cache<K, V, W, Hashers>;

/// How a map is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The number of items that it holds at first guess. As many leave a trace when they are
    /// evicted.
    pub(crate) items: usize,
    /// What all items weigh at most.
    pub(crate) weight: u64,
    /// The parts with a lock of their own, a power of two. Each holds its share of the weight.
    pub(crate) shards: usize,
}

/// A bounded map of at most so many items.
pub(crate) fn bounded_map<K: Eq + Hash, V: Clone>(items: usize) -> Map<K, V> {
    let layout = Layout {
        items,
        weight: items as u64,
        shards: processors().saturating_mul(4),
    };
    weighted_map(layout, UnitWeighter)
}

/// A bounded map of at most this weight.
pub(crate) fn weighted_map<K, V, W>(layout: Layout, weighter: W) -> Map<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let Layout {
        items,
        weight,
        shards,
    } = layout;
    let options = OptionsBuilder::new()
        .estimated_items_capacity(items)
        .weight_capacity(weight)
        .shards(shards)
        .hot_allocation(HOT)
        .ghost_allocation(GHOSTS)
        .build();
    let lifecycle = DefaultLifecycle::default();
    match options {
        Ok(options) => Cache::with_options(options, weighter, hashers(), lifecycle),
        Err(_nothing_is_missing) => Cache::with(items, weight, weighter, hashers(), lifecycle),
    }
}

/// The number of processors; two where a test has seeded this thread, so that the layout of a map
/// is the same on every machine.
pub(crate) fn processors() -> usize {
    #[cfg(feature = "test-util")]
    if seeded::seed().is_some() {
        return 2;
    }
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn hashers() -> Hashers {
    #[cfg(feature = "test-util")]
    if let Some(seed) = seeded::seed() {
        return Hashers::with_seed(seed, foldhash::SharedSeed::global_fixed());
    }
    Hashers::random()
}

/// The part of a map that holds what was asked for again; what is new stands in the rest.
const HOT: f64 = 0.85;

/// How many evicted items leave a trace, for each that is held.
const GHOSTS: f64 = 1.0;

#[cfg(feature = "test-util")]
pub(crate) use seeded::set_seed;

#[cfg(feature = "test-util")]
mod seeded {
    use std::cell::Cell;

    thread_local! {
        static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(super) fn seed() -> Option<u64> {
        SEED.get()
    }

    /// Sets the seed of this thread from now on.
    pub(crate) fn set_seed(seed: u64) {
        SEED.set(Some(seed));
        fastrand::seed(seed);
    }
}
