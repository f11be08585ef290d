//! tower-response-cache beside a plain axum handler and its peers: the same app, in one process,
//! in interleaved rounds. Prints medians and ratios to the plain handler of the same round.
//!
//! ```sh
//! cargo run --release --manifest-path bench/Cargo.toml
//! CACHE_URL=valkey://127.0.0.1 cargo run --release --manifest-path bench/Cargo.toml   # and hits from Valkey
//! ```

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use tower::{Service, ServiceExt};
use tower_http_cache::prelude::{CacheLayer as HttpCacheLayer, InMemoryBackend};
use tower_response_cache::{CacheConfig, CacheLayer};

const ROUNDS: usize = 21;
const CALLS: usize = 20_000;
const SIZES: [usize; 2] = [1024, 16 * 1024];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rows = Vec::new();
    for size in SIZES {
        let mut candidates = vec![
            Candidate::new("plain handler", size, plain(size, true), Ask::Get).await,
            Candidate::new("this crate, hit", size, ours(size), Ask::Get).await,
            Candidate::new("this crate, 304", size, ours(size), Ask::IfNoneMatch).await,
            Candidate::new("this crate, HEAD", size, ours(size), Ask::Head).await,
            Candidate::new("this crate, POST passed", size, ours(size), Ask::Post).await,
            Candidate::new("plain handler, POST", size, plain(size, false), Ask::Post).await,
            Candidate::new("this crate, cold miss", size, ours(size), Ask::Unique).await,
            Candidate::new("plain handler, unique", size, plain(size, false), Ask::Unique).await,
            Candidate::new("axum-response-cache 0.5", size, axum_response_cache(size), Ask::Get).await,
            Candidate::new("tower-http-cache 0.6", size, tower_http_cache(size), Ask::Get).await,
        ];
        run(&mut candidates, &mut rows).await;
    }
    print(&rows);
    if let Ok(url) = std::env::var("CACHE_URL") {
        from_valkey(&url).await?;
    }
    Ok(())
}

/// What is asked of the app.
#[derive(Clone, Copy)]
enum Ask {
    Get,
    Head,
    IfNoneMatch,
    Post,
    /// A URL that was never asked for.
    Unique,
}

impl Ask {
    fn request(self, number: usize) -> Request<Body> {
        let method = match self {
            Self::Head => Method::HEAD,
            Self::Post => Method::POST,
            _ => Method::GET,
        };
        let mut request = Request::builder()
            .method(method)
            .header(header::HOST, "bench.example")
            .header(header::USER_AGENT, "bench")
            .header(header::ACCEPT, "*/*")
            .header(header::ACCEPT_ENCODING, "gzip, br");
        request = match self {
            Self::Unique => request.uri(format!("/thing?{number}")),
            Self::IfNoneMatch => request.uri("/thing").header(header::IF_NONE_MATCH, "\"v1\""),
            _ => request.uri("/thing"),
        };
        request.body(Body::empty()).unwrap_or_default()
    }
}

struct Candidate {
    name: &'static str,
    size: usize,
    app: Router,
    ask: Ask,
    asked: usize,
    times: Vec<f64>,
}

impl Candidate {
    async fn new(name: &'static str, size: usize, mut app: Router, ask: Ask) -> Self {
        if !matches!(ask, Ask::Unique) {
            for number in 0..3 {
                call(&mut app, Ask::Get.request(number)).await;
            }
        }
        Self { name, size, app, ask, asked: 0, times: Vec::new() }
    }

    async fn round(&mut self) {
        let requests: Vec<_> = (0..CALLS).map(|number| self.ask.request(self.asked + number)).collect();
        self.asked += CALLS;
        let began = Instant::now();
        for request in requests {
            call(&mut self.app, request).await;
        }
        self.times.push(began.elapsed().as_nanos() as f64 / CALLS as f64);
    }
}

/// One exchange, its body read to the end.
async fn call(app: &mut Router, request: Request<Body>) -> usize {
    let Ok(response) = Service::<Request<Body>>::call(app, request).await;
    match response.into_body().collect().await {
        Ok(body) => body.to_bytes().len(),
        Err(_) => 0,
    }
}

async fn run(candidates: &mut [Candidate], rows: &mut Vec<Row>) {
    for _ in 0..ROUNDS {
        for candidate in candidates.iter_mut() {
            candidate.round().await;
        }
    }
    let plain = candidates[0].times.clone();
    for candidate in candidates {
        let ratios = candidate.times.iter().zip(&plain).map(|(one, plain)| one / plain);
        rows.push(Row {
            name: candidate.name,
            size: candidate.size,
            nanoseconds: median(candidate.times.clone()),
            ratio: median(ratios.collect()),
        });
    }
}

struct Row {
    name: &'static str,
    size: usize,
    nanoseconds: f64,
    ratio: f64,
}

