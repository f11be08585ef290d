//! The application's own values, stored beside the responses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::base::clock::Timestamp;
use crate::base::position::Moment;
use crate::cache::Cache;
use crate::entry::{Value, Verified};
use crate::error::PurgeError;
use crate::flight::{Credentials, JoinRequest, Joined, Leader, Role};
use crate::key::Key;
use crate::purge::{Purge, PurgeCheck, Selector, Validity};
use crate::store::Reach;

/// The lifetime and the tags of one of the application's own values.
///
/// ```
/// use std::time::Duration;
/// use tower_response_cache::ValueOptions;
///
/// let options = ValueOptions::ttl(Duration::from_secs(60))
///     .stale(Duration::from_secs(10))
///     .tag("product:7");
/// assert_ne!(options, ValueOptions::from(Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct ValueOptions {
    ttl: Duration,
    stale: Duration,
    tags: Vec<String>,
}

impl ValueOptions {
    /// Options for a value with the lifetime `ttl`, which counts to the millisecond.
    pub const fn ttl(ttl: Duration) -> Self {
        Self {
            ttl,
            stale: Duration::ZERO,
            tags: Vec::new(),
        }
    }

    /// The time after the lifetime in which [`Cache::get_or_set_with`] may return the value while a
    /// new one is being made, or if that fails.
    ///
    /// Default: zero.
    pub const fn stale(mut self, window: Duration) -> Self {
        self.stale = window;
        self
    }

    /// Adds a tag. A [`Purge::tag`] of it purges the value, as it purges responses.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    fn value(self, key: Key, bytes: Bytes, moment: Moment, now: Timestamp) -> Value {
        let Self { ttl, stale, tags } = self;
        let fresh_until = now.saturating_add(ttl);
        Value {
            key,
            stored: now,
            fresh_until,
            expires: fresh_until.saturating_add(stale),
            moment,
            tags: tags.iter().collect(),
            verified: Verified::never(),
            bytes,
        }
    }
}

impl From<Duration> for ValueOptions {
    fn from(ttl: Duration) -> Self {
        Self::ttl(ttl)
    }
}

/// The application's own values, by name. Their names never collide with stored responses.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tower_response_cache::{Cache, CacheConfig, Purge, ValueOptions};
///
/// let cache = Cache::new(CacheConfig::default());
/// let minute = Duration::from_secs(60);
///
/// cache.set("rate", "1.07", minute).await?;
/// assert_eq!(cache.get("rate").await.as_deref(), Some(&b"1.07"[..]));
///
/// let options = ValueOptions::ttl(minute).tag("rates");
/// let rate = cache
///     .get_or_set_with("other rate", options, async || Ok::<_, std::io::Error>("0.93"))
///     .await?;
/// assert_eq!(rate, "0.93");
///
/// cache.purge(Purge::tag("rates")).await?;
/// assert_eq!(cache.get("other rate").await, None);
/// # Ok(())
/// # }
/// ```
impl Cache {
    /// The value under `name`. `None` if there is none, if it has expired, if it was purged, or if
    /// the store fails.
    pub async fn get(&self, name: &str) -> Option<Bytes> {
        self.get_in(VALUES, name).await
    }

    pub(crate) async fn get_in(&self, namespace: &str, name: &str) -> Option<Bytes> {
        let key = Key::of_value(namespace, name);
        match self.find_value(&key).await {
            ValueLookup::Fresh(value) => Some(value.bytes.clone()),
            ValueLookup::Stale(_) | ValueLookup::Miss => None,
        }
    }

    /// Stores a value under `name`. When this returns, no instance serves the old value any more.
    ///
    /// A value that is longer than [`max_body`](crate::CacheConfigBuilder::max_body) plus 4 MiB is
    /// not read back from the shared store. Then only this instance has it, if it fits into memory.
    ///
    /// # Errors
    ///
    /// [`PurgeError`] if the shared store did not take the value within the operation timeout. Then
    /// other instances may have the old value, or none.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped before it completes, the value may or may not be stored.
    pub async fn set(
        &self,
        name: &str,
        bytes: impl Into<Bytes>,
        options: impl Into<ValueOptions>,
    ) -> Result<(), PurgeError> {
        self.set_in(VALUES, name, bytes.into(), options.into())
            .await
    }

