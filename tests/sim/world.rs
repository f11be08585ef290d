//! A world and its run: instances of the cache around one handler, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tower_layer::Layer;
use tower_response_cache::{
    BodyError, Cache, CacheConfig, CacheLayer, CookieRule, InProcessStore, Outage, Policy, Purge,
    QueryRule, SetCookieRule, TokioClock, ValueOptions, testing,
};

use crate::body::{NoBody, SimError};
use crate::client::{Session, exchange};
use crate::fields::{RESOURCES, path, tag};
use crate::handler::{AUTHORITY, Handler, Origin};
use crate::step::{
    Access, Act, Fault, Get, Memory, Purge as PurgeStep, Scenario, Sham, StoreFault, Value, What,
    World,
};
use crate::teeth;
use crate::trace::{Asked, PurgeDone, Recorder, Rest, Trace, ValueDone};

/// What a client sends its requests to.
pub type Service = BoxCloneSyncService<Request<NoBody>, Response<Content>, SimError>;

/// What it gives them to read.
pub type Content = UnsyncBoxBody<Bytes, BodyError>;

/// Runs a scenario to its end, on this thread and in no time.
pub fn run(scenario: &Scenario) -> Trace {
    testing::seed(scenario.world.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let recorder = Recorder::new();
        Running::begin(&scenario.world, recorder.clone())
            .run(scenario)
            .await;
        recorder.into_trace()
    })
}

struct Running {
    world: World,
    origin: Arc<Origin>,
    recorder: Recorder,
    store: Option<InProcessStore>,
    instances: Vec<Instance>,
    clients: JoinSet<()>,
    /// Since when the store has been well; `None` if it is not.
    well: Option<Instant>,
    /// The time of day, also for an instance that starts later.
    clock: TokioClock,
}

#[derive(Clone)]
struct Instance {
    cache: Cache,
    store: Option<InProcessStore>,
    service: Service,
    /// Through a layer with a namespace of its own.
    via: Service,
}

impl Running {
    fn begin(world: &World, recorder: Recorder) -> Self {
        let origin = Origin::new(recorder.clone(), world.keyed);
        let store = world.store.then(|| {
            let store = InProcessStore::new();
            store.seed(world.seed);
            if world.short_log {
                store.set_log_length(SHORT_LOG);
            }
            store
        });
        let clock = TokioClock::default();
        let instances = (0..world.instances())
            .map(|number| Instance::new(world, clock, number, store.as_ref(), &origin))
            .collect();
        Self {
            world: *world,
            origin,
            recorder,
            store,
            instances,
            clients: JoinSet::new(),
            well: Some(Instant::now()),
            clock,
        }
    }

