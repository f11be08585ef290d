//! The application's own values, beside the responses.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::base::clock::Timestamp;
use crate::base::position::LogPosition;
use crate::cache::Cache;
use crate::entry::{Value, Verified};
use crate::error::PurgeError;
use crate::flight::{Credentials, JoinRequest, Joined, Leader, Role};
use crate::key::Key;
use crate::purge::{Purge, PurgeCheck, Selector, Validity};

/// How long one of the application's own values lives, and what purges it.
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
    /// A value that lives for `ttl`, to the millisecond.
    pub const fn ttl(ttl: Duration) -> Self {
        Self {
            ttl,
            stale: Duration::ZERO,
            tags: Vec::new(),
        }
    }

    /// For this long after its lifetime the value still stands in while
    /// [`Cache::get_or_set_with`] makes a new one, and where that fails. Default: not at all.
    pub const fn stale(mut self, window: Duration) -> Self {
        self.stale = window;
        self
    }

    /// Purging this tag purges the value, as it does responses.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    fn value(self, key: Key, bytes: Bytes, position: LogPosition, now: Timestamp) -> Value {
        let Self { ttl, stale, tags } = self;
        let fresh_until = now.saturating_add(ttl);
        Value {
            key,
            stored: now,
            fresh_until,
            expires: fresh_until.saturating_add(stale),
            position,
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

/// Values of the application's own, by name. They never collide with stored responses.
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
    /// The value under `name`, if there is one that has neither expired nor been purged.
    ///
    /// A fault of the store is a miss.
    pub async fn get(&self, name: &str) -> Option<Bytes> {
        self.get_in(VALUES, name).await
    }

    pub(crate) async fn get_in(&self, namespace: &str, name: &str) -> Option<Bytes> {
        let key = Key::of_value(namespace, name);
        match self.find_value(&key).await {
            FoundValue::Fresh(bytes) => Some(bytes),
            FoundValue::Stale(_) | FoundValue::Nothing => None,
        }
    }

    /// Stores a value under `name`. When this returns, no instance has the old one any more.
    ///
    /// Values have no bound of their own, but what is longer than
    /// [`max_body`](crate::CacheConfigBuilder::max_body) and 4 MiB is not read back from the shared
    /// store: it is found in this instance's memory only, and only if it fits there.
    ///
    /// # Errors
    ///
    /// [`PurgeError`] if the shared store did not take it within the operation timeout. Then
    /// other instances may still have the old value, or none.
    ///
    /// # Cancellation
    ///
    /// Dropped before it returns, it may or may not have happened.
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
        let position = self.log().append_and_read(&purge, deadline).await?;
        let value = options.value(key, bytes, position, self.now());
        let stored = self.tiers().store_value(value, self.now(), deadline).await;
        stored.map_err(PurgeError::not_appended)
    }

    /// Removes the value under `name`, from every instance.
    ///
    /// # Errors
    ///
    /// [`PurgeError`] if the shared store could not be told within the operation timeout.
    pub async fn remove(&self, name: &str) -> Result<(), PurgeError> {
        self.remove_in(VALUES, name).await
    }

    pub(crate) async fn remove_in(&self, namespace: &str, name: &str) -> Result<(), PurgeError> {
        let key = Key::of_value(namespace, name);
        let deadline = self.deadline();
        self.follow_log();
        let purge = Purge::of(Selector::value(&key));
        self.log().append(&purge, deadline).await?;
        let removed = self.tiers().remove(&[&key], deadline).await;
        removed.map_err(PurgeError::not_appended)?;
        Ok(())
    }

    /// The value under `name`, made and stored by `make` if there is none: by one caller in this
    /// process, for whom the others wait.
    ///
    /// A value past its lifetime but within [`ValueOptions::stale`] is returned at once to all but
    /// the one caller who makes the new one, and to that one too if making it fails. A purge that
    /// comes while the value is being made wins: what is stored then is not served.
    ///
    /// # Errors
    ///
    /// What `make` returned, if nothing can stand in for it. Faults of the store are misses.
    ///
    /// # Cancellation
    ///
    /// Dropped while it makes the value, `make` is dropped and another caller takes over.
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
        let (stale, leader) = match self.wait_for_value(&key).await {
            Turn::FoundValue(bytes) => return Ok(bytes),
            Turn::Make(stale, leader) => (stale, leader),
        };
        let position = self.log().index().tail();
        let bytes: Bytes = match (make().await, stale) {
            (Ok(made), _) => made.into(),
            (Err(_), Some(stale)) => return Ok(stale),
            (Err(error), None) => return Err(error),
        };
        let now = self.now();
        let value = options.value(key, bytes.clone(), position, now);
        self.tiers().store_value_behind(value, now);
        if let Some(leader) = leader {
            leader.release();
        }
        Ok(bytes)
    }

    /// The value, or the turn to make it.
    async fn wait_for_value(&self, key: &Key) -> Turn {
        let mut stale = None;
        for _ in 0..ATTEMPTS {
            match self.find_value(key).await {
                FoundValue::Fresh(bytes) => return Turn::FoundValue(bytes),
                FoundValue::Stale(bytes) => stale = Some(bytes),
                FoundValue::Nothing => {}
            }
            let join_request = JoinRequest {
                credentials: Credentials::Anonymous,
                role: Role::Any,
                version: self.log().index().version(),
                now: self.now(),
            };
            match self.flights().join_or_lead(key, &join_request) {
                Joined::Lead(leader) => return Turn::Make(stale, Some(leader)),
                Joined::Alone => break,
                Joined::Follow(mut follower) => {
                    if let Some(stale) = stale {
                        return Turn::FoundValue(stale);
                    }
                    let wait = self.config().follower_wait;
                    if timeout(wait, follower.wait()).await.is_err() {
                        break;
                    }
                }
            }
        }
        Turn::Make(stale, None)
    }

    /// What memory has, or else the shared store; stale only if neither has it fresh.
    async fn find_value(&self, key: &Key) -> FoundValue {
        self.follow_log();
        let now = self.now();
        let in_memory = self.tiers().value_in_memory(key, now);
        let found = in_memory.map_or(FoundValue::Nothing, |value| self.judge_value(&value, now));
        if matches!(found, FoundValue::Fresh(_)) {
            return found;
        }
        let deadline = self.deadline();
        let Some(value) = self.tiers().value_in_store(key, now, deadline).await else {
            return found;
        };
        if self.log().is_starting() {
            self.log().first_read(deadline).await;
        }
        match self.judge_value(&value, now) {
            FoundValue::Nothing => found,
            better => better,
        }
    }

    fn judge_value(&self, value: &Value, now: Timestamp) -> FoundValue {
        let check = PurgeCheck {
            key: &value.key,
            tags: &value.tags,
            position: value.position,
            stored: value.stored,
            verified: &value.verified,
        };
        match self.judge(&check, now) {
            Validity::Valid if now < value.fresh_until => FoundValue::Fresh(value.bytes.clone()),
            Validity::Valid | Validity::Soft => FoundValue::Stale(value.bytes.clone()),
            Validity::Purged | Validity::Unknown => FoundValue::Nothing,
        }
    }
}

/// What is stored under a name.
enum FoundValue {
    Fresh(Bytes),
    /// Past its lifetime, or purged softly.
    Stale(Bytes),
    Nothing,
}

enum Turn {
    FoundValue(Bytes),
    /// To be made; with what may stand in for it, and on behalf of those who wait.
    Make(Option<Bytes>, Option<Leader>),
}

/// The namespace of plain values.
const VALUES: &str = "";

/// A caller whose leaders keep failing makes the value itself.
const ATTEMPTS: usize = 3;
