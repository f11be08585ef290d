//! One fetch for all instances, by a lease in the shared store.
#![allow(clippy::disallowed_methods, reason = "tests start their own tasks")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get as route;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_response_cache::{Cache, CacheConfig, CacheConfigBuilder, CacheLayer};

use crate::support::eventually;
use crate::support::handler::{Cached, Script, content, fresh, get, with};
use crate::support::proxy::{Mode, Proxy};
use crate::support::valkey::Valkey;
use crate::support::wire::serve;

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(url: String) -> CacheConfigBuilder {
    CacheConfig::builder()
        .url(url)
        .operation_timeout(Duration::from_secs(2))
        .lease(true)
}

/// Instances that have connected and read the purge log.
async fn instances(count: usize, settings: &CacheConfigBuilder) -> Vec<CacheLayer> {
    let mut layers = Vec::new();
    for _ in 0..count {
        let cache = Cache::new(settings.clone().build().unwrap());
        eventually("it answers", PATIENCE, || async {
            cache.ping().await.is_ok()
        })
        .await;
        layers.push(CacheLayer::new(cache));
    }
    layers
}

fn slow(layer: &CacheLayer, directives: &'static str) -> Cached {
    Cached::new(layer, move |_, _| async move {
        sleep(Duration::from_millis(100)).await;
        Ok(with(directives, Script::whole("x")))
    })
}

async fn at_once(instances: &[Cached], requests: usize) {
    let mut tasks = JoinSet::new();
    for request in 0..requests {
        let cached = instances[request % instances.len()].clone();
        tasks.spawn(async move { content(cached.send(get("/")).await?).await });
    }
    for text in tasks.join_all().await {
        assert_eq!(text.unwrap(), "x");
    }
}