    async fn run(mut self, scenario: &Scenario) {
        let began = Instant::now();
        for step in &scenario.steps {
            sleep_until(began + Duration::from_millis(step.at.into())).await;
            self.act(&step.act);
        }
        self.wait_for_clients().await;
        self.heal();
        // Longer than what another instance may not have heard of yet.
        sleep(Duration::from_secs(10)).await;
        self.probe().await;
        self.come_to_rest().await;
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Get(get) => {
                for _ in 0..=get.more {
                    let service = self.service(get.at, get.via);
                    self.send(service, Asked::Get(get));
                }
            }
            Act::Change(change) => {
                let service = self.service(change.at, change.via);
                self.send(service, Asked::Change(change));
            }
            Act::Purge(purge) => {
                let cache = self.instance(purge.at).cache.clone();
                self.clients
                    .spawn(send_purges(cache, purge, self.recorder.clone()));
            }
            Act::Mode(mode) => self.origin.set_mode(crate::step::Mode {
                r: mode.r % RESOURCES,
                ..mode
            }),
            Act::Touch(touch) => self.origin.touch(touch.r % RESOURCES),
            Act::Value(value) => {
                let cache = self.instance(value.at).cache.clone();
                let (origin, recorder) = (Arc::clone(&self.origin), self.recorder.clone());
                self.clients.spawn(access(cache, value, origin, recorder));
            }
            Act::Fault(fault) => {
                self.recorder
                    .note(|trace, now| trace.faults.push((now, fault)));
                self.fault(fault);
            }
        }
    }

    fn send(&mut self, service: Service, asked: Asked) {
        let asked = self.within_bounds(asked);
        let (origin, recorder) = (Arc::clone(&self.origin), self.recorder.clone());
        let keyed = self.world.keyed;
        self.clients.spawn(async move {
            exchange(service, asked, &origin, recorder, keyed).await;
        });
    }

    /// Instances and resources that there are.
    fn within_bounds(&self, asked: Asked) -> Asked {
        let number = |at: u8| at % (self.instances.len() as u8);
        match asked {
            Asked::Get(mut get) => {
                (get.at, get.r) = (number(get.at), get.r % RESOURCES);
                Asked::Get(get)
            }
            Asked::Change(mut change) => {
                (change.at, change.r) = (number(change.at), change.r % RESOURCES);
                Asked::Change(change)
            }
        }
    }

    fn instance(&self, at: u8) -> &Instance {
        &self.instances[usize::from(at) % self.instances.len()]
    }

    fn service(&self, at: u8, via: bool) -> Service {
        let instance = self.instance(at);
        if via {
            instance.via.clone()
        } else {
            instance.service.clone()
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault.what {
            StoreFault::Reboot => return self.reboot(fault.at),
            StoreFault::Heal => self.well = Some(Instant::now()),
            what if what.lasts() => self.well = None,
            _ => {}
        }
        let Some(store) = &self.store else {
            return;
        };
        let time = Duration::from_millis(fault.n.into());
        let link = self.instance(fault.at).store.as_ref().unwrap_or(store);
        match fault.what {
            StoreFault::Heal => self.heal_store(store),
            StoreFault::Full => store.set_full(true),
            StoreFault::Evict => {
                store.evict_any(fault.n.into());
            }
            StoreFault::EvictAll => store.keys().iter().for_each(|key| {
                store.evict(key);
            }),
            StoreFault::Lose => store.lose_writes(u64::from(fault.n).max(1)),
            StoreFault::Delay => store.delay_writes(time),
            StoreFault::Cut => link.cut_off(Outage::Refused),
            StoreFault::Silence => link.cut_off(Outage::Silent),
            StoreFault::LoseReplies => link.cut_off(Outage::RepliesLost),
            StoreFault::Restart => store.restart_empty(),
            StoreFault::Failover => store.lose_records(fault.n.max(1) as usize),
            StoreFault::Slow => store.set_latency(time),
            StoreFault::Cross => store.cross_next_read(),
            StoreFault::Reboot => {}
        }
    }

    /// What is under way at the old instance goes on.
    fn reboot(&mut self, at: u8) {
        let is_well = self.well.is_some_and(|since| since.elapsed() > ANNOUNCED);
        if is_well {
            let at = usize::from(at) % self.instances.len();
            let store = self.store.as_ref();
            self.instances[at] =
                Instance::new(&self.world, self.clock, at as u8, store, &self.origin);
        }
    }

    fn heal_store(&self, store: &InProcessStore) {
        store.set_full(false);
        store.lose_writes(0);
        store.delay_writes(Duration::ZERO);
        store.set_latency(Duration::ZERO);
        for instance in &self.instances {
            if let Some(link) = &instance.store {
                link.reconnect();
            }
        }
    }

    async fn wait_for_clients(&mut self) {
        let all = async { while self.clients.join_next().await.is_some() {} };
        // Whoever is not there by then is found by the oracle.
        let _ = timeout(Duration::from_secs(300), all).await;
    }

    fn heal(&self) {
        if let Some(store) = &self.store {
            self.heal_store(store);
            let fault = Fault {
                what: StoreFault::Heal,
                ..Fault::default()
            };
            self.recorder
                .note(|trace, now| trace.faults.push((now, fault)));
        }
    }

    /// Asks each instance for everything.
    async fn probe(&mut self) {
        for at in 0..self.instances.len() as u8 {
            for r in 0..RESOURCES {
                let get = Get {
                    at,
                    r,
                    ..Get::default()
                };
                let service = self.service(at, false);
                self.send(service, Asked::Get(get));
            }
        }
        self.wait_for_clients().await;
    }

    async fn come_to_rest(self) {
        let Self {
            recorder,
            instances,
            store,
            clients,
            ..
        } = self;
        drop(clients);
        // As long as a response is fetched for nobody.
        sleep(FILL_DEADLINE * 2).await;
        for instance in &instances {
            let statistics = instance.cache.statistics();
            let outcomes = &statistics.responses.outcomes;
            let rest = Rest {
                flights: statistics.flights,
                fill_bytes: statistics.fill_bytes,
                counted: outcomes.iter().map(|(_, count)| count).sum(),
            };
            recorder.note(|trace, _| trace.ends.push(rest));
        }
        drop((instances, store));
        sleep(FILL_DEADLINE * 2).await;
        let left = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        recorder.note(|trace, _| trace.tasks_left = left);
    }
}

