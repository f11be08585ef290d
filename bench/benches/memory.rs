//! The memory that stored responses take: bytes for each entry, and resident memory beside the
//! configured size. Each measurement is a process of its own.

use std::alloc::System;
use std::process::Command;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower_response_cache::{Cache, CacheConfig, CacheLayer};
use tower_response_cache_bench::apps::Headers;
use tower_response_cache_bench::ask::{at, exchange};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let Ok(measurement) = std::env::var(MEASUREMENT) else {
        println!(
            "\n| an entry in memory | bytes | key, headers and body | beyond | counted by the tier | beyond, once it was hit | of it `HeaderMap` | counted |\n|---|---|---|---|---|---|---|---|"
        );
        for (name, ..) in ENTRIES {
            measure_apart(name);
        }
        println!(
            "\n| bodies of 100 B to 64 KiB, three times what fits | configured, MiB | counted | resident growth | of configured |\n|---|---|---|---|---|"
        );
        measure_apart(RESIDENT);
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        match ENTRIES.iter().find(|(name, ..)| *name == measurement) {
            Some((name, headers, size)) => entry(name, headers(), *size).await,
            None => resident().await,
        }
    });
}

fn measure_apart(name: &str) {
    let program = std::env::current_exe().expect("its own path");
    let status = Command::new(program).env(MEASUREMENT, name).status();
    assert!(status.is_ok_and(|status| status.success()), "{name}");
}

async fn entry(name: &str, headers: HeaderMap, size: usize) {
    let cache = Cache::new(
        CacheConfig::builder()
            .memory_bytes(4 << 30)
            .build()
            .expect("settings"),
    );
    let sent = headers.clone();
    let answer = move || {
        let mut response: Response = Response::new(Bytes::from(vec![b'x'; size]).into());
        *response.headers_mut() = sent.clone();
        async move { response }
    };
    let mut app = Router::new()
        .route("/{id}", get(answer))
        .layer(CacheLayer::new(cache.clone()));
    // Sets up what is needed once, and fills the map as far as it is on average in the measurement.
    for number in 0..COUNT {
        exchange(&mut app, at(Method::GET, &format!("/{number:08}"))).await;
    }
    let first = counted(&cache);
    let region = Region::new(ALLOCATOR);
    ask_for_each(&mut app).await;
    let taken = taken(&region);
    let stored = (counted(&cache) - first) / COUNT;
    ask_for_each(&mut app).await;
    let taken_once_hit = self::taken(&region);
    let once_hit = (counted(&cache) - first) / COUNT;
    let lines: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    // `Content-Length` and `Date` are added on the way.
    let added = "content-length".len() + size.to_string().len() + "date".len() + 29;
    let own = "bench.example".len() + "/00000000".len() + lines + added + size;
    let map = map_bytes(headers);
    let [beyond, beyond_once_hit] = [taken, taken_once_hit].map(|it| it.saturating_sub(own));
    println!(
        "| {name} | {taken} | {own} | {beyond} | {stored} | {beyond_once_hit} | {map} | {once_hit} |"
    );
}

async fn ask_for_each(app: &mut Router) {
    for number in COUNT..2 * COUNT {
        exchange(app, at(Method::GET, &format!("/{number:08}"))).await;
    }
}

/// Bytes for each of the entries since the region began.
fn taken(region: &Region<System>) -> usize {
    let change = region.change();
    (change.bytes_allocated - change.bytes_deallocated) / COUNT
}

fn counted(cache: &Cache) -> usize {
    cache.statistics().memory_bytes as usize
}

/// The memory of `http`'s map for an answer, without the lines themselves.
fn map_bytes(mut headers: HeaderMap) -> usize {
    for name in [header::DATE, header::CONTENT_LENGTH, header::AGE] {
        headers.insert(name, HeaderValue::from_static(""));
    }
    headers.insert("cache-status", HeaderValue::from_static(""));
    let region = Region::new(ALLOCATOR);
    let clone = std::hint::black_box(headers.clone());
    let change = region.change();
    drop(clone);
    change.bytes_allocated - change.bytes_deallocated
}

/// Stores three times as much as fits, in mixed sizes that are even over their logarithms.
async fn resident() {
    const CAPACITY: u64 = 256 << 20;
    let cache = Cache::new(
        CacheConfig::builder()
            .memory_bytes(CAPACITY)
            .build()
            .expect("settings"),
    );
    let answer = |Path((_, size)): Path<(u64, usize)>| async move {
        (Headers::Handler.map(), vec![b'x'; size])
    };
    let mut app = Router::new()
        .route("/{id}/{size}", get(answer))
        .layer(CacheLayer::new(cache.clone()));
    let before = resident_bytes();
    let (mut sent, mut number, mut random) = (0, 0_u64, Random(1));
    let mut most = 0;
    while sent < 3 * CAPACITY {
        let size = (100.0 * 655.36_f64.powf(random.fraction())) as u64;
        exchange(&mut app, at(Method::GET, &format!("/{number}/{size}"))).await;
        sent += size;
        number += 1;
        if number.is_multiple_of(256) {
            most = most.max(resident_bytes());
        }
    }
    let growth = most.max(resident_bytes()) - before;
    let counted = cache.statistics().memory_bytes;
    let mib = |bytes: u64| bytes >> 20;
    let share = growth as f64 / CAPACITY as f64;
    println!(
        "| {number} responses | {} | {} | {} | {share:.2} |",
        mib(CAPACITY),
        mib(counted),
        mib(growth)
    );
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("its size");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib << 10
}

struct Random(u64);

impl Random {
    /// A random number from 0 to 1 (xorshift64*).
    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn few() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=3600"),
    );
    headers
}

fn several() -> HeaderMap {
    let mut headers = Headers::Handler.map();
    headers.remove(header::VARY);
    headers
}

fn varying() -> HeaderMap {
    Headers::Handler.map()
}

type Named = (&'static str, fn() -> HeaderMap, usize);

const ENTRIES: [Named; 4] = [
    ("`Cache-Control` only, 16 B", few, 16),
    ("four lines, three tags, 1 KiB", several, 1024),
    ("four lines, three tags, 16 KiB", several, 16 * 1024),
    ("and `Vary`, 1 KiB", varying, 1024),
];

const RESIDENT: &str = "resident";
const MEASUREMENT: &str = "MEASUREMENT";
const COUNT: usize = 1 << 14;
