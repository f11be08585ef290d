//! The cost of a hit as the tier grows, as a resource gets variants and an entry gets tags, and
//! with two threads on one key; and the tier's map beside another one.
//!
//! `SCALE=7` goes to ten million entries, which take some 12 GiB. The default is 6.

use std::collections::HashMap;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tower_response_cache::{CacheConfig, CacheLayer, CacheOptions};
use tower_response_cache_bench::apps::{Headers, ours, plain};
use tower_response_cache_bench::ask::{Ask, at, exchange, served};
use tower_response_cache_bench::rounds::{median, to_and_fro};

#[path = "scale/maps.rs"]
mod maps;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        entries().await;
        variants().await;
        tags().await;
    });
    threads();
    maps::compare();
}

/// Measures hits of random keys and of one key, at more and more entries, each beside a tier of a
/// thousand in the same rounds. A handler that looks its answers up in a `HashMap` shows the effect
/// of the processor's caches on anything of that size.
async fn entries() {
    let largest = std::env::var("SCALE")
        .ok()
        .and_then(|power| power.parse().ok())
        .unwrap_or(6);
    println!(
        "\n| entries | random keys, ns | to 1,000 | one key, ns | to 1,000 | `HashMap` in the handler, ns | to 1,000 |\n|---|---|---|---|---|---|---|"
    );
    let mut few = Filled {
        app: tier(1000).await,
        entries: 1000,
    };
    let mut few_mapped = Filled {
        app: map(1000),
        entries: 1000,
    };
    for power in 3..=largest {
        let entries = 10_usize.pow(power);
        let mut many = Filled {
            app: tier(entries).await,
            entries,
        };
        let random = beside(&mut few, &mut many, Which::Random).await;
        let hot = beside(&mut few, &mut many, Which::One).await;
        drop(many);
        let mut mapped = Filled {
            app: map(entries),
            entries,
        };
        let control = beside(&mut few_mapped, &mut mapped, Which::Random).await;
        let ratios = [random, hot, control].map(|(time, ratio)| format!("{time:.0} | {ratio:.2}"));
        println!("| {entries} | {} |", ratios.join(" | "));
    }
}

#[derive(Clone, Copy)]
enum Which {
    Random,
    One,
}

struct Filled {
    app: Router,
    entries: usize,
}

impl Filled {
    /// Nanoseconds a call.
    async fn round(&mut self, which: Which, seed: usize) -> f64 {
        let mut spent = Duration::ZERO;
        for batch in 0..CALLS / BATCH {
            let number = |call| match which {
                Which::Random => scattered(seed * CALLS + batch * BATCH + call) % self.entries,
                Which::One => 7,
            };
            let requests: Vec<_> = (0..BATCH).map(|call| of(number(call))).collect();
            spent += time_of(&mut self.app, requests).await;
        }
        spent.as_nanos() as f64 / CALLS as f64
    }
}

/// The time of `many`, and its ratio to that of `few`, in interleaved rounds.
async fn beside(few: &mut Filled, many: &mut Filled, which: Which) -> (f64, f64) {
    let (mut times, mut ratios) = (Vec::new(), Vec::new());
    for seed in 0..ROUNDS {
        let base = few.round(which, seed).await;
        let time = many.round(which, seed).await;
        times.push(time);
        ratios.push(time / base);
    }
    (median(times), median(ratios))
}

fn of(number: usize) -> http::Request<axum::body::Body> {
    at(Method::GET, &format!("/{number:08}"))
}

/// A number that is as good as random: a multiplicative hash.
fn scattered(number: usize) -> usize {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 32
}

async fn time_of(app: &mut Router, requests: Vec<http::Request<axum::body::Body>>) -> Duration {
    let began = Instant::now();
    for request in requests {
        exchange(app, request).await;
    }
    began.elapsed()
}

/// An app whose cache holds this many responses.
async fn tier(entries: usize) -> Router {
    let answer = || async { ([(header::CACHE_CONTROL, "max-age=36000")], "small") };
    let config = CacheConfig::builder()
        .memory_bytes(64 << 30)
        .build()
        .expect("settings");
    let layer = CacheLayer::new(config);
    let cache = layer.cache().clone();
    let mut app = served(Router::new().route("/{id}", get(answer)).layer(layer));
    for number in 0..entries {
        exchange(&mut app, of(number)).await;
    }
    assert_eq!(
        cache.statistics().memory_records,
        entries as u64,
        "all are held"
    );
    app
}

