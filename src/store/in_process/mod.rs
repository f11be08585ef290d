//! A shared store within the process, for tests.

mod link;
mod log;
mod server;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub use self::link::Outage;

use self::link::Link;
use self::server::{Server, State};
use super::{
    AppendOptions, Appended, BoxFuture, Health, Leased, LogBounds, LogPosition, Presence,
    SharedStore, StoreState,
};
use crate::base::clock::{Clock, TokioClock};
use crate::error::StoreError;

/// A [`SharedStore`] that needs no server. Values, leases and the purge log are in this process,
/// and there is a switch for every fault of a server and of the network.
///
/// All handles of one store reach the same server. Each cache takes a handle of its own from
/// [`instance`](Self::instance), with its own connection, which can be cut off, and its own reader
/// of the log. A clone shares the connection of its original.
///
/// Time is tokio's, so a test that pauses time decides when values expire.
/// [`with_clock`](Self::with_clock) takes another clock.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use tower_response_cache::{Cache, CacheConfig, InProcessStore, Purge, ValueOptions};
///
/// # tokio::runtime::Builder::new_current_thread()
/// #     .enable_time()
/// #     .start_paused(true)
/// #     .build()?
/// #     .block_on(async {
/// let server = InProcessStore::new();
/// let cache = || Cache::with_store(CacheConfig::default(), Arc::new(server.instance()));
/// let (here, there) = (cache(), cache());
///
/// let options = ValueOptions::ttl(Duration::from_secs(60)).tag("product:1");
/// here.set("price", "9.99", options).await?;
/// assert_eq!(there.get("price").await.as_deref(), Some(&b"9.99"[..]));
///
/// here.purge(Purge::tag("product:1")).await?;
/// // The other instance reads the log as soon as it is let.
/// tokio::time::sleep(Duration::from_millis(1)).await;
/// assert_eq!(there.get("price").await, None);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct InProcessStore {
    server: Arc<Server>,
    link: Arc<Link>,
}

impl InProcessStore {
    /// An empty store without faults and delays, with [`TokioClock`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(TokioClock::default()))
    }

    /// An empty store whose values expire by this clock. The log makes its positions of it too.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let server = Arc::new(Server::new(clock));
        Self {
            link: Arc::new(Link::new(Arc::clone(&server))),
            server,
        }
    }

    /// A handle for another instance: the same server over a connection of its own.
    #[must_use]
    pub fn instance(&self) -> Self {
        Self {
            server: Arc::clone(&self.server),
            link: Arc::new(Link::new(Arc::clone(&self.server))),
        }
    }
}

/// Faults. Each switch stays in force until it is set back. The documentation says which switches
/// concern one connection only.
impl InProcessStore {
    /// Lets other tasks run before and after each operation; the seed decides how often. It also
    /// decides how long each write is delayed ([`delay_writes`](Self::delay_writes)).
    pub fn seed(&self, seed: u64) {
        self.state(|state| state.dice = Some(fastrand::Rng::with_seed(seed)));
    }

    /// Cuts off this instance only.
    pub fn cut_off(&self, outage: Outage) {
        self.link.set_outage(Some(outage));
        self.server.notify();
    }

    /// Connects this instance again.
    pub fn reconnect(&self) {
        self.link.set_outage(None);
        self.server.notify();
    }

    /// Sets whether the server's memory is full and its policy evicts nothing. Then operations that
    /// need memory fail with [`StoreError::Full`]. Reads and removals go on.
    pub fn set_full(&self, full: bool) {
        self.state(|state| state.full = full);
    }

    /// Sets how long each operation takes. An operation that takes longer than its deadline times
    /// out, and happens all the same.
    pub fn set_latency(&self, latency: Duration) {
        self.state(|state| state.latency = latency);
    }

    /// Acknowledges values at once and stores each up to `longest` later, so that they overtake one
    /// another. Zero ends it; writes that are delayed already still happen.
    pub fn delay_writes(&self, longest: Duration) {
        self.state(|state| state.longest_delay = longest);
    }

    /// Acknowledges the next `count` writes and removals of values and does not execute them. Zero
    /// ends it.
    pub fn lose_writes(&self, count: u64) {
        self.state(|state| state.writes_to_lose = count);
    }

    /// Answers the next read that finds a value with the value of another key, if there is one.
    pub fn cross_next_read(&self) {
        self.state(|state| state.cross_next_read = true);
    }

