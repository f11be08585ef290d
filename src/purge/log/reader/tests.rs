use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::base::clock::Clock;
use crate::config::CacheConfig;
use crate::purge::Purge;
use crate::store::{Appended, BoxFuture, Health};

/// A log to which others append `between` records before it is read or looked at.
#[derive(Debug)]
struct Busy {
    records: Mutex<u64>,
    between: u64,
}

impl Busy {
    fn others_append(&self) -> u64 {
        let mut records = self.records.lock().unwrap();
        *records += self.between;
        *records
    }
}

impl SharedStore for Busy {
    fn get<'a>(
        &'a self,
        _: &'a str,
        _: Instant,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        unimplemented!()
    }
    fn set<'a>(
        &'a self,
        _: &'a str,
        _: Bytes,
        _: Duration,
        _: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        unimplemented!()
    }
    fn remove<'a>(&'a self, _: &'a [String], _: Instant) -> BoxFuture<'a, Result<u64, StoreError>> {
        unimplemented!()
    }
    fn ping(&self, _: Instant) -> BoxFuture<'_, Result<Duration, StoreError>> {
        unimplemented!()
    }
    fn health(&self) -> Health {
        unimplemented!()
    }
    fn log_append<'a>(
        &'a self,
        _: &'a [u8],
        _: AppendOptions,
        _: Instant,
    ) -> BoxFuture<'a, Result<Appended, StoreError>> {
        unimplemented!()
    }
    fn log_read(
        &self,
        after: LogPosition,
        _: Duration,
    ) -> BoxFuture<'_, Result<Vec<(LogPosition, Bytes)>, StoreError>> {
        let last = self.others_append();
        let record = Bytes::from(record::encode(Purge::tag("other").marks()));
        let records = (after.ms() + 1..=last).map(|ms| (LogPosition::new(ms, 0), record.clone()));
        Box::pin(std::future::ready(Ok(records.take(1000).collect())))
    }
    fn log_bounds(&self, _: Instant) -> BoxFuture<'_, Result<LogBounds, StoreError>> {
        let last = LogPosition::new(self.others_append(), 0);
        let bounds = LogBounds::Held {
            first: LogPosition::new(1, 0),
            last,
            last_generated: last,
            trimmed: Trimmed::Nothing,
            added: Some(last.ms()),
        };
        Box::pin(std::future::ready(Ok(bounds)))
    }
    fn note_mismatch(&self, _: &str) {}
}

#[tokio::test]
async fn a_log_that_keeps_growing_while_it_is_read_stays_in_sight() {
    for between in [0, 1] {
        let store = Busy {
            records: Mutex::new(1),
            between,
        };
        let clock: Arc<dyn Clock> = Arc::new(crate::base::clock::SystemClock);
        let log = PurgeLog::new(
            Some(Arc::new(store)),
            Arc::clone(&clock),
            &CacheConfig::default(),
        );
        let memory = Memory::new(1 << 20, 1 << 10);
        let mut reading = Reading {
            has_looked: true,
            ..Reading::default()
        };
        for _ in 0..1000 {
            log.step(&memory, &mut reading).await.unwrap();
        }
        assert!(
            log.index.is_current(clock.now()),
            "{between}: read up to {}",
            log.index.tail()
        );
    }
}
