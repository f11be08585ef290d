//! A store that misbehaves on demand, for tests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    AppendOptions, Appended, BoxFuture, Health, Leased, LogBounds, LogPosition, Presence,
    SharedStore,
};
use crate::error::StoreError;

/// Wraps a [`SharedStore`] and makes it fail, delay and corrupt, each with a probability. A seed
/// decides: the same calls in the same order have the same faults.
///
/// A cache over such a store keeps its promises: no wrong bytes, no errors of its own, and no wait
/// beyond the operation timeout.
///
/// ```
/// use std::sync::Arc;
/// use tower_response_cache::{Cache, CacheConfig, ChaosStore, StoreUrl, ValkeySettings, ValkeyStore};
///
/// let settings = ValkeySettings::new(StoreUrl::parse("valkey://127.0.0.1")?);
/// let store = ChaosStore::new(Arc::new(ValkeyStore::new(settings)), 42)
///     .failures(0.1)
///     .corruption(0.01);
/// let cache = Cache::with_store(CacheConfig::default(), Arc::new(store));
/// # drop(cache);
/// # Ok::<_, tower_response_cache::UrlError>(())
/// ```
#[derive(Debug)]
pub struct ChaosStore {
    inner: Arc<dyn SharedStore>,
    dice: Mutex<fastrand::Rng>,
    failures: f64,
    delays: f64,
    longest_delay: Duration,
    corruption: f64,
    crossed: f64,
    /// The value that was read last, which answers the read of another key.
    last_read: Mutex<Option<Bytes>>,
}

impl ChaosStore {
    /// A store without faults. The other methods add them.
    #[must_use]
    pub fn new(inner: Arc<dyn SharedStore>, seed: u64) -> Self {
        Self {
            inner,
            dice: Mutex::new(fastrand::Rng::with_seed(seed)),
            failures: 0.0,
            delays: 0.0,
            longest_delay: Duration::ZERO,
            corruption: 0.0,
            crossed: 0.0,
            last_read: Mutex::default(),
        }
    }

    /// Sets the probability that an operation fails. Half of the failed operations have happened
    /// all the same, as with a lost reply.
    #[must_use]
    pub fn failures(mut self, probability: f64) -> Self {
        self.failures = probability;
        self
    }

    /// Sets the probability that an operation is delayed, by up to `longest`.
    #[must_use]
    pub fn delays(mut self, probability: f64, longest: Duration) -> Self {
        self.delays = probability;
        self.longest_delay = longest;
        self
    }

    /// Sets the probability that a value that is read has a flipped bit, has lost its end, or has
    /// bytes added to its end.
    #[must_use]
    pub fn corruption(mut self, probability: f64) -> Self {
        self.corruption = probability;
        self
    }

    /// Sets the probability that a read returns the value that was read before it.
    #[must_use]
    pub fn crossed_replies(mut self, probability: f64) -> Self {
        self.crossed = probability;
        self
    }

    async fn afflict<T>(
        &self,
        deadline: Instant,
        operation: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fate = self.roll(|dice| Fate {
            delay: (dice.f64() < self.delays).then(|| self.longest_delay.mul_f64(dice.f64())),
            fails: dice.f64() < self.failures,
            happens: dice.bool(),
        });
        if let Some(delay) = fate.delay {
            if Instant::now() + delay >= deadline {
                sleep_until(deadline).await;
                return Err(StoreError::TimedOut);
            }
            sleep(delay).await;
        }
        if !fate.fails {
            return operation.await;
        }
        if fate.happens {
            let _lost = operation.await;
        }
        Err(StoreError::Unavailable)
    }

    fn tamper(&self, value: Bytes) -> Bytes {
        let mut last = self
            .last_read
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let earlier = last.replace(value.clone()).unwrap_or_else(|| value.clone());
        self.roll(|dice| {
            if dice.f64() < self.crossed {
                return earlier;
            }
            if dice.f64() < self.corruption {
                return corrupted(&value, dice);
            }
            value
        })
    }

    fn roll<T>(&self, roll: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        roll(&mut self.dice.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Fate {
    delay: Option<Duration>,
    fails: bool,
    happens: bool,
}

fn corrupted(value: &Bytes, dice: &mut fastrand::Rng) -> Bytes {
    let mut bytes = BytesMut::from(&**value);
    match dice.u8(0..3) {
        0 => bytes.truncate(dice.usize(0..value.len().max(1))),
        1 => bytes.extend_from_slice(b"\0"),
        _ => {
            let place = dice.usize(0..value.len().max(1));
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << dice.u8(0..8);
            }
        }
    }
    bytes.freeze()
}

impl SharedStore for ChaosStore {
    fn get<'a>(
        &'a self,
        key: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            let value = self
                .afflict(deadline, self.inner.get(key, deadline))
                .await?;
            Ok(value.map(|value| self.tamper(value)))
        })
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let set = self.inner.set(key, value, ttl, deadline);
        Box::pin(self.afflict(deadline, set))
    }

    fn remove<'a>(
        &'a self,
        keys: &'a [String],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.afflict(deadline, self.inner.remove(keys, deadline)))
    }

    fn lease<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Leased, StoreError>> {
        let lease = self.inner.lease(key, token, ttl, deadline);
        Box::pin(self.afflict(deadline, lease))
    }

    fn release<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let release = self.inner.release(key, token, deadline);
        Box::pin(self.afflict(deadline, release))
    }

    fn ping(&self, deadline: Instant) -> BoxFuture<'_, Result<Duration, StoreError>> {
        Box::pin(self.afflict(deadline, self.inner.ping(deadline)))
    }

    fn is_away(&self) -> bool {
        self.inner.is_away()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn log_append<'a>(
        &'a self,
        record: &'a [u8],
        options: AppendOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Appended, StoreError>> {
        Box::pin(self.afflict(deadline, self.inner.log_append(record, options, deadline)))
    }

    fn log_holds(
        &self,
        position: LogPosition,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Presence, StoreError>> {
        Box::pin(self.afflict(deadline, self.inner.log_holds(position, deadline)))
    }

    /// Reads without faults: the log has a connection of its own, and its reader waits by design.
    fn log_read(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> BoxFuture<'_, Result<Vec<(LogPosition, Bytes)>, StoreError>> {
        self.inner.log_read(after, block)
    }

    fn log_bounds(&self, deadline: Instant) -> BoxFuture<'_, Result<LogBounds, StoreError>> {
        Box::pin(self.afflict(deadline, self.inner.log_bounds(deadline)))
    }

    fn log_takes_writes(&self, deadline: Instant) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.afflict(deadline, self.inner.log_takes_writes(deadline)))
    }

    fn note_mismatch(&self, key: &str) {
        self.inner.note_mismatch(key);
    }
}
