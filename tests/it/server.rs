//! The example `server`, as its users run it.

use std::future::ready;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, ETAG, HOST, IF_NONE_MATCH};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::Instant;

use crate::support::eventually;
use crate::support::valkey::Valkey;

/// What the README shows.
#[tokio::test]
async fn the_second_request_is_a_hit_and_an_update_shows_at_once() {
    let server = Server::start(None);
    let first = server.get("/products/7").await;
    assert_eq!(first.status, StatusCode::OK);
    assert!(first.cache_status().contains("; stored"), "{first:?}");
    assert_eq!(first.handler_calls(), "1");
    assert_eq!(first.body, r#"{"id":7,"name":"lamp","cents":450}"#);

    let asked = Instant::now();
    let second = server.get("/products/7").await;
    assert!(asked.elapsed() < EFFORT, "{:?}", asked.elapsed());
    assert!(second.cache_status().contains("; hit; ttl="), "{second:?}");
    assert_eq!(second.handler_calls(), "1");
    assert_eq!(second.body, first.body);

    let listed = server.get("/products").await;
    assert!(listed.body.contains(r#""cents":450"#), "{listed:?}");
    let changed = server
        .ask(Request::put(server.url("/products/7/price")), "4200")
        .await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT);
    let after = server.get("/products/7").await;
    assert_eq!(after.body, r#"{"id":7,"name":"lamp","cents":4200}"#);
    assert!(!after.cache_status().contains("; hit"), "{after:?}");
    let listed = server.get("/products").await;
    assert!(listed.body.contains(r#""cents":4200"#), "{listed:?}");
}

#[tokio::test]
async fn a_private_page_is_never_stored_and_a_known_one_never_sent() {
    let server = Server::start(None);
    for _ in 0..2 {
        let request = Request::get(server.url("/me")).header(AUTHORIZATION, "Basic eDp5");
        let me = server.ask(request, "").await;
        assert!(me.cache_status().contains("detail=private"), "{me:?}");
    }
    let etag = server.get("/products/1").await.headers[ETAG].clone();
    let request = Request::get(server.url("/products/1")).header(IF_NONE_MATCH, etag);
    let known = server.ask(request, "").await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);
    assert!(known.cache_status().contains("; hit"), "{known:?}");
    let none = server.get("/products/99").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn two_processes_share_one_valkey() {
    let valkey = Valkey::start();
    let url = valkey.tcp_url();
    let (one, other) = (Server::start(Some(&url)), Server::start(Some(&url)));
    // As behind a load balancer: the host that the client asked for.
    let ask = async |server: &Server| {
        let request = Request::get(server.url("/products/7")).header(HOST, "shop.example");
        server.ask(request, "").await
    };
    let first = ask(&one).await;
    assert!(first.cache_status().contains("; stored"), "{first:?}");
    eventually("write-behind", PATIENCE, || {
        ready(!valkey.command(&["KEYS", "trc:*"]).is_empty())
    })
    .await;
    let second = ask(&other).await;
    assert!(second.cache_status().contains("; hit"), "{second:?}");
    assert_eq!(second.handler_calls(), "1");

    // What one changes, the other does not show any more.
    let change = Request::put(one.url("/products/7/price")).header(HOST, "shop.example");
    assert_eq!(one.ask(change, "4200").await.status, StatusCode::NO_CONTENT);
    eventually("the purge", PATIENCE, || async {
        !ask(&other).await.cache_status().contains("; hit")
    })
    .await;
}

#[tokio::test]
async fn it_listens_at_once_without_its_valkey() {
    let valkey = Valkey::reserve();
    let server = Server::start(Some(&valkey.tcp_url()));
    assert!(server.took < Duration::from_secs(5), "{:?}", server.took);
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
    assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
    let page = server.get("/products/7").await;
    assert_eq!(page.status, StatusCode::OK);
    let again = server.get("/products/7").await;
    assert!(again.cache_status().contains("; hit"), "{again:?}");
}

/// The example in a process of its own, on a free port; killed on drop.
struct Server {
    process: Child,
    /// Kept open for what else it prints.
    _stdout: BufReader<ChildStdout>,
    base: String,
    took: Duration,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Server {
    fn start(store: Option<&str>) -> Self {
        let asked = Instant::now();
        let mut process = Command::new(program())
            .env_clear()
            .env("PORT", "0")
            .env("CACHE_URL", store.unwrap_or_default())
            // Patience: a busy machine is no fault of the store's.
            .env("CACHE_OPERATION_TIMEOUT", "2s")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("listening on ");
        let base = base.unwrap_or_else(|| panic!("{line}")).to_owned();
        Self {
            process,
            _stdout: stdout,
            base,
            took: asked.elapsed(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn get(&self, path: &str) -> Seen {
        self.ask(Request::get(self.url(path)), "").await
    }

    async fn ask(&self, request: http::request::Builder, body: &'static str) -> Seen {
        let request = request.body(Full::from(body)).unwrap();
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Seen {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// A response as its client sees it.
#[derive(Debug)]
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn cache_status(&self) -> &str {
        self.headers["cache-status"].to_str().unwrap()
    }

    fn handler_calls(&self) -> &str {
        self.headers["x-handler-calls"].to_str().unwrap()
    }
}

/// The example, which `cargo test` has built beside this test.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let program = profile.join("examples/server");
    assert!(
        program.is_file(),
        "{} is not built: cargo build --all-features --example server",
        program.display()
    );
    program
}

/// What the example's handler takes at least.
const EFFORT: Duration = Duration::from_millis(500);

const PATIENCE: Duration = Duration::from_secs(20);