fn print(rows: &[Row]) {
    println!("| exchange, in process | body | ns | plain handler = 1 |\n|---|---|---|---|");
    for Row { name, size, nanoseconds, ratio } in rows {
        println!("| {name} | {} KiB | {nanoseconds:.0} | {ratio:.2} |", size / 1024);
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// The headers of a cached answer; the plain handler adds what the cache would.
fn headers(answered: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value| headers.insert(name, HeaderValue::from_static(value));
    set("content-type", "text/plain; charset=utf-8");
    set("cache-control", "max-age=3600");
    set("vary", "accept-encoding");
    set("etag", "\"v1\"");
    set("surrogate-key", "one two three");
    set("date", "Sun, 22 Nov 2026 12:00:00 GMT");
    if answered {
        set("age", "12");
        set("cache-status", "tower-response-cache; hit; ttl=3588");
    }
    headers
}

fn plain(size: usize, answered: bool) -> Router {
    let body = Bytes::from(vec![b'x'; size]);
    let headers = headers(answered);
    let answer = move || {
        let (headers, body) = (headers.clone(), body.clone());
        async move { (headers, body).into_response() }
    };
    Router::new().route("/thing", get(answer.clone()).post(answer))
}

fn ours(size: usize) -> Router {
    // A fresh date, so that what is stored is fresh.
    let mut fresh = headers(false);
    fresh.remove(header::DATE);
    let body = Bytes::from(vec![b'x'; size]);
    let answer = move || {
        let (headers, body) = (fresh.clone(), body.clone());
        async move { (headers, body).into_response() }
    };
    Router::new()
        .route("/thing", get(answer.clone()).post(answer))
        .layer(CacheLayer::new(CacheConfig::default()))
}

fn axum_response_cache(size: usize) -> Router {
    plain(size, true).layer(axum_response_cache::CacheLayer::with_lifespan(Duration::from_secs(3600)))
}

/// It does not apply to a `Router` directly: its error type is not the service's.
fn tower_http_cache(size: usize) -> Router {
    let layer = HttpCacheLayer::builder(InMemoryBackend::new(10_000))
        .ttl(Duration::from_secs(3600))
        .build();
    let inner = plain(size, true);
    let inner = tower::service_fn(move |request: Request<Body>| {
        let inner = inner.clone();
        async move {
            let Ok(response) = inner.oneshot(request).await;
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            Ok::<_, std::convert::Infallible>(http::Response::from_parts(
                parts,
                http_body_util::Full::new(bytes),
            ))
        }
    });
    let service = tower::ServiceBuilder::new().layer(layer).service(inner);
    let answer = move |request: Request<Body>| {
        let service = service.clone();
        async move {
            match service.oneshot(request).await {
                Ok(response) => response.map(Body::new),
                Err(_) => Response::default(),
            }
        }
    };
    Router::new().route("/thing", get(answer))
}

/// Hits that cost a round trip, 64 at a time, beside a handler that does the bare `GET`.
async fn from_valkey(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    println!("\n| exchange, 64 at once | body | µs | raw GET = 1 |\n|---|---|---|---|");
    for size in SIZES {
        let config = CacheConfig::builder().url(url).memory_bytes(0).operation_timeout(Duration::from_secs(1));
        let mut ours = {
            let mut fresh = headers(false);
            fresh.remove(header::DATE);
            fresh.remove(header::VARY);
            let body = Bytes::from(vec![b'x'; size]);
            let answer = move || {
                let (headers, body) = (fresh.clone(), body.clone());
                async move { (headers, body).into_response() }
            };
            Router::new()
                .route(&format!("/valkey/{size}"), get(answer))
                .layer(CacheLayer::new(config.build()?))
        };
        let mut raw = raw_get(url, size).await?;
        let uri = format!("/valkey/{size}");
        let (mut one, mut other, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (a, b) = (at_once(&mut raw, &uri).await, at_once(&mut ours, &uri).await);
            one.push(a);
            other.push(b);
            ratios.push(b / a);
        }
        println!("| handler with a raw GET | {} KiB | {:.1} | 1.00 |", size / 1024, median(one));
        println!("| this crate, memory off | {} KiB | {:.1} | {:.2} |", size / 1024, median(other), median(ratios));
    }
    Ok(())
}

async fn raw_get(url: &str, size: usize) -> Result<Router, Box<dyn std::error::Error>> {
    let url = url.replace("valkey://", "redis://");
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let key = format!("raw:{size}");
    let () = redis::cmd("SET").arg(&key).arg(vec![b'x'; size]).query_async(&mut connection).await?;
    let headers = headers(true);
    let answer = move || {
        let (mut connection, key, headers) = (connection.clone(), key.clone(), headers.clone());
        async move {
            let mut get = redis::cmd("GET");
            let body: Vec<u8> = get.arg(&key).query_async(&mut connection).await.unwrap_or_default();
            (headers, body).into_response()
        }
    };
    Ok(Router::new().route(&format!("/valkey/{size}"), get(answer)))
}

/// Microseconds for one exchange, 64 under way.
async fn at_once(app: &mut Router, uri: &str) -> f64 {
    const EXCHANGES: usize = 12_800;
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (mut app, uri) = (app.clone(), uri.to_owned());
        tasks.spawn(async move {
            for _ in 0..EXCHANGES / 64 {
                let request = Request::get(&uri).header(header::HOST, "bench.example");
                call(&mut app, request.body(Body::empty()).unwrap_or_default()).await;
            }
        });
    }
    tasks.join_all().await;
    began.elapsed().as_micros() as f64 / EXCHANGES as f64
}
