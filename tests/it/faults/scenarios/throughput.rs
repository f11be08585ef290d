//! What a cache without its store costs an application whose requests all miss.

use std::time::Duration;

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_response_cache::{Cache, CacheConfig, CacheLayer};

use super::PATIENCE;
use crate::faults::rig::{Report, Scale};
use crate::support::valkey::Valkey;

/// Real servers, real sockets, every request another URL, Valkey refused; interleaved rounds.
pub(crate) async fn throughput(scale: Scale) -> Vec<Report> {
    let mut reports = Vec::new();
    for (name, path) in [
        ("misses, Valkey down: waits 5 ms", "database"),
        ("misses, Valkey down: 200 rows", "rows"),
        ("misses, Valkey down: trivial", "trivial"),
    ] {
        let url = Valkey::reserve().tcp_url();
        let cache = Cache::new(CacheConfig::builder().url(url).build().unwrap());
        let bare = serve(app()).await;
        let cached = serve(app().layer(CacheLayer::new(cache.clone()))).await;
        let time = scale.of(Duration::from_millis(200), Duration::from_secs(1));
        let mut unique = 0;
        let mut report = Report {
            fault: name.to_owned(),
            ..Report::default()
        };
        let mut ratios = Vec::new();
        let mut rates = Vec::new();
        for round in 0..scale.of(3, 11) {
            let mut measure = async |address: &str| {
                unique += 1;
                let (answers, errors) = load(address, path, unique, time).await;
                report.checked += answers;
                report.errors += errors;
                answers as f64 / time.as_secs_f64()
            };
            // In turn, so that neither always comes first.
            let (without, with) = match round % 2 {
                0 => {
                    let without = measure(&bare).await;
                    (without, measure(&cached).await)
                }
                _ => {
                    let with = measure(&cached).await;
                    (measure(&bare).await, with)
                }
            };
            // The first warms up.
            if round > 0 {
                ratios.push(with / without);
                rates.push(without);
            }
        }
        let (ratio, rate) = (median(ratios), median(rates));
        report.dials = cache.statistics().store.map_or(0, |health| health.dials);
        report.note = format!("{:.1} % of {rate:.0}/s without the layer", ratio * 100.0);
        reports.push(report);
    }
    reports
}

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

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Right and wrong answers of 32 connections, one request after the other on each.
async fn load(address: &str, path: &'static str, unique: u64, time: Duration) -> (u64, u64) {
    let mut clients = JoinSet::new();
    for number in 0..32 {
        let mut client = Client::connect(address).await;
        clients.spawn(async move {
            let (mut right, mut wrong) = (0, 0);
            let started = Instant::now();
            while started.elapsed() < time {
                let id = (unique << 40) + (number << 32) + right + wrong;
                match client.get(&format!("/{path}/{id}")).await {
                    200 => right += 1,
                    _ => wrong += 1,
                }
            }
            (right, wrong)
        });
    }
    let all = clients.join_all().await;
    all.into_iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// As little of a client as there can be, so that it is the server that is measured.
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

    /// The status of the response, which has been read to its end.
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
