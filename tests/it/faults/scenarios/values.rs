//! Values that are damaged, of someone else, or of another key.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tower_response_cache::{
    Cache, CacheConfig, SharedStore, StoreError, StoreUrl, ValkeySettings, ValkeyStore,
};

use super::{PATIENCE, begin, through};
use crate::faults::oracle::Question;
use crate::faults::rig::{Load, Report, Rig, Scale, config};
use crate::support::eventually;
use crate::support::proxy::Mode;
use crate::support::valkey::Valkey;

/// Values with a flipped bit each, and values under the keys of others.
pub(crate) async fn wrong_values(scale: Scale) -> Vec<Report> {
    let mut reports = vec![through("every value corrupted", Mode::Corrupt, scale).await];

    let server = Valkey::start();
    let cache = Cache::new(config(&server.tcp_url()));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    let mut copied = 0;
    for _ in 0..scale.of(2, 20) {
        let keys = server.command(&["KEYS", "trc:2:*"]);
        let keys = keys.lines().collect::<Vec<_>>();
        for pair in keys.windows(2) {
            server.command(&["COPY", pair[0], pair[1], "REPLACE"]);
            copied += 1;
        }
        sleep(Duration::from_millis(300)).await;
    }
    let recovery = rig.recovery(former).await;
    reports.push(Report {
        recovery: Some(recovery),
        note: format!("{copied} keys copied"),
        ..rig.finish("transplanted keys").await
    });

    let rig = begin(&server.tcp_url());
    for _ in 0..scale.of(2, 20) {
        let keys = server.command(&["KEYS", "trc:2:*"]);
        for (place, key) in keys.lines().enumerate() {
            match place % 3 {
                0 => server.command(&["SET", key, "someone else's", "KEEPTTL"]),
                1 => server.command(&["APPEND", key, "x"]),
                _ => server.command(&["SETRANGE", key, "20", "????????"]),
            };
        }
        sleep(Duration::from_millis(300)).await;
    }
    let recovery = rig.recovery(former).await;
    let eternal = server.command(&["KEYS", "trc:2:*"]);
    let eternal = eternal
        .lines()
        .filter(|key| server.command(&["TTL", key]) == "-1")
        .count();
    assert_eq!(eternal, 0, "keys without a time to live");
    reports.push(Report {
        recovery: Some(recovery),
        ..rig.finish("foreign and damaged values").await
    });
    reports
}

/// One stored response, cut after every byte, with every bit flipped, spliced with another, and
/// damaged at random, read back through the cache each time.
pub(crate) async fn damaged_values(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    // Patience: each value has to be read, and not to be late.
    let config = CacheConfig::builder()
        .url(server.tcp_url())
        .memory_bytes(0)
        .operation_timeout(Duration::from_secs(5));
    let rig = Rig::new(Cache::new(config.build().unwrap()));
    let store = store(&server);
    let deadline = || Instant::now() + PATIENCE;
    // The first is somewhat longer than what is damaged bit by bit.
    let (question, other) = (Question::public(113), Question::public(4));
    let mut values = Vec::new();
    let mut names = BTreeSet::new();
    for question in [question, other] {
        rig.ask(question).await;
        assert!(rig.cache.shutdown(PATIENCE).await);
        let all = server.command(&["KEYS", "trc:2:*"]);
        let name = all.lines().find(|name| !names.contains(*name)).unwrap();
        names.insert(name.to_owned());
        values.push((
            name.to_owned(),
            store.get(name, deadline()).await.unwrap().unwrap(),
        ));
    }
    let [(name, value), (_, another)] = values.try_into().unwrap();
    assert!(value.len() > 2048, "{}", value.len());
    let mutants = mutants(&value, &another, scale);
    let started = Instant::now();
    for mutant in &mutants {
        let ttl = Duration::from_secs(60);
        store
            .set(&name, mutant.clone(), ttl, deadline())
            .await
            .unwrap();
        rig.ask(question).await;
        // The right value is back, and the next one takes its place.
        assert!(rig.cache.shutdown(PATIENCE).await);
    }
    let hits = rig.tally.hits.load(Ordering::Relaxed);
    assert_eq!(hits, 0, "a damaged value was believed");
    let seen = rig.cache.statistics();
    let refused = seen.corrupt_values + seen.foreign_values + seen.other_version_values;
    let refused = refused + seen.mismatched_values;
    // A refusal deletes the key, once a minute, and that may come after the next value.
    let deleted = started.elapsed().as_secs() / 60 + 1;
    let all = mutants.len() as u64;
    assert!(refused + deleted >= all, "{refused} of {all}");
    vec![Report {
        note: format!("{} damaged values, {refused} refused", mutants.len()),
        ..rig.finish("cut, flipped, spliced, random").await
    }]
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

/// A value of 256 MiB under one of our keys, read a hundred times.
pub(crate) async fn huge_values(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    let rig = Rig::new(Cache::new(config(&server.tcp_url())));
    let question = Question::public(0);
    rig.ask(question).await;
    assert!(rig.cache.shutdown(PATIENCE).await);
    let name = server.command(&["KEYS", "trc:2:*"]);
    let length = scale.of(64, 256) << 20;
    let grow = || server.command(&["SETRANGE", &name, &length.to_string(), "x"]);
    let reset = || fs::write("/proc/self/clear_refs", "5");
    let usual = reset().ok().and_then(|()| peak_kib());

    // As a response that is not used: the first ends the connection, and the next one tells why.
    let too_long = || rig.cache.statistics().too_long_values;
    for refused in 1..=scale.of(2, 10) {
        let is_refused = async || {
            grow();
            rig.ask(question).await;
            assert!(rig.cache.shutdown(PATIENCE).await);
            too_long() == refused
        };
        eventually("it is refused", PATIENCE, is_refused).await;
    }
    assert_eq!(rig.tally.hits.load(Ordering::Relaxed), 0);
    let too_long = too_long();
    grow();
    // As what the client reads. What announces the first ends the connection.
    let store = store(&server);
    let budget = Instant::now() + Duration::from_millis(50);
    assert!(store.get(&name, budget).await.is_err());
    let from_now_on = async || {
        let read = store.get(&name, Instant::now() + PATIENCE).await;
        read == Err(StoreError::TooLong)
    };
    eventually("another connection", PATIENCE, from_now_on).await;
    let first = peak_kib()
        .zip(usual)
        .map_or(0, |(peak, usual)| peak.saturating_sub(usual));
    let usual = reset().ok().and_then(|()| peak_kib());
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let started = Instant::now();
        let read = store.get(&name, Instant::now() + PATIENCE).await;
        assert_eq!(read, Err(StoreError::TooLong));
        slowest = slowest.max(started.elapsed());
    }
    let peak = peak_kib()
        .zip(usual)
        .map_or(0, |(peak, usual)| peak.saturating_sub(usual));
    // In the short run other tests take memory at the same time.
    let bounded = scale == Scale::Short || first.max(peak) < (length as u64 >> 10) / 4;
    assert!(
        bounded,
        "{first} and {peak} KiB for a value that is not ours"
    );
    vec![Report {
        note: format!(
            "{} MiB: {} MiB at the peak of the first reads, {} of 100 more, which took \
             {slowest:.0?} at most; {too_long} refused by the cache",
            length >> 20,
            first >> 10,
            peak >> 10
        ),
        ..rig.finish("a foreign value that is huge").await
    }]
}

/// The most memory that this process has had.
fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn store(server: &Valkey) -> ValkeyStore {
    ValkeyStore::new(ValkeySettings::new(StoreUrl::parse(&server.url()).unwrap()))
}
