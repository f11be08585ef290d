//! A cache over a real server behind the faulty proxy, under load, every response checked.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_response_cache::{
    BreakerState, Cache, CacheConfig, CacheLayer, Health, ResponseBody, StoreState,
};

use super::oracle::{Question, Tally, handle};
use crate::support::proxy::Proxy;
use crate::support::valkey::Valkey;

type App = BoxCloneSyncService<
    Request<Body>,
    http::Response<ResponseBody<Body>>,
    std::convert::Infallible,
>;

/// How much is done to find a fault out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// For every day.
    Short,
    /// For a release.
    Long,
}

impl Scale {
    /// `short` or `long`.
    pub(crate) fn of<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

/// One cache and its clients.
pub(crate) struct Rig {
    pub(crate) cache: Cache,
    pub(crate) tally: Arc<Tally>,
    app: App,
    stop: Arc<AtomicBool>,
    latencies: Arc<Mutex<Latencies>>,
    clients: JoinSet<()>,
}

/// How the clients behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    /// Between a client's requests.
    pub(crate) pause: Duration,
    /// The part of the requests that are given up on the way.
    pub(crate) given_up: f64,
}

impl Load {
    pub(crate) const STEADY: Self = Self {
        clients: 8,
        pause: Duration::from_millis(2),
        given_up: 0.0,
    };

    pub(crate) const STORM: Self = Self {
        clients: 48,
        pause: Duration::ZERO,
        given_up: 0.2,
    };
}

/// A server behind a proxy.
pub(crate) async fn fronted() -> (Valkey, Proxy) {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    (server, proxy)
}

/// No memory tier, so that each hit is one of the store.
pub(crate) fn config(url: &str) -> CacheConfig {
    CacheConfig::builder()
        .url(url)
        .memory_bytes(0)
        .build()
        .unwrap()
}

impl Rig {
    pub(crate) fn new(cache: Cache) -> Self {
        let app = CacheLayer::new(cache.clone()).layer(service_fn(handle));
        Self {
            cache,
            app: BoxCloneSyncService::new(app),
            tally: Arc::default(),
            stop: Arc::default(),
            latencies: Arc::default(),
            clients: JoinSet::new(),
        }
    }

    /// A rig that has been under load until most requests hit.
    pub(crate) async fn warm(cache: Cache, load: Load) -> (Self, f64) {
        let mut rig = Self::new(cache);
        rig.load(load);
        let mut rate = 0.0;
        for _ in 0..200 {
            rate = rig.hit_rate(Duration::from_millis(300)).await;
            if rate > 0.7 {
                break;
            }
        }
        assert!(rate > 0.7, "it never got warm: {rate}");
        rig.added();
        (rig, rate)
    }

    /// Starts the clients.
    pub(crate) fn load(&mut self, load: Load) {
        for client in 0..load.clients {
            let client = Client {
                cache: self.cache.clone(),
                app: self.app.clone(),
                tally: Arc::clone(&self.tally),
                stop: Arc::clone(&self.stop),
                latencies: Arc::clone(&self.latencies),
                dice: fastrand::Rng::with_seed(client as u64),
                load,
            };
            self.clients.spawn(client.run());
        }
    }

    /// One request, checked.
    pub(crate) async fn ask(&self, question: Question) -> Duration {
        let started = Instant::now();
        let response = self.app.clone().oneshot(question.request()).await;
        let took = started.elapsed();
        self.tally
            .check(question, response.unwrap_or_else(|never| match never {}))
            .await;
        took
    }

    /// The part of the requests that hit, over some time.
    pub(crate) async fn hit_rate(&self, time: Duration) -> f64 {
        let count = || {
            let Tally { hits, checked, .. } = &*self.tally;
            (
                hits.load(Ordering::Relaxed),
                checked.load(Ordering::Relaxed),
            )
        };
        let before = count();
        sleep(time).await;
        let after = count();
        (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64
    }

    /// Waits until nine tenths of the former rate of hits are back, and tells how long it took.
    pub(crate) async fn recovery(&self, former: f64) -> Duration {
        let started = Instant::now();
        while self.hit_rate(Duration::from_millis(100)).await < former * 0.9 {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "hits never came back: {:?}",
                self.health()
            );
        }
        started.elapsed()
    }

    /// What the cache added to the 99th percentile of the bare handler since this was asked last.
    pub(crate) fn added(&self) -> Added {
        let taken = std::mem::take(&mut *self.latencies.lock().unwrap());
        let Latencies {
            bare,
            before,
            after,
        } = taken;
        let bare = p99(bare).unwrap_or_default();
        let over = |latencies| p99(latencies).map(|latency| latency.saturating_sub(bare));
        Added {
            before: over(before),
            after: over(after),
        }
    }

    pub(crate) fn health(&self) -> Option<Health> {
        use tower_response_cache::SharedStore;
        self.cache.valkey().map(|store| store.health())
    }

