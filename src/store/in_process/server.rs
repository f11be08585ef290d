//! The server: its data and its faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::log::Log;
use crate::base::clock::{Clock, Timestamp};
use crate::base::sync::Mutex;
use crate::error::StoreError;
use crate::store::{Leased, LogBounds, LogPosition, Presence};

/// One server. Maps are ordered, so that equal runs are equal.
#[derive(Debug)]
pub(super) struct Server {
    state: Mutex<State>,
    changed: Notify,
}

pub(super) struct State {
    clock: Arc<dyn Clock>,
    /// Values and leases share their keys, as in Valkey.
    values: BTreeMap<String, Stored>,
    log: Option<Log>,
    /// Grows with every change of the log.
    log_version: u64,
    pub(super) log_length: usize,
    /// The effects that are still to happen, in their order.
    coming: BTreeMap<(Instant, u64), Effect>,
    scheduled: u64,
    /// The number of restarts. A connection that was made before the last one has ended.
    pub(super) restarts: u64,
    pub(super) dice: Option<fastrand::Rng>,
    pub(super) full: bool,
    pub(super) latency: Duration,
    pub(super) longest_delay: Duration,
    pub(super) writes_to_lose: u64,
    pub(super) cross_next_read: bool,
}

struct Stored {
    value: Bytes,
    expires: Timestamp,
}

pub(super) type Effect = Box<dyn FnOnce(&mut State) + Send>;

impl Server {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Mutex::new(State::new(clock)),
            changed: Notify::new(),
        }
    }

    /// Executes all effects that are due, and then `act`. Wakes the readers if the log has changed.
    pub(super) fn run<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let version = state.log_version;
        state.catch_up(Instant::now());
        let done = act(&mut state);
        if state.log_version != version {
            self.notify();
        }
        done
    }

    /// Ends when [`notify`](Self::notify) is called after this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Wakes the readers of the log.
    pub(super) fn notify(&self) {
        self.changed.notify_waiters();
    }
}

