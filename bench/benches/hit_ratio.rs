//! How many requests are hits where memory is short: the layer beside LRU, moka, quick_cache and
//! the optimum, all with the same bytes and the same weight for each record.
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml --bench hit_ratio
//! TRACES=folder cargo bench --manifest-path bench/Cargo.toml --bench hit_ratio    # public traces too
//! ```
//!
//! The folder has, unpacked, what it has of these: `web07.trace` and `web12.trace` (keys of 32 bits,
//! the first byte the highest), `scarab-recs.trace` (keys of 64 bits; the first 1.2 million),
//! `OLTP.lis` (lines `first count …`), `request.trace` (lines `time key bytes`).

#[path = "hit_ratio/policies.rs"]
mod policies;
#[path = "hit_ratio/requests.rs"]
mod requests;

use std::convert::Infallible;
use std::future::{Ready, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty, Full};
use tower::util::ServiceFn;
use tower::{Layer, Service};
use tower_response_cache::{Cache, CacheConfig, CacheLayer};

use requests::{Run, Wanted};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    let overhead = runtime.block_on(overhead());
    println!("A record weighs {overhead} bytes more than its body, once it was hit.\n");
    println!(
        "| hits, % | memory | layer | of bytes | quick_cache | moka | LRU | optimum |\n|---|---|---|---|---|---|---|---|"
    );
    for run in requests::runs() {
        let weighed = run.weighed(overhead);
        let capacity = run.memory;
        let layer = runtime.block_on(through_the_layer(&run));
        let all = run.wanted.len();
        let others = [
            policies::quick(&weighed, capacity),
            policies::moka(&weighed, capacity),
            policies::lru(&weighed, capacity),
            policies::optimum(&weighed, capacity),
        ];
        let [quick, moka, lru, optimum] = others.map(|hits| percent(hits, all));
        println!(
            "| {} | {} MiB | {:.1} | {:.1} | {quick:.1} | {moka:.1} | {lru:.1} | {optimum:.1} |",
            run.name,
            run.memory >> 20,
            percent(layer.hits, all),
            percent(layer.bytes_hit, layer.bytes),
        );
    }
}

/// What the tier counts for a record beyond its body.
async fn overhead() -> u64 {
    let cache = cache(64 << 20);
    let mut app = App::new(&cache);
    for key in [1, 1] {
        app.is_hit(Wanted { key, bytes: 1024 }).await;
    }
    cache.statistics().memory_bytes - 1024
}

#[derive(Default)]
struct Measured {
    hits: usize,
    bytes_hit: usize,
    bytes: usize,
}

async fn through_the_layer(run: &Run) -> Measured {
    let mut app = App::new(&cache(run.memory));
    let mut measured = Measured::default();
    for wanted in &run.wanted {
        measured.bytes += wanted.bytes;
        if app.is_hit(*wanted).await {
            measured.hits += 1;
            measured.bytes_hit += wanted.bytes;
        }
    }
    measured
}

fn cache(memory: u64) -> Cache {
    let config = CacheConfig::builder().memory_bytes(memory);
    Cache::new(config.build().expect("settings"))
}

type Handler = fn(Request<Empty<Bytes>>) -> Ready<Result<Response<Full<Bytes>>, Infallible>>;

struct App(tower_response_cache::CacheService<ServiceFn<Handler>>);

impl App {
    fn new(cache: &Cache) -> Self {
        let layer = CacheLayer::new(cache.clone());
        Self(layer.layer(tower::service_fn(answer as Handler)))
    }

    async fn is_hit(&mut self, wanted: Wanted) -> bool {
        let uri = format!("http://example.org/{}", wanted.key);
        let request = Request::builder().uri(uri).extension(wanted);
        let request = request.body(Empty::new()).expect("a request");
        let response = self.0.call(request).await.expect("a response");
        let status = response.headers().get("cache-status");
        let is_hit = status.is_some_and(|it| it.to_str().is_ok_and(|it| it.contains("; hit")));
        response.into_body().collect().await.expect("a body");
        is_hit
    }
}

fn answer(request: Request<Empty<Bytes>>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    let bytes = request.extensions().get().map_or(0, |it: &Wanted| it.bytes);
    let mut response = Response::new(Full::new(vec![b'x'; bytes].into()));
    for (name, value) in [
        (header::CACHE_CONTROL, "max-age=3600"),
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    ready(Ok(response))
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
