//! Several instances on one real server, also while it fails.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::header::{CACHE_CONTROL, VARY};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_response_cache::{CacheConfig, CacheConfigBuilder, CacheLayer, Purge, TestClock};

use crate::support::eventually;
use crate::support::logs::Logs;
use crate::support::valkey::Valkey;

#[tokio::test]
async fn what_one_instance_stored_is_the_other_s_first_hit() {
    let server = Valkey::start();
    let (one, other) = (Instance::on(&server.url()), Instance::on(&server.url()));
    assert!(one.get("/").await.status.contains("stored"));
    until_stored(&server, 1).await;

    let first = other.get("/").await;
    assert!(first.is_hit(), "{first:?}");
    assert_eq!(first.body, "call 1 of /");
    assert_eq!((one.calls(), other.calls()), (1, 0));
}

#[tokio::test]
async fn variants_are_shared_too() {
    let server = Valkey::start();
    let (one, other) = (Instance::on(&server.url()), Instance::on(&server.url()));
    one.get_in("de").await;
    // The variant, and what tells how the resource varies.
    until_stored(&server, 2).await;
    let first = other.get_in("de").await;
    assert!(first.is_hit(), "{first:?}");
    assert!(!other.get_in("en").await.is_hit());
}

#[tokio::test]
async fn applications_with_other_prefixes_share_nothing() {
    let server = Valkey::start();
    let one = Instance::on(&server.url());
    let other = Instance::new(config(&server.url()).prefix("other"));
    one.get("/").await;
    until_stored(&server, 1).await;
    assert!(!other.get("/").await.is_hit());
}

#[tokio::test]
async fn an_entry_that_was_copied_under_another_prefix_is_not_served() {
    let server = Valkey::start();
    let one = Instance::on(&server.url());
    let other = Instance::new(config(&server.url()).prefix("other"));
    one.get("/").await;
    until_stored(&server, 1).await;
    let name = stored_names(&server).remove(0);
    let (_prefix, rest) = name.split_once(':').unwrap();
    let copy = format!("other:{rest}");
    assert_eq!(server.command(&["COPY", &name, &copy]), "1");
    let asked = other.get("/").await;
    assert!(!asked.is_hit(), "{asked:?}");
    assert_eq!(other.layer.cache().statistics().corrupt_values, 1);
}

#[tokio::test]
async fn a_value_whose_time_to_live_was_taken_away_expires_all_the_same() {
    let server = Valkey::start();
    let clock = TestClock::default();
    let of = |clock: &TestClock| {
        let config = config(&server.url()).memory_bytes(0).clock(clock.clone());
        Instance::new(config)
    };
    let one = of(&clock);
    one.get("/").await;
    until_stored(&server, 1).await;
    let name = stored_names(&server).remove(0);
    assert_eq!(server.command(&["PERSIST", &name]), "1");
    assert!(one.get("/").await.is_hit());
    let year = Duration::from_secs(365 * 24 * 3600);
    clock.advance(3 * year);
    let other = of(&clock);
    let late = other.get("/").await;
    assert!(!late.is_hit(), "{late:?}");
    assert_eq!(late.body, "call 1 of /");
    assert_eq!(other.layer.cache().statistics().untimely_values, 1);
}