impl State {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            values: BTreeMap::new(),
            log: None,
            log_version: 0,
            log_length: LOG_LENGTH,
            coming: BTreeMap::new(),
            scheduled: 0,
            restarts: 0,
            dice: None,
            full: false,
            latency: Duration::ZERO,
            longest_delay: Duration::ZERO,
            writes_to_lose: 0,
            cross_next_read: false,
        }
    }

    pub(super) fn schedule(&mut self, due: Instant, effect: Effect) {
        self.scheduled += 1;
        self.coming.insert((due, self.scheduled), effect);
    }

    /// When the next delayed effect happens.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.coming.keys().next().map(|(due, _)| *due)
    }

    fn catch_up(&mut self, now: Instant) {
        while let Some(next) = self.coming.first_entry()
            && next.key().0 <= now
        {
            let effect = next.remove();
            effect(self);
        }
    }

    /// The keys that have not expired.
    pub(super) fn keys(&mut self) -> Vec<String> {
        let now = self.clock.now();
        self.values.retain(|_, stored| now < stored.expires);
        self.values.keys().cloned().collect()
    }

    pub(super) fn nth_key(&mut self, choice: u64) -> Option<String> {
        let keys = self.keys();
        let which = choice.checked_rem(keys.len() as u64)?;
        keys.into_iter().nth(usize::try_from(which).ok()?)
    }

    pub(super) fn value(&self, key: &str) -> Option<Bytes> {
        let stored = self.values.get(key)?;
        (self.clock.now() < stored.expires).then(|| stored.value.clone())
    }

    /// The value as a client sees it. An empty value counts as none.
    pub(super) fn read(&mut self, key: &str) -> Option<Bytes> {
        let value = self.value(key).filter(|value| !value.is_empty())?;
        if self.cross_next_read
            && let Some(other) = self.keys().iter().find(|other| *other != key)
        {
            self.cross_next_read = false;
            return self.value(other);
        }
        Some(value)
    }

    pub(super) fn set(
        &mut self,
        key: String,
        value: Bytes,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        self.refuse_if_full()?;
        if self.loses_write() {
            return Ok(());
        }
        let delay = self.delay();
        let expires = self.expiry(ttl).saturating_add(delay);
        let stored = Stored { value, expires };
        if delay.is_zero() {
            self.values.insert(key, stored);
            return Ok(());
        }
        let put = move |state: &mut Self| {
            state.values.insert(key, stored);
        };
        self.schedule(Instant::now() + delay, Box::new(put));
        Ok(())
    }

    pub(super) fn remove_all(&mut self, keys: &[String]) -> u64 {
        if self.loses_write() {
            return 0;
        }
        keys.iter().filter(|key| self.remove(key)).count() as u64
    }

    /// Removes a key, and returns whether it was there and had not expired.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let now = self.clock.now();
        let removed = self.values.remove(key);
        removed.is_some_and(|stored| now < stored.expires)
    }

    pub(super) fn lease(
        &mut self,
        key: String,
        token: Bytes,
        ttl: Duration,
    ) -> Result<Leased, StoreError> {
        self.refuse_if_full()?;
        if self.value(&key).is_some() {
            return Ok(Leased::Held);
        }
        let expires = self.expiry(ttl);
        let value = token;
        self.values.insert(key, Stored { value, expires });
        Ok(Leased::Granted)
    }

    pub(super) fn release(&mut self, key: &str, token: &[u8]) {
        if self.value(key).is_some_and(|held| held == token) {
            self.values.remove(key);
        }
    }

    pub(super) fn append(
        &mut self,
        record: Bytes,
        after: Option<LogPosition>,
    ) -> Result<LogPosition, StoreError> {
        self.refuse_if_full()?;
        self.log_version += 1;
        let now = self.clock.now();
        let log = self.log.get_or_insert_default();
        let position = log.append(record, after, now);
        log.trim(self.log_length);
        Ok(position)
    }

    pub(super) fn trim_log(&mut self, length: usize) {
        self.log_version += 1;
        if let Some(log) = &mut self.log {
            log.trim(length);
        }
    }

    pub(super) fn records_after(
        &self,
        position: LogPosition,
        most: usize,
    ) -> Vec<(LogPosition, Bytes)> {
        self.log
            .as_ref()
            .map_or_else(Vec::new, |log| log.after(position, most))
    }

    pub(super) fn log_holds(&self, position: LogPosition) -> Presence {
        match &self.log {
            Some(log) if log.holds(position) => Presence::Present,
            _ => Presence::Absent,
        }
    }

    pub(super) fn log_bounds(&self) -> LogBounds {
        self.log.as_ref().map_or(LogBounds::Missing, Log::bounds)
    }

    /// Removes all data. Delayed effects are lost too.
    pub(super) fn restart_empty(&mut self) {
        self.values.clear();
        self.lose_log();
        self.coming.clear();
        self.restarts += 1;
    }

    pub(super) fn lose_log(&mut self) {
        self.log_version += 1;
        self.log = None;
    }

    pub(super) fn lose_records(&mut self, count: usize) {
        self.log_version += 1;
        self.log = self.log.take().and_then(|log| log.without_last(count));
        self.restarts += 1;
    }

    /// How often to let other tasks run.
    pub(super) fn yields(&mut self) -> u8 {
        self.dice
            .as_mut()
            .map_or(0, |dice| dice.u8(0..=MOST_YIELDS))
    }

    pub(super) fn refuse_if_full(&self) -> Result<(), StoreError> {
        if self.full {
            return Err(StoreError::Full);
        }
        Ok(())
    }

    fn loses_write(&mut self) -> bool {
        let lost = self.writes_to_lose > 0;
        self.writes_to_lose = self.writes_to_lose.saturating_sub(1);
        lost
    }

    fn delay(&mut self) -> Duration {
        if self.longest_delay.is_zero() {
            return Duration::ZERO;
        }
        let dice = self.dice.get_or_insert_with(|| fastrand::Rng::with_seed(0));
        self.longest_delay.mul_f64(dice.f64())
    }

    fn expiry(&self, ttl: Duration) -> Timestamp {
        let ttl = ttl.max(Duration::from_millis(1));
        self.clock.now().saturating_add(ttl)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("values", &self.values.len())
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// How many records the log keeps, as by default in [`ValkeySettings`](crate::ValkeySettings).
const LOG_LENGTH: usize = 100_000;

const MOST_YIELDS: u8 = 3;
