//! The [`Cache`] handle: the stores, the purge log and the flights of one cache.

#[cfg(feature = "axum")]
pub(crate) mod extract;
mod last_ping;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "serde")]
pub(crate) mod namespace;
pub(crate) mod readiness;
pub(crate) mod statistics;
#[cfg(feature = "test-util")]
pub mod testing;
pub(crate) mod values;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::base::clock::{Clock, Timestamp};
use crate::cache::last_ping::LastPing;
use crate::config::CacheConfig;
use crate::entry::Head;
use crate::entry::codec::{self, Format};
use crate::error::PurgeError;
use crate::flight::{Flights, Limits};
use crate::purge::{Owner, Purge, PurgeCheck, PurgeLog, Validity};
use crate::semantics::Flags;
use crate::status::StatusName;
use crate::store::valkey::{ValkeySettings, ValkeyStore};
use crate::store::{Flushed, Memory, Shared, SharedSettings, SharedStore, StoreError, Tiers};

/// A handle to a cache. Clones are cheap and share the cache.
///
/// Handlers find it among the request's extensions; it works outside of requests too. Creating one
/// never blocks, never fails and needs no runtime, since the cache connects on first use.
///
/// ```
/// use tower_response_cache::{Cache, CacheConfig, Purge};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Cache::new(CacheConfig::default());
/// cache.purge(Purge::tag("product:7")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    config: CacheConfig,
    clock: Arc<dyn Clock>,
    tiers: Tiers,
    log: PurgeLog,
    flights: Arc<Flights>,
    /// The memory for bodies that are being recorded, in KiB.
    fills: Arc<Semaphore>,
    /// How many handlers of unsafe requests may go on without their clients at a time.
    detached_changes: Arc<Semaphore>,
    valkey: Option<Arc<ValkeyStore>>,
    last_ping: LastPing,
    /// The cache's name in `Cache-Status`, with counts of the responses under that name.
    status_name: StatusName,
}

impl Cache {
    /// Creates a cache with these settings.
    #[must_use]
    pub fn new(config: CacheConfig) -> Self {
        let valkey = config.url.clone().map(|url| {
            let mut settings = ValkeySettings::new(url);
            settings.prefix.clone_from(&config.prefix);
            settings.operation_timeout = config.operation_timeout;
            settings.connect_timeout = config.connect_timeout;
            settings.log_max_records = config.purge_log_length as u64;
            settings.longest_value = config.max_body.saturating_add(BESIDE_THE_BODY);
            Arc::new(ValkeyStore::new(settings))
        });
        let store = valkey.clone().map(|store| store as Arc<dyn SharedStore>);
        Self::assemble(config, store, valkey)
    }

    /// Creates a cache over a Valkey with settings that no URL can hold, such as certificates,
    /// credentials that rotate, and the limits of breakers. The URL in `config` is not used.
    #[must_use]
    pub fn with_valkey(config: CacheConfig, mut settings: ValkeySettings) -> Self {
        settings.prefix.clone_from(&config.prefix);
        let least = config.max_body.saturating_add(BESIDE_THE_BODY);
        settings.longest_value = settings.longest_value.max(least);
        let valkey = Arc::new(ValkeyStore::new(settings));
        let store = Arc::clone(&valkey) as Arc<dyn SharedStore>;
        Self::assemble(config, Some(store), Some(valkey))
    }

    /// Creates a cache over a shared store of the application's own. The URL in `config` is not
    /// used.
    #[must_use]
    pub fn with_store(config: CacheConfig, store: Arc<dyn SharedStore>) -> Self {
        Self::assemble(config, Some(store), None)
    }