    /// Stops the clients, and sums up.
    pub(crate) async fn finish(mut self, fault: impl Into<String>) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        let Tally {
            checked,
            wrong,
            errors,
            ..
        } = &*self.tally;
        Report {
            fault: fault.into(),
            checked: checked.load(Ordering::Relaxed),
            wrong: wrong.load(Ordering::Relaxed),
            errors: errors.load(Ordering::Relaxed),
            dials: self.health().map_or(0, |health| health.dials),
            ..Report::default()
        }
    }
}

/// How long requests took.
#[derive(Debug, Default)]
struct Latencies {
    /// The handler without a cache, called in the same moments.
    bare: Vec<Duration>,
    /// With the cache, while it still tries the store.
    before: Vec<Duration>,
    /// With the cache, while it spares itself the attempt.
    after: Vec<Duration>,
}

/// What a fault adds to the 99th percentile, over the handler without a cache in the same run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Added {
    /// As long as the store is tried: no breaker is open, and there is a connection.
    pub(crate) before: Option<Duration>,
    /// Once it is not.
    pub(crate) after: Option<Duration>,
}

impl Added {
    fn longest(self) -> Duration {
        self.before.max(self.after).unwrap_or_default()
    }
}

fn p99(mut latencies: Vec<Duration>) -> Option<Duration> {
    latencies.sort_unstable();
    let last = latencies.len().checked_sub(1)?;
    latencies.get(last * 99 / 100).copied()
}

struct Client {
    cache: Cache,
    app: App,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    latencies: Arc<Mutex<Latencies>>,
    dice: fastrand::Rng,
    load: Load,
}

impl Client {
    async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let question = Question::random(&mut self.dice);
            let response = self.app.call(question.request());
            if self.dice.f64() < self.load.given_up {
                let polls = self.dice.u8(1..6);
                give_up(response, polls).await;
            } else {
                let spared = self.is_spared();
                let started = Instant::now();
                let response = response.await.unwrap_or_else(|never| match never {});
                let took = started.elapsed();
                self.tally.check(question, response).await;
                let started = Instant::now();
                let _bare = handle(question.request()).await;
                let mut latencies = self.latencies.lock().unwrap();
                latencies.bare.push(started.elapsed());
                match spared {
                    true => latencies.after.push(took),
                    false => latencies.before.push(took),
                }
            }
            match self.load.pause.is_zero() {
                true => tokio::task::yield_now().await,
                false => sleep(self.load.pause).await,
            }
        }
    }
}

impl Client {
    /// Whether reads of the store are suspended, or it is known to be away.
    fn is_spared(&self) -> bool {
        let store = self.cache.statistics().store;
        store.is_some_and(|health| {
            health.read_breaker != BreakerState::Closed
                || matches!(
                    health.state,
                    StoreState::Unreachable | StoreState::Refused | StoreState::Loading
                )
        })
    }
}

/// Polls a few times, as the runtime comes by, and drops it.
async fn give_up(future: impl Future, polls: u8) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let ready = std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context).is_ready())
        });
        if ready.await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// One line of the suite's result.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) fault: String,
    pub(crate) checked: u64,
    pub(crate) wrong: u64,
    pub(crate) errors: u64,
    pub(crate) added: Added,
    pub(crate) dials: u64,
    pub(crate) recovery: Option<Duration>,
    /// What else is to be said.
    pub(crate) note: String,
}

impl Report {
    /// Nothing wrong, no errors of our making, no waiting beyond the budget.
    pub(crate) fn assert_good(&self) {
        assert_eq!((self.wrong, self.errors), (0, 0), "{self}");
        assert!(self.checked > 0, "{self}");
        assert!(self.added.longest() < BUDGET + SLACK, "{self}");
        if let Some(recovery) = self.recovery {
            assert!(recovery < Duration::from_secs(10), "{self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fault,
            checked,
            wrong,
            errors,
            added,
            dials,
            recovery,
            note,
        } = self;
        let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let shown = |time: &Option<Duration>| time.map_or("-".to_owned(), millis);
        let [before, after, recovery] = [&added.before, &added.after, recovery].map(shown);
        write!(
            f,
            "{fault:<36} {checked:>8} {wrong:>5} {errors:>6} {before:>10} {after:>10} {dials:>5} \
             {recovery:>10}  {note}"
        )
    }
}

impl Report {
    /// What the columns mean.
    #[allow(dead_code, reason = "for the long suite")]
    pub(crate) fn heading() -> String {
        format!(
            "{:<36} {:>8} {:>5} {:>6} {:>10} {:>10} {:>5} {:>10}",
            "fault", "checked", "wrong", "errors", "p99 before", "p99 after", "dials", "recovery"
        )
    }
}

const BUDGET: Duration = Duration::from_millis(50);

/// What a loaded machine may add to it.
const SLACK: Duration = Duration::from_millis(400);