    pub(crate) async fn set_in(
        &self,
        namespace: &str,
        name: &str,
        bytes: Bytes,
        options: ValueOptions,
    ) -> Result<(), PurgeError> {
        let key = Key::of_value(namespace, name);
        let deadline = self.deadline();
        self.follow_log();
        let purge = Purge::of(Selector::value(&key));
        let moment = self.log().append_and_read(&purge, deadline).await?;
        let value = options.value(key, bytes, moment, self.now());
        let stored = self.tiers().store_value(value, self.now(), deadline).await;
        stored.map_err(PurgeError::not_appended)
    }

    /// Removes the value under `name` from every instance.
    ///
    /// # Errors
    ///
    /// [`PurgeError`] if the shared store did not take the removal within the operation timeout.
    pub async fn remove(&self, name: &str) -> Result<(), PurgeError> {
        self.remove_in(VALUES, name).await
    }

    pub(crate) async fn remove_in(&self, namespace: &str, name: &str) -> Result<(), PurgeError> {
        let key = Key::of_value(namespace, name);
        let deadline = self.deadline();
        self.follow_log();
        let purge = Purge::of(Selector::value(&key));
        self.log().append(&purge, deadline).await?;
        let removed = self.tiers().remove_value(&key, deadline).await;
        removed.map_err(PurgeError::not_appended)?;
        Ok(())
    }