fn calls(instances: &[Cached]) -> usize {
    instances.iter().map(Cached::calls).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_cold_requests_at_two_instances_call_one_handler_once() {
    let server = Valkey::start();
    for memory in [64 << 20, 0] {
        let settings = settings(server.url()).memory_bytes(memory);
        let settings = settings.prefix(format!("memory-{memory}"));
        let layers = instances(2, &settings).await;
        let cached: Vec<_> = layers
            .iter()
            .map(|layer| slow(layer, "max-age=60"))
            .collect();
        at_once(&cached, 1000).await;
        assert_eq!(calls(&cached), 1, "with {memory} bytes of memory");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_store_each_instance_calls_its_handler_once() {
    let server = Valkey::reserve();
    let settings = settings(server.url()).operation_timeout(Duration::from_millis(50));
    let cached: Vec<_> = (0..2)
        .map(|_| CacheLayer::new(settings.clone().build().unwrap()))
        .map(|layer| slow(&layer, "max-age=60"))
        .collect();
    at_once(&cached, 1000).await;
    assert_eq!((cached[0].calls(), cached[1].calls()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_given_back_once_the_entry_can_be_seen() {
    let server = Valkey::start();
    let layers = instances(1, &settings(server.url())).await;
    let go = Arc::new(Notify::new());
    let cached = {
        let go = Arc::clone(&go);
        Cached::new(&layers[0], move |_, _| {
            let go = Arc::clone(&go);
            async move {
                go.notified().await;
                Ok(fresh(Script::whole("x")))
            }
        })
    };
    // The server notes each command.
    for (setting, value) in [("log-slower-than", "0"), ("max-len", "10000")] {
        server.command(&["CONFIG", "SET", &format!("slowlog-{setting}"), value]);
    }
    for number in 0..20 {
        let cached = cached.clone();
        let path = format!("/{number}");
        let asked = tokio::spawn(async move { cached.text(&path).await });
        eventually("the lease is taken", PATIENCE, || async {
            server.command(&["KEYS", "*lease*"]).contains("lease")
        })
        .await;
        go.notify_one();
        assert_eq!(asked.await.unwrap().0, "x");
        eventually("it is given back", Duration::from_secs(2), || async {
            let keys = server.command(&["KEYS", "trc:[0-9l]*"]);
            keys.lines().count() == number + 1 && !keys.contains("lease")
        })
        .await;
    }
    // The newest first.
    let commands = server.command(&["SLOWLOG", "GET", "-1"]);
    let last = |name: &str| commands.lines().position(|line| line == name).unwrap();
    for entry in server.command(&["KEYS", "trc:[0-9]*"]).lines() {
        let (_, hash) = entry.rsplit_once(':').unwrap();
        let lease = format!("trc:lease:{hash}");
        assert!(last(&lease) < last(entry), "{entry} came later");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_ever_for_an_instance_that_is_gone() {
    let server = Valkey::start();
    let settings = settings(server.url()).follower_wait(Duration::from_millis(700));
    let layers = instances(2, &settings).await;
    let stuck = Cached::new(&layers[0], |_, _| std::future::pending());
    let other = slow(&layers[1], "max-age=60");
    let stuck = tokio::spawn(async move { stuck.get("/").await.map(drop) });
    eventually("the lease is taken", PATIENCE, || async {
        server.command(&["KEYS", "*lease*"]).contains("lease")
    })
    .await;
    let began = Instant::now();
    at_once(std::slice::from_ref(&other), 20).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    stuck.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_fails_lets_the_other_instance_go_on() {
    let server = Valkey::start();
    let layers = instances(2, &settings(server.url())).await;
    let failing = Cached::new(&layers[0], |_, _| async {
        sleep(Duration::from_millis(200)).await;
        Err("the handler failed".into())
    });
    let other = slow(&layers[1], "max-age=60");
    let failing = tokio::spawn(async move { failing.get("/").await.map(drop) });
    eventually("the lease is taken", PATIENCE, || async {
        server.command(&["KEYS", "*lease*"]).contains("lease")
    })
    .await;
    let began = Instant::now();
    other.text("/").await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(failing.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_fetched_by_all_instances_at_once_from_then_on() {
    let server = Valkey::start();
    let layers = instances(2, &settings(server.url())).await;
    // From the second call of each on, a handler answers once all hundred have been called.
    let together = Arc::new(tokio::sync::Barrier::new(100));
    let handler = |layer: &CacheLayer| {
        let together = Arc::clone(&together);
        Cached::new(layer, move |call, _| {
            let together = Arc::clone(&together);
            async move {
                if call > 0 {
                    together.wait().await;
                }
                Ok(with("no-store", Script::whole("x")))
            }
        })
    };
    let cached: Vec<_> = layers.iter().map(handler).collect();
    for each in &cached {
        at_once(std::slice::from_ref(each), 1).await;
    }
    let all = at_once(&cached, 100);
    let all = tokio::time::timeout(PATIENCE, all).await;
    assert!(all.is_ok(), "some waited for others");
    assert_eq!(calls(&cached), 102);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_takes_what_another_has_refreshed() {
    let server = Valkey::start();
    let clock = tower_response_cache::TestClock::default();
    let settings = settings(server.url()).clock(clock.clone());
    for lease in [true, false] {
        let settings = settings
            .clone()
            .lease(lease)
            .prefix(format!("lease-{lease}"));
        let layers = instances(2, &settings).await;
        let stale = "max-age=10, stale-while-revalidate=600";
        let cached: Vec<_> = layers.iter().map(|layer| slow(layer, stale)).collect();
        cached[0].text("/").await;
        eventually("the other has it", PATIENCE, || async {
            cached[1].text("/").await.1.contains("; hit")
        })
        .await;
        clock.advance(Duration::from_secs(11));
        // Within the bound for which entries are trusted, both are stale now.
        let calls_before = calls(&cached);
        for cached in &cached {
            eventually("it is fresh again", PATIENCE, || async {
                let (_, status) = cached.text("/").await;
                status.contains("; hit") && !status.contains("stale")
            })
            .await;
            // What the first has refreshed is written behind its responses.
            eventually("it is written", PATIENCE, || async {
                !server.command(&["KEYS", "*:3:*"]).is_empty()
            })
            .await;
        }
        assert!(calls(&cached) - calls_before <= 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_saves_no_one_from_a_purge() {
    let server = Valkey::start();
    let layers = instances(1, &settings(server.url())).await;
    let cached = Cached::new(&layers[0], |call, _| async move {
        Ok(fresh(Script::whole(format!("version {call}"))))
    });
    assert_eq!(cached.text("/").await.0, "version 0");
    let everything = tower_response_cache::Purge::everything();
    layers[0].cache().purge(everything).await.unwrap();
    assert_eq!(cached.text("/").await.0, "version 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cold_requests_at_two_processes_call_the_origin_once() {
    let valkey = Valkey::start();
    let origin = Slow::start().await;
    let url = valkey.tcp_url();
    let proxies = [Process::start(&origin, &url), Process::start(&origin, &url)];
    // Once for each, so that both have connected and read the log.
    for (number, proxy) in proxies.iter().enumerate() {
        assert_eq!(proxy.get(&format!("/warm/{number}")).await, StatusCode::OK);
    }
    for round in 0..3 {
        let before = origin.calls();
        all_at_once(&proxies, &format!("/cold/{round}")).await;
        assert_eq!(origin.calls() - before, 1, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_each_process_calls_the_origin_once() {
    let mut valkey = Valkey::start();
    let origin = Slow::start().await;
    let url = valkey.tcp_url();
    let proxies = [Process::start(&origin, &url), Process::start(&origin, &url)];
    for (number, proxy) in proxies.iter().enumerate() {
        assert_eq!(proxy.get(&format!("/warm/{number}")).await, StatusCode::OK);
    }
    valkey.kill();
    for round in 0..3 {
        let before = origin.calls();
        all_at_once(&proxies, &format!("/cold/{round}")).await;
        let calls = origin.calls() - before;
        assert!((1..=2).contains(&calls), "{calls} in round {round}");
    }
}

/// A thousand requests for one path, spread over the processes.
async fn all_at_once(proxies: &[Process], path: &str) {
    let mut requests = JoinSet::new();
    for number in 0..1000 {
        let proxy = &proxies[number % proxies.len()];
        let (client, request) = (proxy.client.clone(), proxy.request(path));
        requests.spawn(async move {
            let response = client.request(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, body)
        });
    }
    for (status, body) in requests.join_all().await {
        assert_eq!((status, &*body), (StatusCode::OK, &b"slow"[..]));
    }
}

/// An origin that takes its time and counts its calls.
struct Slow {
    calls: Arc<AtomicU64>,
    address: std::net::SocketAddr,
}

impl Slow {
    async fn start() -> Self {
        let calls = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&calls);
        let handler = move || {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(300)).await;
                ([(header::CACHE_CONTROL, "max-age=600")], "slow")
            }
        };
        let app = Router::new().route("/{kind}/{number}", route(handler));
        let address = serve(app).await;
        Self { calls, address }
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

/// The example `reverse_proxy` in a process of its own, on a free port; killed on drop.
struct Process {
    child: Child,
    /// Kept open for what else it prints.
    _stdout: BufReader<ChildStdout>,
    base: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Process {
    fn start(origin: &Slow, store: &str) -> Self {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
        let program = profile.join("examples/reverse_proxy");
        assert!(
            program.is_file(),
            "{} is not built: cargo build --all-features --example reverse_proxy",
            program.display()
        );
        let origin = format!("http://{}", origin.address);
        let mut child = Command::new(program)
            .env_clear()
            .args(["--listen", "127.0.0.1:0", "--origin", &origin])
            // Patience: a busy machine is no fault of the store's.
            .args(["--store", store, "--operation-timeout", "2s", "--lease"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("listening on ");
        let base = base.and_then(|line| line.split(' ').next());
        Self {
            base: base.unwrap_or_else(|| panic!("{line}")).to_owned(),
            child,
            _stdout: stdout,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// For the host that both are reached by, as behind a load balancer.
    fn request(&self, path: &str) -> Request<Empty<Bytes>> {
        Request::get(format!("{}{path}", self.base))
            .header(header::HOST, "shop.example")
            .body(Empty::new())
            .unwrap()
    }

    async fn get(&self, path: &str) -> StatusCode {
        let response = self.client.request(self.request(path)).await.unwrap();
        response.status()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[tokio::test]
async fn a_store_that_falls_silent_costs_one_operation_timeout_with_a_lease_too() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    let settings = settings(server.tcp_url_at(proxy.port()));
    let layer = instances(1, &settings).await.remove(0);
    let cached = Cached::new(&layer, |_, _| async { Ok(fresh(Script::whole("x"))) });
    proxy.set(Mode::Mute);
    let started = Instant::now();
    assert_eq!(cached.text("/").await.0, "x");
    let took = started.elapsed();
    assert!(took < Duration::from_millis(3500), "{took:?}");
}
