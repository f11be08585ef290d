//! Values that are damaged, foreign, or of another key.

use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_response_cache::{Cache, SharedStore, StoreError, StoreUrl, ValkeySettings, ValkeyStore};

use super::{PATIENCE, begin, through};
use crate::faults::oracle::Question;
use crate::faults::report::Report;
use crate::faults::rig::{Load, Rig, Scale, config};
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
        let keys = server.command(&["KEYS", "trc:3:*"]);
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
        let keys = server.command(&["KEYS", "trc:3:*"]);
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
    let eternal = server.command(&["KEYS", "trc:3:*"]);
    // A key that was gone by then, `APPEND` and `SETRANGE` have made anew: a few bytes for ever.
    let is_ours = |key: &str| {
        let length = server.command(&["STRLEN", key]);
        length.parse::<usize>().is_ok_and(|length| length > 28)
    };
    let eternal = eternal
        .lines()
        .filter(|key| server.command(&["TTL", key]) == "-1" && is_ours(key))
        .count();
    assert_eq!(eternal, 0, "keys without a time to live");
    reports.push(Report {
        recovery: Some(recovery),
        ..rig.finish("foreign and damaged values").await
    });
    reports
}

/// A value of 256 MiB under one of our keys, read a hundred times.
pub(crate) async fn huge_values(scale: Scale) -> Vec<Report> {
    let server = Valkey::start();
    let rig = Rig::new(Cache::new(config(&server.tcp_url())));
    let question = Question::public(0);
    rig.ask(question).await;
    assert!(rig.cache.shutdown(PATIENCE).await);
    let name = server.command(&["KEYS", "trc:3:*"]);
    let length = scale.of(64, 256) << 20;
    let grow = || server.command(&["SETRANGE", &name, &length.to_string(), "x"]);
    let peak = Peak::from_here();

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
    assert_eq!(rig.hits(), 0);
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
    let first = peak.mib();
    let peak = Peak::from_here();
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let started = Instant::now();
        let read = store.get(&name, Instant::now() + PATIENCE).await;
        assert_eq!(read, Err(StoreError::TooLong));
        slowest = slowest.max(started.elapsed());
    }
    let peak = peak.mib();
    // In the short run other tests take memory at the same time.
    let bounded = scale == Scale::Short || first.max(peak) < (length as u64 >> 20) / 4;
    assert!(
        bounded,
        "{first} and {peak} MiB for a value that is not ours"
    );
    vec![Report {
        note: format!(
            "{} MiB: {} MiB at the peak of the first reads, {} of 100 more, which took \
             {slowest:.0?} at most; {too_long} refused by the cache",
            length >> 20,
            first,
            peak
        ),
        ..rig.finish("a foreign value that is huge").await
    }]
}

/// The largest memory of this process since some moment.
pub(super) struct Peak {
    before: Option<u64>,
}

impl Peak {
    pub(super) fn from_here() -> Self {
        let reset = fs::write("/proc/self/clear_refs", "5");
        Self {
            before: reset.ok().and_then(|()| peak_kib()),
        }
    }

    /// The increase since that moment, in MiB. 0 if the system does not say.
    pub(super) fn mib(&self) -> u64 {
        let more = |(peak, before): (u64, u64)| peak.saturating_sub(before) >> 10;
        peak_kib().zip(self.before).map_or(0, more)
    }
}

fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

pub(super) fn store(server: &Valkey) -> ValkeyStore {
    ValkeyStore::new(ValkeySettings::new(StoreUrl::parse(&server.url()).unwrap()))
}