    fn assemble(
        config: CacheConfig,
        store: Option<Arc<dyn SharedStore>>,
        valkey: Option<Arc<ValkeyStore>>,
    ) -> Self {
        let settings = SharedSettings {
            prefix: config.prefix.clone(),
            queue_bytes: config.write_queue_bytes,
            write_timeout: config.operation_timeout,
            format: Format {
                prefix: codec::prefix_hash(&config.prefix),
                longest: config.max_body,
                #[cfg(feature = "zstd")]
                compress_above: config.compress_above,
            },
        };
        let shared = store.clone().map(|store| Shared::new(store, settings));
        let clock = Arc::clone(&config.clock);
        let limits = Limits {
            flights: config.max_flights,
            followers: config.max_followers,
            keys: 10_000,
            hit_for_miss_ttl: config.uncacheable_ttl,
            deadline: config.fill_deadline,
        };
        let memory = Memory::new(config.memory_bytes, config.max_body);
        let inner = Inner {
            tiers: Tiers::new(memory, shared, config.max_variants),
            log: PurgeLog::new(store, Arc::clone(&clock), &config),
            flights: Arc::new(Flights::new(limits, Arc::clone(&clock))),
            fills: Arc::new(Semaphore::new(kib(config.fill_bytes))),
            detached_changes: Arc::new(Semaphore::new(MOST_DETACHED)),
            clock,
            valkey,
            last_ping: LastPing::default(),
            status_name: StatusName::new(&config.status_name),
            config,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Purges stored responses and values in every instance.
    ///
    /// Here it is in force from the first poll of the future on. When this returns, no instance that
    /// can read the purge log serves them any more. A fetch that began before the purge cannot bring
    /// them back. A purge of nothing, such as `Purge::tags([])`, does nothing.
    ///
    /// # Errors
    ///
    /// [`PurgeError`] if the purge could not be appended to the shared log within the operation
    /// timeout. It is in force in this instance all the same. It reaches the others when the log
    /// takes writes again, unless this process ends before that; until then they serve what they
    /// have for no longer than [`purge_bound`](crate::CacheConfigBuilder::purge_bound), if the log
    /// takes their writes no more than this instance's. With [`Purge::replicas`], also if too few
    /// replicas have acknowledged the purge. Then it *has* happened, and
    /// [`PurgeError::acknowledged`] returns the number of those that have.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped after it was polled, the purge happens all the same.
    pub async fn purge(&self, purge: Purge) -> Result<(), PurgeError> {
        self.follow_log();
        let mut deadline = self.deadline();
        if purge.replicas > 0 {
            // WAIT needs a connection of its own, and the replicas' answers take time too.
            let CacheConfig {
                connect_timeout,
                operation_timeout,
                ..
            } = &self.inner.config;
            deadline = deadline + *connect_timeout + *operation_timeout;
        }
        self.inner.log.append(&purge, deadline).await
    }

    /// Waits, for at most `budget`, until the queue of writes to the shared store is empty, and
    /// tries once more to append the purges that the log has not taken. Call this when the server
    /// has stopped taking requests. Returns whether every write was tried in time, and the log has
    /// every purge.
    ///
    /// The cache goes on working. Writes that are queued later are not waited for. An application
    /// that skips this loses hits, and the purges that the log has refused so far.
    pub async fn shutdown(&self, budget: Duration) -> bool {
        let deadline = Instant::now() + budget;
        let (announced, flushed) = tokio::join!(
            self.inner.log.flush(deadline),
            self.inner.tiers.flush(deadline)
        );
        announced && flushed == Flushed::All
    }

    /// Makes one round trip to the shared store and returns its duration. Without a shared store
    /// the duration is zero.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store did not answer within the operation timeout.
    pub async fn ping(&self) -> Result<Duration, StoreError> {
        match self.inner.tiers.store() {
            Some(store) => store.ping(self.deadline()).await,
            None => Ok(Duration::ZERO),
        }
    }

    /// The client of the Valkey behind this cache, for commands that this crate does not wrap.
    /// `None` in memory, and over a store of the application's own.
    #[must_use]
    pub fn valkey(&self) -> Option<&ValkeyStore> {
        self.inner.valkey.as_deref()
    }

    /// Whether two handles are of the same cache.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn config(&self) -> &CacheConfig {
        &self.inner.config
    }

    /// This cache's name in `Cache-Status`.
    pub(crate) fn status_name(&self) -> &StatusName {
        &self.inner.status_name
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    pub(crate) fn tiers(&self) -> &Tiers {
        &self.inner.tiers
    }

    pub(crate) fn log(&self) -> &PurgeLog {
        &self.inner.log
    }

    pub(crate) fn flights(&self) -> &Arc<Flights> {
        &self.inner.flights
    }

    /// The bound on handlers of unsafe requests that go on although their clients have left.
    pub(crate) fn detached_changes(&self) -> &Arc<Semaphore> {
        &self.inner.detached_changes
    }

    /// A permit to record a body of this length, if the memory for recordings suffices.
    pub(crate) fn fill_budget(&self, bytes: u64) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let kib = u32::try_from(kib(bytes).max(1)).ok()?;
        Arc::clone(&self.inner.fills)
            .try_acquire_many_owned(kib)
            .ok()
    }

    /// The time by which one request stops waiting for the store, counted from now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.inner.config.operation_timeout
    }