#[tokio::test]
async fn every_key_has_a_time_to_live_but_the_log_and_no_command_looks_at_all_keys() {
    let server = Valkey::start();
    server.command(&["CONFIG", "RESETSTAT"]);
    let (one, other) = (Instance::on(&server.url()), Instance::on(&server.url()));
    for instance in [&one, &other] {
        instance.get("/").await;
        instance.get_in("de").await;
        let cache = instance.layer.cache();
        cache
            .set("value", "v", Duration::from_secs(60))
            .await
            .unwrap();
        cache.readiness().await;
        cache.purge(Purge::tag("t")).await.unwrap();
        instance.get("/after").await;
        assert!(cache.shutdown(PATIENCE).await);
    }
    let stats = server.command(&["INFO", "commandstats"]);
    let used = stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
    let known = [
        "get",
        "set",
        "unlink",
        "ping",
        "xadd",
        "xread",
        "xinfo|stream",
        "xrange",
        "role",
        "hello",
        "client|setinfo",
        "select",
    ];
    // Those of this test.
    let own = ["info", "config|resetstat"];
    for command in used {
        assert!(
            known.contains(&command) || own.contains(&command),
            "{command}"
        );
    }
    let keys = server.command(&["KEYS", "*"]);
    assert!(keys.lines().count() >= 4, "{keys}");
    for key in keys.lines().filter(|key| !key.contains(":log")) {
        let left: i64 = server.command(&["PTTL", key]).parse().unwrap();
        assert!(left > 0, "{key}: {left}");
    }
}