    /// Evicts `key`, and returns whether it was there.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn evict(&self, key: &str) -> bool {
        self.state(|state| state.remove(key))
    }

    /// Evicts the key that `choice` selects, and returns its name.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn evict_any(&self, choice: u64) -> Option<String> {
        self.state(|state| {
            let key = state.nth_key(choice)?;
            state.remove(&key);
            Some(key)
        })
    }

    /// Restarts the server with no data. All connections end, and are made anew at once.
    pub fn restart_empty(&self) {
        self.state(State::restart_empty);
    }

    /// Lets a replica take over that lacks the last `count` records of the log.
    pub fn lose_records(&self, count: usize) {
        self.state(|state| state.lose_records(count));
    }

    /// Evicts the whole log.
    pub fn lose_log(&self) {
        self.state(State::lose_log);
    }

    /// Trims the log to its newest `count` records, now.
    pub fn trim_log(&self, count: usize) {
        self.state(|state| state.trim_log(count));
    }

    /// Sets how many records the log keeps. Default: 100,000.
    pub fn set_log_length(&self, records: usize) {
        self.state(|state| state.log_length = records);
    }
}

/// The data of the server, for tests to read. Faults do not apply.
impl InProcessStore {
    /// The keys of all values and leases that have not expired, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.state(State::keys)
    }

    /// The value or the lease's token under `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Bytes> {
        self.state(|state| state.value(key))
    }

    /// The records of the log, oldest first.
    #[must_use]
    pub fn records(&self) -> Vec<(LogPosition, Bytes)> {
        self.state(|state| state.records_after(LogPosition::ZERO, usize::MAX))
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        self.server.run(look)
    }
}

impl Default for InProcessStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InProcessStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, bounds) = self.state(|state| (state.keys().len(), state.log_bounds()));
        f.debug_struct("InProcessStore")
            .field("keys", &keys)
            .field("log", &bounds)
            .field("outage", &self.link.outage())
            .finish_non_exhaustive()
    }
}

impl SharedStore for InProcessStore {
    fn get<'a>(
        &'a self,
        key: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let key = key.to_owned();
        Box::pin(
            self.link
                .perform(deadline, move |state| Ok(state.read(&key))),
        )
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let key = key.to_owned();
        Box::pin(
            self.link
                .perform(deadline, move |state| state.set(key, value, ttl)),
        )
    }

    fn remove<'a>(
        &'a self,
        keys: &'a [String],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let keys = keys.to_vec();
        Box::pin(
            self.link
                .perform(deadline, move |state| Ok(state.remove_all(&keys))),
        )
    }

    fn lease<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Leased, StoreError>> {
        let (key, token) = (key.to_owned(), Bytes::from(token.to_owned()));
        Box::pin(
            self.link
                .perform(deadline, move |state| state.lease(key, token, ttl)),
        )
    }

    fn release<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let (key, token) = (key.to_owned(), token.to_owned());
        Box::pin(self.link.perform(deadline, move |state| {
            state.release(&key, token.as_bytes());
            Ok(())
        }))
    }

    fn ping(&self, deadline: Instant) -> BoxFuture<'_, Result<Duration, StoreError>> {
        let started = Instant::now();
        Box::pin(async move {
            self.link.perform(deadline, |_state| Ok(())).await?;
            Ok(started.elapsed())
        })
    }

    fn is_away(&self) -> bool {
        self.link.outage() == Some(Outage::Refused)
    }

    fn health(&self) -> Health {
        let state = if self.link.outage().is_some() {
            StoreState::Unreachable
        } else {
            StoreState::Ready
        };
        let mut health = Health::new(state, self.link.since().into_std());
        health.mismatches = self.link.mismatches();
        health
    }

    fn log_append<'a>(
        &'a self,
        record: &'a [u8],
        options: AppendOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Appended, StoreError>> {
        let record = Bytes::copy_from_slice(record);
        Box::pin(async move {
            let after = options.after;
            self.link
                .perform(deadline, move |state| state.append(record, after))
                .await
                .map(Appended::unreplicated)
        })
    }

    fn log_holds(
        &self,
        position: LogPosition,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Presence, StoreError>> {
        Box::pin(
            self.link
                .perform(deadline, move |state| Ok(state.log_holds(position))),
        )
    }

    fn log_read(
        &self,
        after: LogPosition,
        block: Duration,
    ) -> BoxFuture<'_, Result<Vec<(LogPosition, Bytes)>, StoreError>> {
        Box::pin(self.link.read_log(after, block))
    }

    fn log_bounds(&self, deadline: Instant) -> BoxFuture<'_, Result<LogBounds, StoreError>> {
        Box::pin(self.link.perform(deadline, |state| Ok(state.log_bounds())))
    }

    fn log_takes_writes(&self, deadline: Instant) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.link.perform(deadline, |state| state.refuse_if_full()))
    }

    fn note_mismatch(&self, _key: &str) {
        self.link.note_mismatch();
    }
}

#[cfg(test)]
mod tests;
