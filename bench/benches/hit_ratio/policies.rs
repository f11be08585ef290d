//! What other policies make of the same requests: the number of hits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// quick_cache as it is by default, in one piece.
pub fn quick(wanted: &[(u64, u64)], capacity: u64) -> usize {
    let options = quick_cache::OptionsBuilder::new()
        .shards(1)
        .estimated_items_capacity((capacity / 2048) as usize)
        .weight_capacity(capacity)
        .build()
        .expect("options");
    let map = quick_cache::sync::Cache::<u64, u64, Itself>::with_options(
        options,
        Itself,
        quick_cache::DefaultHashBuilder::default(),
        quick_cache::sync::DefaultLifecycle::default(),
    );
    hits(wanted, |key, weight| {
        let is_hit = map.get(&key).is_some();
        if !is_hit {
            map.insert(key, weight);
        }
        is_hit
    })
}

#[derive(Clone)]
struct Itself;

impl quick_cache::Weighter<u64, u64> for Itself {
    fn weight(&self, _key: &u64, weight: &u64) -> u64 {
        *weight
    }
}

pub fn moka(wanted: &[(u64, u64)], capacity: u64) -> usize {
    let map = moka::sync::Cache::<u64, u64>::builder()
        .max_capacity(capacity)
        .weigher(|_, weight| u32::try_from(*weight).unwrap_or(u32::MAX))
        .build();
    let mut count = 0;
    hits(wanted, |key, weight| {
        count += 1;
        // Otherwise it does its work in a thread's spare time, of which there is none here.
        if count % 64 == 0 {
            map.run_pending_tasks();
        }
        let is_hit = map.get(&key).is_some();
        if !is_hit {
            map.insert(key, weight);
        }
        is_hit
    })
}

pub fn lru(wanted: &[(u64, u64)], capacity: u64) -> usize {
    let mut held: HashMap<u64, (usize, u64)> = HashMap::new();
    let mut by_use: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut weighs, mut now) = (0, 0);
    hits(wanted, |key, weight| {
        now += 1;
        if let Some((last, _)) = held.get_mut(&key) {
            by_use.remove(last);
            *last = now;
            by_use.insert(now, key);
            return true;
        }
        held.insert(key, (now, weight));
        by_use.insert(now, key);
        weighs += weight;
        while weighs > capacity
            && let Some((_, oldest)) = by_use.pop_first()
        {
            weighs -= held.remove(&oldest).map_or(0, |(_, weight)| weight);
        }
        false
    })
}

/// Belady's: what is asked for last goes first, the newcomer itself perhaps. Where lengths differ,
/// that is no optimum, but near.
pub fn optimum(wanted: &[(u64, u64)], capacity: u64) -> usize {
    let next = next_uses(wanted);
    let mut held: HashMap<u64, (usize, u64)> = HashMap::new();
    let mut by_next: BTreeSet<(usize, u64)> = BTreeSet::new();
    let (mut weighs, mut now) = (0, 0);
    hits(wanted, |key, weight| {
        let upcoming = next[now];
        now += 1;
        let before = held.insert(key, (upcoming, weight));
        if let Some((due, _)) = before {
            by_next.remove(&(due, key));
        } else {
            weighs += weight;
        }
        by_next.insert((upcoming, key));
        while weighs > capacity
            && let Some((_, last)) = by_next.pop_last()
        {
            weighs -= held.remove(&last).map_or(0, |(_, weight)| weight);
        }
        before.is_some()
    })
}

/// For each request the number of the next one of its key.
fn next_uses(wanted: &[(u64, u64)]) -> Vec<usize> {
    let mut upcoming: HashMap<u64, usize> = HashMap::new();
    let mut next: Vec<usize> = wanted
        .iter()
        .enumerate()
        .rev()
        .map(|(number, (key, _))| upcoming.insert(*key, number).unwrap_or(usize::MAX))
        .collect();
    next.reverse();
    next
}

fn hits(wanted: &[(u64, u64)], mut ask: impl FnMut(u64, u64) -> bool) -> usize {
    wanted
        .iter()
        .filter(|(key, weight)| ask(*key, *weight))
        .count()
}
