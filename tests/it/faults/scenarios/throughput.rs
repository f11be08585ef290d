//! The cost of a cache without its store, for an application whose requests all miss.

use std::time::Duration;

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_response_cache::{Cache, CacheConfig, CacheLayer};

use super::PATIENCE;
use crate::faults::report::Report;
use crate::faults::rig::Scale;
use crate::support::copies::{behind_copies, behind_nothing};
use crate::support::valkey::Valkey;

/// Measures with real servers and real sockets, another URL for every request, and Valkey refusing
/// connections. The rounds are interleaved.
///
/// Three layers are measured beside this crate's. The same without a store shows how much the fault
/// costs. The other two do nothing, or keep copies and do nothing else. Any cache that keeps what
/// it passes costs more than the one, and hardly less than the other.
pub(crate) async fn throughput(scale: Scale) -> Vec<Report> {
    let mut reports = Vec::new();
    // The servers have a runtime to themselves, like the one of `tokio::main`.
    let servers = Runtime::new().unwrap();
    for (name, path) in [
        ("misses, Valkey down: waits 5 ms", "database"),
        ("misses, Valkey down: 200 rows", "rows"),
        ("misses, Valkey down: trivial", "trivial"),
    ] {
        let url = Valkey::reserve().tcp_url();
        let [down, alone] = [CacheConfig::builder().url(url), CacheConfig::builder()]
            .map(|config| Cache::new(config.build().unwrap()));
        let apps = [
            app(),
            behind_nothing(app()),
            behind_copies(app()),
            app().layer(CacheLayer::new(alone)),
            app().layer(CacheLayer::new(down.clone())),
        ];
        let mut loads = Vec::new();
        for app in apps {
            loads.push(Load::on(&serve(app, &servers).await, path).await);
        }
        let mut report = Report {
            fault: name.to_owned(),
            ..Report::default()
        };
        let rates = rates(&mut loads, scale, &mut report).await;
        let part = |which: usize| {
            let ratios = rates.iter().map(|round| round[which] / round[0]);
            median(ratios.collect()) * 100.0
        };
        report.dials = down.statistics().store.map_or(0, |health| health.dials);
        report.note = format!(
            "{:.1} % of {:.0}/s without the layer; with no store to lose {:.1} %, where one only \
             keeps copies {:.1} %, where one does nothing {:.1} %",
            part(4),
            median(rates.iter().map(|round| round[0]).collect()),
            part(3),
            part(2),
            part(1),
        );
        reports.push(report);
    }
    servers.shutdown_background();
    reports
}

/// The requests a second of each app, in each of the rounds. Rounds are short, many, and go to and
/// fro, since a machine that others use changes its pace within seconds.
async fn rates(loads: &mut [Load], scale: Scale, report: &mut Report) -> Vec<[f64; APPS]> {
    let time = scale.of(Duration::from_millis(50), Duration::from_millis(100));
    let mut rates = Vec::new();
    for round in 0..scale.of(6, 104) {
        let mut rate = [0.0; APPS];
        for at in 0..APPS {
            let at = if round % 2 == 0 { at } else { APPS - 1 - at };
            let done = loads[at].run(time).await;
            report.checked += done.right;
            report.errors += done.wrong;
            rate[at] = done.rate;
        }
        // The first ones warm up.
        if round >= scale.of(1, 4) {
            rates.push(rate);
        }
    }
    rates
}

/// The number of apps: the bare one, and one behind each layer.
const APPS: usize = 5;

/// Three pages: one that waits for a database, one that lists 200 products as JSON, some 20 KiB,
/// and one that says hello.
fn app() -> Router {
    #[derive(Serialize)]
    struct Product {
        id: u64,
        name: String,
        cents: u64,
        tags: [&'static str; 3],
    }
    let fresh = [("cache-control", "max-age=60")];
    Router::new()
        .route(
            "/rows/{id}",
            get(move |Path(id): Path<u64>| async move {
                let product = |row: u64| Product {
                    id: id.wrapping_add(row),
                    name: format!("product {row} of {id}"),
                    cents: row * 37 % 1000,
                    tags: ["lamp", "desk", "oak"],
                };
                (fresh, Json((0..200).map(product).collect::<Vec<_>>()))
            }),
        )
        .route(
            "/database/{id}",
            get(move || async move {
                sleep(Duration::from_millis(5)).await;
                (fresh, "hello")
            }),
        )
        .route(
            "/trivial/{id}",
            get(move || async move { (fresh, "hello") }),
        )
}

async fn serve(app: Router, servers: &Runtime) -> String {
    let (tell, address) = oneshot::channel();
    servers.spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        axum::serve(listener, app).await
    });
    address.await.unwrap().to_string()
}

/// 32 connections to a server, which request one page under new URLs all the time.
struct Load {
    path: &'static str,
    clients: Vec<(u64, Client)>,
}

impl Load {
    async fn on(address: &str, path: &'static str) -> Self {
        let mut clients = Vec::new();
        for number in 0..32 {
            clients.push((number << 40, Client::connect(address).await));
        }
        Self { path, clients }
    }

    /// Sends one request after the other on each connection.
    async fn run(&mut self, time: Duration) -> Done {
        let (path, started) = (self.path, Instant::now());
        let mut clients = JoinSet::new();
        for (mut id, mut client) in self.clients.drain(..) {
            clients.spawn(async move {
                let mut done = Done::default();
                while started.elapsed() < time {
                    match client.get(&format!("/{path}/{id}")).await {
                        200 => done.right += 1,
                        _ => done.wrong += 1,
                    }
                    id += 1;
                }
                // The time ends with the last answer. Otherwise waiting requests would distort the
                // rate.
                done.rate = done.right as f64 / started.elapsed().as_secs_f64();
                (id, client, done)
            });
        }
        let mut all = Done::default();
        for (id, client, done) in clients.join_all().await {
            self.clients.push((id, client));
            all.right += done.right;
            all.wrong += done.wrong;
            all.rate += done.rate;
        }
        all
    }
}

/// The numbers of right and wrong answers, and the right ones a second.
#[derive(Default)]
struct Done {
    right: u64,
    wrong: u64,
    rate: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The smallest possible client, so that the server is measured.
pub(super) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: &str) -> Self {
        let started = Instant::now();
        let stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Sends a GET, reads the response to its end, and returns the status.
    pub(super) async fn get(&mut self, path: &str) -> u16 {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.received.clear();
        loop {
            assert_ne!(
                self.stream.read_buf(&mut self.received).await.unwrap(),
                0,
                "closed"
            );
            let Some(head) = self.received.windows(4).position(|end| end == b"\r\n\r\n") else {
                continue;
            };
            let text = std::str::from_utf8(&self.received[..head]).unwrap();
            let mut lines = text.lines();
            let status = lines.next().unwrap()[9..12].parse().unwrap();
            let length = lines.find_map(|line| line.strip_prefix("content-length: "));
            let length = length.unwrap().parse::<usize>().unwrap();
            while self.received.len() < head + 4 + length {
                assert_ne!(
                    self.stream.read_buf(&mut self.received).await.unwrap(),
                    0,
                    "closed"
                );
            }
            return status;
        }
    }
}