impl Instance {
    fn new(
        world: &World,
        clock: TokioClock,
        number: u8,
        store: Option<&InProcessStore>,
        origin: &Arc<Origin>,
    ) -> Self {
        let store = store.map(InProcessStore::instance);
        let skew = u64::from(world.skew.min(30)) * u64::from(number);
        let clock = clock.behind(Duration::from_secs(skew));
        let config = config(world, clock);
        let cache = match &store {
            Some(store) => Cache::with_store(config, Arc::new(store.clone())),
            None => Cache::new(config),
        };
        let handler = Handler {
            origin: Arc::clone(origin),
            instance: number,
        };
        let layer = |namespace| CacheLayer::new(cache.clone()).policy(policy(world, namespace));
        let service = layer("").layer(handler.clone());
        let via = layer("other").layer(handler);
        let service = match world.nested {
            true => boxed(
                CacheLayer::new(cache.clone())
                    .policy(careless())
                    .layer(service),
            ),
            false => boxed(service),
        };
        let service = match world.sham {
            Sham::None | Sham::NeverHits => service,
            sham => teeth::sham(sham, service),
        };
        Self {
            via: boxed(via),
            service,
            cache,
            store,
        }
    }
}

fn boxed<S, B>(service: S) -> Service
where
    S: tower_service::Service<Request<NoBody>, Response = Response<B>, Error = SimError>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static,
{
    BoxCloneSyncService::new(
        service.map_response(|it: Response<B>| it.map(|body| body.boxed_unsync())),
    )
}

fn config(world: &World, clock: TokioClock) -> CacheConfig {
    let mut config = CacheConfig::builder()
        .clock(clock)
        .lease(world.lease)
        .fill_deadline(FILL_DEADLINE);
    config = match world.memory {
        Memory::Plenty => config,
        Memory::Small => config.memory_bytes(SMALL).max_body(SMALL / 4 * 3),
        Memory::Middling => config.memory_bytes(MIDDLING).max_body(MIDDLING / 4 * 3),
        Memory::Off => config.memory_bytes(0),
    };
    if world.two_variants {
        config = config.max_variants(2);
    }
    if world.short_log {
        config = config.purge_log_length(SHORT_LOG);
    }
    if world.tight {
        config = config.max_body(TIGHT).fill_bytes(TIGHT);
    }
    config.build().unwrap()
}

fn policy(world: &World, namespace: &str) -> Policy {
    let mut policy = Policy::builder()
        .namespace(namespace)
        .ignore_cookies(["theme"])
        .credentials_in::<Session>()
        .strip_tags(world.strip);
    if world.keyed {
        policy = policy.key_cookies(["sid"]);
    }
    if world.query {
        policy = policy.query(QueryRule::Except(vec!["utm_*".into()]));
    }
    if world.sham == Sham::NeverHits {
        policy = policy.bypass_if(|_| true);
    }
    if world.picky {
        let draft = HeaderName::from_static("x-draft");
        policy = policy.store_if(move |_, response| !response.headers.contains_key(&draft));
    }
    policy.build().unwrap()
}