/// An app that keeps as many answers of the same fields itself.
fn map(entries: usize) -> Router {
    let answers: HashMap<String, (HeaderMap, Bytes)> = (0..entries)
        .map(|number| {
            let mut headers = HeaderMap::with_capacity(4);
            headers.insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("max-age=36000"),
            );
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            );
            headers.insert(header::AGE, HeaderValue::from_static("12"));
            headers.insert(
                "cache-status",
                HeaderValue::from_static("tower-response-cache; hit; ttl=3588"),
            );
            (
                format!("{number:08}"),
                (headers, Bytes::from(b"small".to_vec())),
            )
        })
        .collect();
    let answers = Arc::new(answers);
    let answer = move |Path(id): Path<String>| {
        let mut response: Response = Response::default();
        match answers.get(&id) {
            Some((headers, body)) => {
                *response.headers_mut() = headers.clone();
                *response.body_mut() = body.clone().into();
            }
            None => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        async move { response }
    };
    served(Router::new().route("/{id}", get(answer)))
}

async fn variants() {
    println!("\n| variants of one resource | a hit, ns | to one |\n|---|---|---|");
    let mut apps = Vec::new();
    for count in [1, 4, 16, 64] {
        let answer = || async {
            let fields = [
                (header::CACHE_CONTROL, "max-age=36000"),
                (header::VARY, "accept-language"),
            ];
            (fields, "small")
        };
        let layer = CacheLayer::new(CacheConfig::default());
        let mut app = served(Router::new().route("/thing", get(answer)).layer(layer));
        for number in 0..count {
            exchange(&mut app, variant(number)).await;
        }
        apps.push((count, app));
    }
    compare(apps, |call, count| variant(scattered(call) % count)).await;
}

fn variant(number: usize) -> http::Request<axum::body::Body> {
    let mut request = at(Method::GET, "/thing");
    let language = HeaderValue::try_from(format!("x-{number:02}")).expect("a value");
    request
        .headers_mut()
        .insert(header::ACCEPT_LANGUAGE, language);
    request
}

async fn tags() {
    println!("\n| tags of the entry | a hit, ns | to none |\n|---|---|---|");
    let mut apps = Vec::new();
    for count in [0, 1, 10, 50] {
        let answer = move || async move {
            let options = CacheOptions::new().max_age(3600);
            let tagged = (0..count).fold(options, |options, number| {
                options.tag(format!("tag-{number}"))
            });
            (tagged, "small")
        };
        let layer = CacheLayer::new(CacheConfig::default());
        let mut app = served(Router::new().route("/thing", get(answer)).layer(layer));
        exchange(&mut app, Ask::Get.request(0)).await;
        apps.push((count, app));
    }
    compare(apps, |call, _| Ask::Get.request(call)).await;
}

/// Prints each app's time and its ratio to the first one's.
async fn compare(
    mut apps: Vec<(usize, Router)>,
    request: impl Fn(usize, usize) -> http::Request<axum::body::Body>,
) {
    let mut times = vec![Vec::new(); apps.len()];
    for _ in 0..ROUNDS {
        for ((count, app), times) in apps.iter_mut().zip(&mut times) {
            let mut spent = Duration::ZERO;
            for batch in 0..CALLS / BATCH {
                let requests = (0..BATCH)
                    .map(|call| request(batch * BATCH + call, *count))
                    .collect();
                spent += time_of(app, requests).await;
            }
            times.push(spent.as_nanos() as f64 / CALLS as f64);
        }
    }
    for ((count, _), of_app) in apps.iter().zip(&times) {
        let ratios = of_app.iter().zip(&times[0]).map(|(one, base)| one / base);
        println!(
            "| {count} | {:.0} | {:.2} |",
            median(of_app.clone()),
            median(ratios.collect())
        );
    }
}

/// Compares two threads with one. Each thread has a runtime of its own.
fn threads() {
    println!(
        "\n| one key, exchanges a second | one thread | two threads | ratio |\n|---|---|---|---|"
    );
    let apps = [
        ("plain handler", served(plain(1024, Headers::Answered))),
        ("hit", served(ours(1024))),
    ];
    let mut rates = apps.each_ref().map(|_| [const { Vec::new() }; 2]);
    for round in 0..4 * ROUNDS {
        for at in to_and_fro(round, 4) {
            let (of, threads) = (at / 2, at % 2);
            rates[of][threads].push(rate(&apps[of].1, threads + 1));
        }
    }
    for ((name, _), [one, two]) in apps.iter().zip(rates) {
        let ratios = one.iter().zip(&two).map(|(one, two)| two / one).collect();
        println!(
            "| {name} | {:.0} | {:.0} | {:.2} |",
            median(one),
            median(two),
            median(ratios)
        );
    }
}

fn rate(app: &Router, threads: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let longest = std::thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let mut app = app.clone();
            runtime.expect("a runtime").block_on(async {
                exchange(&mut app, Ask::Get.request(0)).await;
                barrier.wait();
                let began = Instant::now();
                for number in 0..CALLS {
                    exchange(&mut app, Ask::Get.request(number)).await;
                }
                began.elapsed()
            })
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("it ends"))
            .max()
    });
    (threads * CALLS) as f64 / longest.unwrap_or_default().as_secs_f64()
}

const ROUNDS: usize = 21;
const CALLS: usize = 64 * 160;
const BATCH: usize = 64;