    /// The value under `name`. If there is none, `make` makes it and the cache stores it.
    ///
    /// In this process only one caller at a time makes a value; the others wait for it. While a
    /// value is stale (see [`ValueOptions::stale`]), the others get the stale value at once, and the
    /// caller that makes the new one gets it if `make` fails. A purge while `make` runs wins: the
    /// new value is not served to later callers.
    ///
    /// # Errors
    ///
    /// The error of `make`, if there is no stale value. A fault of the store is a miss.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, so is `make`, and another caller makes the value.
    pub async fn get_or_set_with<V, E>(
        &self,
        name: &str,
        options: impl Into<ValueOptions>,
        make: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<Bytes, E>
    where
        V: Into<Bytes>,
    {
        self.get_or_set_in(VALUES, name, options.into(), make).await
    }

    pub(crate) async fn get_or_set_in<V, E>(
        &self,
        namespace: &str,
        name: &str,
        options: ValueOptions,
        make: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<Bytes, E>
    where
        V: Into<Bytes>,
    {
        let key = Key::of_value(namespace, name);
        self.follow_log();
        let (fallback, leader) = match self.wait_for_value(&key).await {
            NextStep::Return(bytes) => return Ok(bytes),
            NextStep::Make { fallback, leader } => (fallback, leader),
        };
        // Read before `make` runs, so that a purge while it runs concerns the value.
        let moment = self.log().index().moment();
        let bytes: Bytes = match make().await {
            Ok(made) => made.into(),
            Err(error) => {
                let stale = fallback.and_then(|value| self.stale_bytes(&value));
                return stale.ok_or(error);
            }
        };
        let now = self.now();
        self.keep_made(options.value(key, bytes.clone(), moment, now), now);
        if let Some(leader) = leader {
            leader.release();
        }
        Ok(bytes)
    }

    /// Stores a value that was made here, unless it was purged or set meanwhile.
    fn keep_made(&self, value: Value, now: Timestamp) {
        let check = purge_check(&value);
        if !self.judge(&check, now).is_usable() {
            return;
        }
        let reach = match self.log().index().is_pending_for(&check) {
            true => Reach::Memory,
            false => Reach::BothTiers,
        };
        self.tiers().store_value_behind(value, now, reach);
    }

    /// Looks the value up until it is fresh, waiting for the flight of another caller if there is
    /// one. Beyond its patience, this caller makes the value without a flight.
    async fn wait_for_value(&self, key: &Key) -> NextStep {
        let mut fallback = None;
        let arrived = self.flights().begun();
        for _ in 0..ATTEMPTS {
            match self.find_value(key).await {
                ValueLookup::Fresh(value) => return NextStep::Return(value.bytes.clone()),
                ValueLookup::Stale(value) => fallback = Some(value),
                ValueLookup::Miss => {}
            }
            let join_request = JoinRequest {
                credentials: Credentials::Anonymous,
                role: Role::Any,
                purges: self.log().index(),
                arrived,
                now: self.now(),
            };
            match self.flights().join_or_lead(key, &join_request) {
                Joined::Lead(leader) => {
                    let leader = Some(leader);
                    return NextStep::Make { fallback, leader };
                }
                Joined::Alone => break,
                Joined::Follow(mut follower) => {
                    if let Some(stale) = fallback.as_ref().and_then(|it| self.stale_bytes(it)) {
                        return NextStep::Return(stale);
                    }
                    let wait = self.config().follower_wait;
                    if timeout(wait, follower.wait()).await.is_err() {
                        break;
                    }
                }
            }
        }
        NextStep::Make {
            fallback,
            leader: None,
        }
    }

    /// Looks in memory, and in the shared store if memory has no fresh value.
    async fn find_value(&self, key: &Key) -> ValueLookup {
        self.follow_log();
        let now = self.now();
        let in_memory = self.tiers().value_in_memory(key, now);
        let found = in_memory.map_or(ValueLookup::Miss, |value| self.judge_value(value, now));
        if matches!(found, ValueLookup::Fresh(_)) {
            return found;
        }
        let deadline = self.deadline();
        let Some(value) = self.tiers().value_in_store(key, now, deadline).await else {
            return found;
        };
        if self.log().is_starting() {
            self.log().first_read(deadline).await;
        }
        match self.judge_value(Arc::clone(&value), now) {
            ValueLookup::Miss => found,
            // The store may be behind what memory has.
            ValueLookup::Stale(_) if matches!(found, ValueLookup::Stale(_)) => found,
            better => {
                self.tiers().promote_value(&value);
                better
            }
        }
    }

    fn judge_value(&self, value: Arc<Value>, now: Timestamp) -> ValueLookup {
        match self.judge(&purge_check(&value), now) {
            Validity::Valid if now < value.fresh_until => ValueLookup::Fresh(value),
            Validity::Valid | Validity::Soft => ValueLookup::Stale(value),
            Validity::Purged | Validity::Unknown => ValueLookup::Miss,
        }
    }

    /// What stands in for a value that is not there yet, or that cannot be made. It may have been
    /// purged since it was found.
    fn stale_bytes(&self, value: &Value) -> Option<Bytes> {
        let now = self.now();
        let is_usable = now < value.expires && self.judge(&purge_check(value), now).is_usable();
        is_usable.then(|| value.bytes.clone())
    }
}

fn purge_check(value: &Value) -> PurgeCheck<'_> {
    PurgeCheck {
        key: &value.key,
        tags: &value.tags,
        has_query_rule: false,
        moment: value.moment,
        stored: value.stored,
        verified: &value.verified,
    }
}

enum ValueLookup {
    Fresh(Arc<Value>),
    /// Past its lifetime, or softly purged.
    Stale(Arc<Value>),
    Miss,
}

/// What [`Cache::get_or_set_with`] does next.
enum NextStep {
    Return(Bytes),
    Make {
        /// The stale value, for the case that the new one cannot be made.
        fallback: Option<Arc<Value>>,
        /// The flight that other callers wait for.
        leader: Option<Leader>,
    },
}

/// The namespace of [`Cache::get`] and its like.
const VALUES: &str = "";

/// The number of flights that a caller follows. If their leaders all fail, it makes the value.
const ATTEMPTS: usize = 3;
