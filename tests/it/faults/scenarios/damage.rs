//! Values that are damaged, or longer than they claim.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tower_response_cache::{Cache, CacheConfig, CacheConfigBuilder, SharedStore};

use super::PATIENCE;
use super::values::store;
use crate::faults::oracle::Question;
use crate::faults::report::Report;
use crate::faults::rig::{Rig, Scale};
use crate::support::valkey::Valkey;

/// One stored response, cut after every byte, with every bit flipped, spliced with another, and
/// damaged at random, read back through the cache each time.
pub(crate) async fn damaged_values(scale: Scale) -> Vec<Report> {
    // The first value is longer than the one that is damaged bit by bit.
    let questions = (Question::public(113), Question::public(4));
    let name = "cut, flipped, spliced, random";
    vec![damaged(name, CacheConfig::builder(), questions, scale).await]
}

pub(super) async fn damaged(
    name: &str,
    config: CacheConfigBuilder,
    questions: (Question, Question),
    scale: Scale,
) -> Report {
    let server = Valkey::start();
    // The timeout is long: each value has to be read, however late.
    let config = config
        .url(server.tcp_url())
        .memory_bytes(0)
        .operation_timeout(Duration::from_secs(5));
    let rig = Rig::new(Cache::new(config.build().unwrap()));
    let store = store(&server);
    let deadline = || Instant::now() + PATIENCE;
    let (question, other) = questions;
    let mut values = Vec::new();
    let mut names = BTreeSet::new();
    for question in [question, other] {
        rig.ask(question).await;
        assert!(rig.cache.shutdown(PATIENCE).await);
        let all = server.command(&["KEYS", "trc:3:*"]);
        let key = all.lines().find(|key| !names.contains(*key)).unwrap();
        names.insert(key.to_owned());
        let value = store.get(key, deadline()).await.unwrap().unwrap();
        values.push((key.to_owned(), value));
    }
    let [(key, value), (_, another)] = values.try_into().unwrap();
    let mutants = mutants(&value, &another, scale);
    let started = Instant::now();
    for mutant in &mutants {
        let ttl = Duration::from_secs(60);
        store
            .set(&key, mutant.clone(), ttl, deadline())
            .await
            .unwrap();
        rig.ask(question).await;
        // The right value is in the store again, and the next one replaces it.
        assert!(rig.cache.shutdown(PATIENCE).await);
    }
    let hits = rig.hits();
    assert_eq!(hits, 0, "a damaged value was believed");
    let seen = rig.cache.statistics();
    let refused = seen.corrupt_values + seen.foreign_values + seen.other_version_values;
    let refused = refused + seen.mismatched_values;
    // A refused value is deleted, once a minute for a key. The deletion may come after the next
    // value.
    let deleted = started.elapsed().as_secs() / 60 + 1;
    let all = mutants.len() as u64;
    assert!(refused + deleted >= all, "{refused} of {all}");
    Report {
        note: format!(
            "{all} damaged values of {} bytes, {refused} refused",
            value.len()
        ),
        ..rig.finish(name).await
    }
}

fn mutants(value: &Bytes, another: &Bytes, scale: Scale) -> Vec<Bytes> {
    let step = scale.of(23, 1);
    let cut = (1..value.len()).step_by(step).map(|end| value.slice(..end));
    let flipped = (0..value.len().min(2048) * 8).step_by(step).map(|bit| {
        let mut bytes = value.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Bytes::from(bytes)
    });
    let most = value.len().min(another.len());
    let spliced = (1..most)
        .step_by(step)
        .map(|place| Bytes::from([&value[..place], &another[place..]].concat()));
    let mut dice = fastrand::Rng::with_seed(5);
    let random = (0..scale.of(50, 2000)).map(|_| {
        let mut bytes = value.to_vec();
        for _ in 0..dice.usize(1..20) {
            let place = dice.usize(..bytes.len());
            bytes[place] = dice.u8(..);
        }
        Bytes::from(bytes)
    });
    let all = cut.chain(flipped).chain(spliced).chain(random);
    all.filter(|mutant| mutant != value && mutant != another)
        .collect()
}