    /// Starts the task that follows the purge log, unless it runs already.
    pub(crate) fn follow_log(&self) {
        self.inner.log.follow(&self.inner);
    }

    /// The memory that recordings hold now, in bytes.
    pub(crate) fn fill_bytes_taken(&self) -> u64 {
        let Inner { config, fills, .. } = &*self.inner;
        let taken = kib(config.fill_bytes).saturating_sub(fills.available_permits());
        taken as u64 * 1024
    }

    pub(crate) fn last_ping(&self) -> &LastPing {
        &self.inner.last_ping
    }

    /// Whether a purge concerns the stored response with this head.
    pub(crate) fn validity(&self, head: &Head, now: Timestamp) -> Validity {
        self.judge(&purge_check(head), now)
    }

    /// Whether a purge that other instances do not know yet matches a response. Such a response
    /// must not go to the shared store.
    pub(crate) fn is_purge_pending(&self, head: &Head) -> bool {
        self.inner.log.index().is_pending_for(&purge_check(head))
    }

    pub(crate) fn judge(&self, check: &PurgeCheck<'_>, now: Timestamp) -> Validity {
        let log = &self.inner.log;
        log.index().judge(check, now, log.bound())
    }
}

fn purge_check(head: &Head) -> PurgeCheck<'_> {
    PurgeCheck {
        key: &head.key,
        tags: &head.tags,
        has_query_rule: head.lifetimes.flags.contains(Flags::QUERY_RULE),
        moment: head.moment,
        stored: head.lifetimes.stored,
        verified: &head.verified,
    }
}

impl Owner for Inner {
    fn memory(&self) -> &Memory {
        self.tiers.memory()
    }

    fn log(&self) -> &PurgeLog {
        &self.log
    }
}

/// Lets `CacheLayer::new` take settings or a cache.
impl From<CacheConfig> for Cache {
    fn from(config: CacheConfig) -> Self {
        Self::new(config)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            config,
            tiers,
            flights,
            ..
        } = &*self.inner;
        f.debug_struct("Cache")
            .field("store", &config.store())
            .field("memory", tiers.memory())
            .field("flights", &flights.len())
            .field("fill_bytes", &self.fill_bytes_taken())
            .finish_non_exhaustive()
    }
}

/// How many handlers of unsafe requests go on at a time after their clients have left. Further ones
/// are dropped, and their targets are purged softly.
const MOST_DETACHED: usize = 1024;

/// The allowance for a stored response's head, in bytes, on top of the longest body. It also lets
/// an application's own values be longer than bodies.
const BESIDE_THE_BODY: u64 = 4 << 20;

fn kib(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(1024)).unwrap_or(Semaphore::MAX_PERMITS)
}
