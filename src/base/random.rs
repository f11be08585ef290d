//! Random numbers and hashers. A test seeds both for its thread with
//! [`testing::seed`](crate::testing::seed).
//!
//! The numbers are those of `fastrand`, which has a generator for each thread. This module makes
//! only the hashers whose layout can be observed: entries of the same shard evict each other. A map
//! that is never iterated, or only to remove old entries, behaves the same with any hasher.

use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, UnitWeighter, Weighter};

/// A map of at most `items` items.
pub(crate) fn bounded_map<K: Eq + Hash, V: Clone>(items: usize) -> Cache<K, V> {
    weighted_map(items, items as u64, UnitWeighter)
}

/// A map of at most this weight, sized for `items` items at first.
pub(crate) fn weighted_map<K, V, W>(items: usize, weight: u64, weighter: W) -> Cache<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    #[cfg(feature = "test-util")]
    if let Some(seed) = seeded::seed() {
        return seeded::weighted_map(seed, items, weight, weighter);
    }
    let (hashers, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
    Cache::with(items, weight, weighter, hashers, lifecycle)
}

#[cfg(feature = "test-util")]
pub(crate) use seeded::set_seed;

#[cfg(feature = "test-util")]
mod seeded {
    use std::cell::Cell;

    use quick_cache::OptionsBuilder;

    use super::*;

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

    /// A map that is the same on every machine. By default the number of shards depends on the
    /// processors.
    pub(super) fn weighted_map<K, V, W>(
        seed: u64,
        items: usize,
        weight: u64,
        weighter: W,
    ) -> Cache<K, V, W>
    where
        K: Eq + Hash,
        V: Clone,
        W: Weighter<K, V> + Clone,
    {
        let hashers = DefaultHashBuilder::with_seeds(seed, 1, 2, 3);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(weight)
            .shards(SHARDS)
            .build();
        let lifecycle = DefaultLifecycle::default();
        match options {
            Ok(options) => Cache::with_options(options, weighter, hashers, lifecycle),
            Err(_nothing_is_missing) => Cache::with(items, weight, weighter, hashers, lifecycle),
        }
    }

    /// The number of shards on a machine with two processors.
    const SHARDS: usize = 8;
}
