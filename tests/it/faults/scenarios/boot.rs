//! A server that cannot be used when the application starts.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tower_response_cache::{Cache, CacheConfig, CacheLayer};

use super::throughput::Client;
use super::{begin, suffer};
use crate::faults::report::Report;
use crate::faults::rig::{Scale, fronted};
use crate::support::proxy::Mode;
use crate::support::valkey::Valkey;

/// A cache whose server cannot be used from the start, and can later.
pub(crate) async fn down_at_boot(scale: Scale) -> Vec<Report> {
    let mut reports = Vec::new();
    for (name, mode) in [
        ("boot: refused", Mode::Refuse),
        ("boot: mute", Mode::Mute),
        ("boot: too many clients", Mode::Crowded(0)),
        (
            "boot: loading",
            Mode::Answer(&["HELLO", "PING"], "-LOADING wait\r\n".into()),
        ),
    ] {
        let (server, proxy) = fronted().await;
        proxy.set(mode);
        let rig = begin(&server.tcp_url_at(proxy.port()));
        let added = suffer(&rig, scale).await;
        proxy.set(Mode::Forward);
        let recovery = rig.recovery(0.7).await;
        reports.push(Report {
            added,
            recovery: Some(recovery),
            ..rig.finish(name).await
        });
    }
    let server = Valkey::start_with_password("right");
    let wrong = server.tcp_url().replace("right", "wrong");
    let nowhere = "valkey://does-not-exist.invalid:6379";
    let rig = begin(nowhere);
    reports.push(Report {
        added: suffer(&rig, scale).await,
        ..rig.finish("boot: name not found").await
    });
    let rig = begin(&wrong);
    let added = suffer(&rig, scale).await;
    server.command(&["CONFIG", "SET", "requirepass", "wrong"]);
    let recovery = rig.recovery(0.7).await;
    reports.push(Report {
        added,
        recovery: Some(recovery),
        ..rig.finish("boot: wrong password").await
    });
    reports
}

/// Measures how long a server in a process of its own takes to its first answer.
pub(crate) async fn listening(scale: Scale) -> Vec<Report> {
    let down = Valkey::reserve().tcp_url();
    // This listener takes connections and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("valkey://{}", mute.local_addr().unwrap());
    let mut reports = Vec::new();
    for (name, url) in [
        ("process boots: no Valkey asked for", "memory://"),
        ("process boots: refused", &down),
        ("process boots: mute", &silent),
        (
            "process boots: name not found",
            "valkey://does-not-exist.invalid",
        ),
    ] {
        let mut slowest = Default::default();
        let mut report = Report::default();
        for _ in 0..scale.of(1, 5) {
            let started = Instant::now();
            let (_process, address) = Process::start(url);
            let mut client = Client::connect(&address).await;
            let alive = client.get("/livez").await;
            let took = started.elapsed();
            // A page that is stored: the handler takes half a second, the cache at most 50 ms.
            let page = client.get("/products/7").await;
            slowest = took.max(slowest);
            report.checked += 2;
            report.errors += u64::from(alive != 200) + u64::from(page != 200);
        }
        report.fault = name.to_owned();
        report.note = format!("first 200 after {slowest:.0?} at worst");
        reports.push(report);
    }
    reports
}

/// A process that is killed on drop.
struct Process {
    child: Child,
    /// Kept open, so that the process can go on printing.
    _stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the process. Returns it with the host and port at which it listens.
    fn start(url: &str) -> (Self, String) {
        let mut process = Command::new(program())
            .env_clear()
            .env("PORT", "0")
            .env(SERVE, "1")
            .env("CACHE_URL", url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap();
        let process = Self {
            child: process,
            _stdout: stdout,
        };
        (process, address.to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// The example, if it is built beside this test. Otherwise this program, which can serve too.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let example = profile.join("examples/server");
    match example.is_file() {
        true => example,
        false => test,
    }
}

/// Serves like the example, if this process was started for that.
#[allow(dead_code, reason = "for the long suite")]
pub(crate) async fn serve_if_asked() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    let cache = Cache::new(CacheConfig::from_env().unwrap());
    let fresh = [("cache-control", "max-age=60")];
    let app = Router::new()
        .route(
            "/products/{id}",
            get(move || async move { (fresh, "lamp") }),
        )
        .layer(CacheLayer::new(cache))
        .route("/livez", get(|| async { "alive" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    axum::serve(listener, app).await.unwrap();
}

const SERVE: &str = "FAULTS_SERVE";
