//! A cache over a real server behind the faulty proxy, under load, every response checked.

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
use tower::{Layer, Service, service_fn};
use tower_response_cache::{
    BreakerState, Cache, CacheConfig, CacheLayer, Health, ResponseBody, StoreState,
};

use super::oracle::{Question, Tally, handle};
use super::report::{Added, Latencies, Report};
use crate::support::proxy::Proxy;
use crate::support::valkey::Valkey;

type App = BoxCloneSyncService<
    Request<Body>,
    http::Response<ResponseBody<Body>>,
    std::convert::Infallible,
>;

/// How long a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// The short form, for every day.
    Short,
    /// The long form, for a release.
    Long,
}

impl Scale {
    /// The value for this scale.
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
    /// The dials of the caches before this one.
    dials: u64,
}

/// How the clients behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    /// The pause between a client's requests.
    pub(crate) pause: Duration,
    /// The share of requests that are given up on the way.
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

/// Settings without a memory tier, so that each hit is one of the store.
pub(crate) fn config(url: &str) -> CacheConfig {
    CacheConfig::builder()
        .url(url)
        .memory_bytes(0)
        .build()
        .unwrap()
}

impl Rig {
    pub(crate) fn new(cache: Cache) -> Self {
        Self {
            app: over(&cache),
            cache,
            tally: Arc::default(),
            stop: Arc::default(),
            latencies: Arc::default(),
            clients: JoinSet::new(),
            dials: 0,
        }
    }

    /// Goes on with another cache, as if the process had been started again.
    pub(crate) fn renew(&mut self, cache: Cache) {
        self.dials = self.dials();
        self.app = over(&cache);
        self.cache = cache;
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
                asker: self.asker(),
                stop: Arc::clone(&self.stop),
                dice: fastrand::Rng::with_seed(client as u64),
                load,
            };
            self.clients.spawn(client.run());
        }
    }

    /// Sends a request and checks the response. Returns how long it took.
    pub(crate) async fn ask(&self, question: Question) -> Duration {
        self.asker().ask(question).await
    }

    fn asker(&self) -> Asker {
        Asker {
            cache: self.cache.clone(),
            app: self.app.clone(),
            tally: Arc::clone(&self.tally),
            latencies: Arc::clone(&self.latencies),
        }
    }

    /// The number of hits so far.
    pub(crate) fn hits(&self) -> u64 {
        self.tally.hits.load(Ordering::Relaxed)
    }

    /// The share of requests that hit, over some time.
    pub(crate) async fn hit_rate(&self, time: Duration) -> f64 {
        let count = || (self.hits(), self.tally.checked.load(Ordering::Relaxed));
        let before = count();
        sleep(time).await;
        let after = count();
        (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64
    }

    /// Waits until nine tenths of the former hit rate are back, and returns how long that took.
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

    /// What the cache has added to the 99th percentile of the bare handler since the last call.
    pub(crate) fn added(&self) -> Added {
        std::mem::take(&mut *self.latencies.lock().unwrap()).added()
    }

    pub(crate) fn health(&self) -> Option<Health> {
        use tower_response_cache::SharedStore;
        self.cache.valkey().map(|store| store.health())
    }

    fn dials(&self) -> u64 {
        self.dials + self.health().map_or(0, |health| health.dials)
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
            late,
            ..
        } = &*self.tally;
        Report {
            fault: fault.into(),
            checked: checked.load(Ordering::Relaxed),
            wrong: wrong.load(Ordering::Relaxed),
            errors: errors.load(Ordering::Relaxed),
            late: late.load(Ordering::Relaxed),
            added: self.added(),
            dials: self.dials(),
            ..Report::default()
        }
    }
}

/// Sends requests and checks the responses.
struct Asker {
    cache: Cache,
    app: App,
    tally: Arc<Tally>,
    latencies: Arc<Mutex<Latencies>>,
}

impl Asker {
    async fn ask(&mut self, question: Question) -> Duration {
        let spared = self.is_spared();
        let started = Instant::now();
        let response = self.app.call(question.request()).await;
        let took = started.elapsed();
        let response = response.unwrap_or_else(|never| match never {});
        self.tally.check(question, response, took).await;
        let started = Instant::now();
        let _bare = handle(question.request()).await;
        let mut latencies = self.latencies.lock().unwrap();
        latencies.bare.push(started.elapsed());
        match spared {
            true => latencies.after.push(took),
            false => latencies.before.push(took),
        }
        took
    }

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

struct Client {
    asker: Asker,
    stop: Arc<AtomicBool>,
    dice: fastrand::Rng,
    load: Load,
}

impl Client {
    async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let question = Question::random(&mut self.dice);
            if self.dice.f64() < self.load.given_up {
                let polls = self.dice.u8(1..6);
                give_up(self.asker.app.call(question.request()), polls).await;
            } else {
                self.asker.ask(question).await;
            }
            match self.load.pause.is_zero() {
                true => tokio::task::yield_now().await,
                false => sleep(self.load.pause).await,
            }
        }
    }
}

fn over(cache: &Cache) -> App {
    BoxCloneSyncService::new(CacheLayer::new(cache.clone()).layer(service_fn(handle)))
}

/// Polls a future a few times, when the runtime gets to it, and drops it.
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