#[tokio::test]
async fn a_value_that_is_not_as_it_was_written_is_a_miss() {
    let server = Valkey::start();
    let writer = Instance::on(&server.url());
    writer.get("/").await;
    until_stored(&server, 1).await;
    let name = stored_names(&server).remove(0);
    let good = server.command(&["STRLEN", &name]).parse::<usize>().unwrap();
    // A copy of another resource's value under this one's name.
    writer.get("/other").await;
    until_stored(&server, 2).await;
    let other = stored_names(&server).into_iter().find(|it| *it != name);
    let other = other.unwrap();

    let half = (good / 2).to_string();
    let last = (good - 1).to_string();
    let damages: [(&str, &[&[&str]]); 10] = [
        (UNDAMAGED, &[]),
        ("empty", &[&["SET", &name, ""]]),
        ("foreign", &[&["SET", &name, "hello"]]),
        ("a foreign magic", &[&["SETRANGE", &name, "0", "x"]]),
        ("an older version", &[&["SETRANGE", &name, "3", "\0"]]),
        ("a newer version", &[&["SETRANGE", &name, "3", "\x7e"]]),
        ("a changed body", &[&["SETRANGE", &name, &last, "!"]]),
        ("a changed middle", &[&["SETRANGE", &name, &half, "\x7f"]]),
        ("something after it", &[&["APPEND", &name, "x"]]),
        ("another's value", &[&["COPY", &other, &name, "REPLACE"]]),
    ];
    for (what, commands) in damages {
        let keeper = Instance::on(&server.url());
        keeper.restore(&server, &name).await;
        for command in commands {
            let reply = server.command(command);
            assert!(!reply.starts_with('-'), "{what}: {reply}");
        }
        let reader = Instance::on(&server.url());
        let seen = reader.get("/").await;
        assert_eq!(seen.is_hit(), what == UNDAMAGED, "{what}: {seen:?}");
        assert_eq!(seen.body, "call 1 of /", "{what}");
        assert_eq!(reader.calls(), u64::from(what != UNDAMAGED), "{what}");
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_a_miss() {
    let server = Valkey::start();
    let writer = Instance::on(&server.url());
    writer.get("/").await;
    until_stored(&server, 1).await;
    let name = stored_names(&server).remove(0);
    server.command(&["DEL", &name]);
    server.command(&["RPUSH", &name, "a", "b"]);
    let reader = Instance::on(&server.url());
    let seen = reader.get("/").await;
    assert_eq!(seen.code, StatusCode::OK);
    assert!(!seen.is_hit(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_under_load_costs_no_response_and_hits_return() {
    let mut server = Valkey::start();
    // Without memory every hit needs the server, and an instance would not notice it gone.
    let instance = Arc::new(Instance::new(config(&server.url()).memory_bytes(0)));
    instance.get("/0").await;
    eventually("the first hit", PATIENCE, || async {
        instance.get("/0").await.is_hit()
    })
    .await;

    let load = Load::start(&instance);
    load.more(200).await;
    server.kill();
    load.more(500).await;
    server.start_again();
    let took = eventually("hits again", PATIENCE, || async {
        instance.get("/0").await.is_hit()
    })
    .await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    load.more(200).await;
    let slowest = load.stop().await;
    // The operation timeout of these tests, and what a busy machine adds.
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
}

#[tokio::test]
async fn a_wrong_password_costs_sharing_only_and_is_never_shown() {
    let logs = Logs::capture();
    let server = Valkey::start_with_password("right");
    let url = server.tcp_url().replace("right", "hunter2");
    let instance = Instance::on(&url);
    let seen = instance.get("/").await;
    assert_eq!(seen.code, StatusCode::OK);
    assert!(!seen.is_hit());
    assert!(instance.get("/").await.is_hit(), "memory works");
    eventually("a line", PATIENCE, || ready(!logs.lines().is_empty())).await;

    let shown = format!("{:?} {:?}", logs.lines(), instance.layer.cache());
    assert!(shown.contains("lost"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(instance.layer.cache().ping().await.is_err());
    assert_eq!(server.command(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn an_instance_starts_without_its_server_and_shares_once_it_is_there() {
    let mut server = Valkey::reserve();
    let started = Instant::now();
    let instance = Instance::on(&server.url());
    for path in ["/0", "/1", "/2"] {
        let seen = instance.get(path).await;
        assert_eq!(seen.code, StatusCode::OK);
        assert!(!seen.is_hit());
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{started:?}");

    server.start_again();
    let store = instance.layer.cache();
    eventually("a connection", PATIENCE, || async {
        store.ping().await.is_ok()
    })
    .await;
    instance.get("/3").await;
    until_stored(&server, 1).await;
    let other = Instance::on(&server.url());
    assert!(other.get("/3").await.is_hit());
}

#[tokio::test]
async fn the_documented_access_rules_are_enough() {
    let server = Valkey::start();
    let manual = include_str!("../../docs/operations.md");
    let (_, rules) = manual.split_once("ACL SETUSER shop").unwrap();
    let (rules, _) = rules.split_once("```").unwrap();
    let mut words = vec!["ACL", "SETUSER", "shop"];
    words.extend(rules.split_whitespace().filter(|word| *word != "\\"));
    assert_eq!(server.command(&words), "OK");

    let url = server.tcp_url().replace("//", "//shop:SECRET@");
    let (one, other) = (Instance::on(&url), Instance::on(&url));
    one.get("/").await;
    until_stored(&server, 1).await;
    assert!(other.get("/").await.is_hit());
    let cache = one.layer.cache();
    cache.ping().await.unwrap();
    cache.purge(Purge::path("/")).await.unwrap();
    eventually("the purge", PATIENCE, || async {
        !other.get("/").await.is_hit()
    })
    .await;
    one.ask(Request::delete("/")).await;
    let replicated = cache.purge(Purge::path("/").replicas(1)).await;
    assert_eq!(replicated.unwrap_err().acknowledged(), Some(0));
    // Long enough for the log's reader to have asked all that it ever asks.
    cache.purge(Purge::path("/")).await.unwrap();
    eventually("the role", PATIENCE, || {
        ready(
            server
                .command(&["INFO", "commandstats"])
                .contains("cmdstat_role"),
        )
    })
    .await;
    assert_eq!(server.command(&["ACL", "LOG"]), "");
}

/// The layer around a handler, as in a process of its own.
struct Instance {
    layer: CacheLayer,
    calls: Arc<AtomicU64>,
}

impl Instance {
    fn on(url: &str) -> Self {
        Self::new(config(url))
    }

    fn new(config: CacheConfigBuilder) -> Self {
        Self {
            layer: CacheLayer::new(config.build().unwrap()),
            calls: Arc::default(),
        }
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    async fn get(&self, path: &str) -> Seen {
        self.ask(Request::get(path)).await
    }

    async fn get_in(&self, language: &str) -> Seen {
        self.ask(Request::get("/").header("accept-language", language))
            .await
    }

    async fn ask(&self, request: http::request::Builder) -> Seen {
        let calls = Arc::clone(&self.calls);
        let inner = tower::service_fn(move |request: Request<Body>| {
            let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
            let body = format!("call {call} of {}", request.uri());
            let mut response = Response::builder().header(CACHE_CONTROL, "max-age=600");
            if request.headers().contains_key("accept-language") {
                response = response.header(VARY, "accept-language");
            }
            ready(
                response
                    .body(Body::from(body))
                    .map_err(|_bad| unreachable!()),
            )
        });
        let request = request.body(Body::empty()).unwrap();
        let response: Result<_, Infallible> = self.layer.layer(inner).oneshot(request).await;
        Seen::of(response.unwrap()).await
    }

    /// Writes `/` anew under `name`.
    async fn restore(&self, server: &Valkey, name: &str) {
        server.command(&["DEL", name]);
        self.get("/").await;
        eventually("the value is back", PATIENCE, || {
            ready(server.command(&["EXISTS", name]) == "1")
        })
        .await;
    }
}

/// A patient client: these tests are about what happens, not about how fast.
fn config(url: &str) -> CacheConfigBuilder {
    CacheConfig::builder()
        .url(url)
        .operation_timeout(Duration::from_secs(1))
}

fn stored_names(server: &Valkey) -> Vec<String> {
    let names = server.command(&["KEYS", "*"]);
    let names = names.lines().filter(|name| !name.contains(":log"));
    names.map(str::to_owned).collect()
}

async fn until_stored(server: &Valkey, records: usize) {
    eventually("write-behind", PATIENCE, || {
        ready(stored_names(server).len() == records)
    })
    .await;
}

/// Several clients that ask for several things, for ever.
struct Load {
    answered: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Duration>>,
}

impl Load {
    fn start(instance: &Arc<Instance>) -> Self {
        let answered = Arc::<AtomicU64>::default();
        let ended = Arc::<AtomicBool>::default();
        let client = |number: u64| {
            let (instance, answered, ended) = (
                Arc::clone(instance),
                Arc::clone(&answered),
                Arc::clone(&ended),
            );
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                while !ended.load(Ordering::SeqCst) {
                    let path = format!("/{}", number % 3);
                    let asked = Instant::now();
                    let seen = instance.get(&path).await;
                    slowest = slowest.max(asked.elapsed());
                    assert_eq!(seen.code, StatusCode::OK);
                    assert!(seen.body.ends_with(&format!("of {path}")), "{seen:?}");
                    answered.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
                slowest
            })
        };
        Self {
            clients: (0..8).map(client).collect(),
            answered,
            ended,
        }
    }

    /// Waits for so many more responses.
    async fn more(&self, responses: u64) {
        let until = self.answered.load(Ordering::SeqCst) + responses;
        eventually("more responses", PATIENCE, || {
            ready(self.answered.load(Ordering::SeqCst) >= until)
        })
        .await;
    }

    /// The longest that any response took; none may have been anything but right.
    async fn stop(self) -> Duration {
        self.ended.store(true, Ordering::SeqCst);
        let mut slowest = Duration::ZERO;
        for client in self.clients {
            slowest = slowest.max(client.await.unwrap());
        }
        slowest
    }
}

/// A response as its client sees it.
#[derive(Debug)]
struct Seen {
    code: StatusCode,
    status: String,
    body: String,
}

impl Seen {
    async fn of<B>(response: Response<B>) -> Self
    where
        B: http_body::Body<Data = bytes::Bytes>,
        B::Error: std::fmt::Debug,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            code: head.status,
            status: head.headers["cache-status"].to_str().unwrap().to_owned(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    fn is_hit(&self) -> bool {
        self.status.contains("; hit")
    }
}

const UNDAMAGED: &str = "as it was written";

const PATIENCE: Duration = Duration::from_secs(20);