/// The policy of a layer around the others, which would keep whatever it could: none of it may.
fn careless() -> Policy {
    let policy = Policy::builder()
        .forced_ttl(Duration::from_secs(3600))
        .stale_while_revalidate(Duration::from_secs(3600))
        .cookies(CookieRule::Ignore)
        .set_cookie(SetCookieRule::StoreForEveryone);
    policy.build().unwrap()
}

async fn send_purges(cache: Cache, purge: PurgeStep, recorder: Recorder) {
    for _ in 0..=purge.more {
        let place = recorder.note(|trace, began| {
            trace.purges.push(PurgeDone {
                purge,
                began,
                ended: None,
            });
            trace.purges.len() - 1
        });
        let succeeded = cache.purge(as_purge(&purge)).await.is_ok();
        recorder.note(|trace, now| trace.purges[place].ended = Some((now, succeeded)));
    }
}

fn as_purge(step: &PurgeStep) -> Purge {
    let uri = |text: String| Purge::uri(&text.parse().unwrap()).unwrap();
    let page = path(step.r);
    let mark = if page.contains('?') { '&' } else { '?' };
    let purge = match step.what {
        What::Tag => Purge::tag(tag(step.r)),
        What::Uri => uri(page),
        What::Full => uri(format!("http://{AUTHORITY}{page}")),
        What::Https => uri(format!("https://{AUTHORITY}{page}")),
        What::Utm => uri(format!("{page}{mark}utm_source=x")),
        What::Path => Purge::path("/shop"),
        What::Everything => Purge::everything(),
        What::Empty => Purge::tags(Vec::<String>::new()),
        What::Unrelated => Purge::tag("unrelated"),
    };
    if step.soft { purge.soft() } else { purge }
}

async fn access(cache: Cache, value: Value, origin: Arc<Origin>, recorder: Recorder) {
    let place = recorder.note(|trace, began| {
        trace.values.push(ValueDone {
            value,
            began,
            ended: None,
            version: None,
            succeeded: false,
        });
        trace.values.len() - 1
    });
    let name = format!("value of {}", tag(value.r));
    let options = ValueOptions::ttl(Duration::from_secs(60)).tag(tag(value.r));
    let number = |bytes: Bytes| std::str::from_utf8(&bytes).ok()?.parse::<u32>().ok();
    let make = || async {
        let version = origin.version(value.r);
        sleep(Duration::from_millis(value.delay.into())).await;
        version.to_string()
    };
    let (version, succeeded) = match value.what {
        Access::Get => (cache.get(&name).await.and_then(number), true),
        Access::GetOrSet => {
            let made = cache
                .get_or_set_with(&name, options, async || Ok::<_, SimError>(make().await))
                .await;
            (made.ok().and_then(number), true)
        }
        Access::Set => {
            let text = make().await;
            let version = text.parse().ok();
            (version, cache.set(&name, text, options).await.is_ok())
        }
        Access::Remove => (None, cache.remove(&name).await.is_ok()),
    };
    recorder.note(|trace, now| {
        let done = &mut trace.values[place];
        (done.ended, done.version, done.succeeded) = (Some(now), version, succeeded);
    });
}

/// How long a response is fetched that nobody waits for any more.
const FILL_DEADLINE: Duration = Duration::from_secs(12);

/// Some eight pages.
const SMALL: u64 = 16 << 10;
const MIDDLING: u64 = 1 << 20;
const TIGHT: u64 = 4 << 10;
const SHORT_LOG: usize = 16;

/// How soon what could not be announced is, once the store is well.
const ANNOUNCED: Duration = Duration::from_secs(3);
