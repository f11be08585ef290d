//! Hits that cost a round trip, 64 at a time, beside a handler that does the bare `GET` and one
//! that does the least that is safe; and the size of a stored response in Valkey.

#[allow(dead_code)]
#[path = "../../tests/it/support/valkey.rs"]
mod valkey;

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use tokio::time::timeout;
use tower_response_cache::{CacheConfig, CacheLayer};
use tower_response_cache_bench::apps::Headers;
use tower_response_cache_bench::ask::{exchange, served};
use tower_response_cache_bench::rounds::{median, to_and_fro};
use twox_hash::XxHash3_64;

use self::valkey::Valkey;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let server = Valkey::start();
    println!(
        "\n| from Valkey, 64 at once | body | µs | ratio | commands each |\n|---|---|---|---|---|"
    );
    for size in SIZES {
        hits(&server, size).await?;
    }
    println!(
        "\n| stored in Valkey | body | value | beyond key, headers and body | with Valkey's own |\n|---|---|---|---|---|"
    );
    for size in SIZES {
        stored_form(&server, size).await?;
    }
    Ok(())
}

async fn hits(server: &Valkey, size: usize) -> Result<(), Failure> {
    let mut apps = [
        ("raw GET in the handler", raw_get(server, size).await?),
        (
            "GET of head and body in one, checksummed",
            checked_get(server, size).await?,
        ),
        ("hit", ours(server, size)?),
    ];
    for (_, app) in &mut apps {
        at_once(app).await;
    }
    let mut times = apps.each_ref().map(|_| Vec::new());
    for round in 0..ROUNDS {
        for at in to_and_fro(round, apps.len()) {
            times[at].push(at_once(&mut apps[at].1).await);
        }
    }
    for ((name, app), of_it) in apps.iter_mut().zip(&times) {
        let ratios = of_it.iter().zip(&times[0]).map(|(one, raw)| one / raw);
        println!(
            "| {name} | {} KiB | {:.1} | {:.2} | {:.2} |",
            size / 1024,
            median(of_it.clone()),
            median(ratios.collect()),
            commands_of(server, app).await
        );
    }
    Ok(())
}

/// With no tier in memory, so that every hit comes from the store.
fn ours(server: &Valkey, size: usize) -> Result<Router, Failure> {
    let config = CacheConfig::builder()
        .url(server.tcp_url())
        .memory_bytes(0)
        .prefix(format!("b{size}"));
    // The timeout is long, so that a busy machine does not turn hits into misses.
    let config = config.operation_timeout(Duration::from_secs(5));
    let mut headers = Headers::Handler.map();
    headers.remove(header::VARY);
    let body = Bytes::from(vec![b'x'; size]);
    let answer = move || {
        let answer = (headers.clone(), body.clone());
        async move { answer }
    };
    let layer = CacheLayer::new(config.build()?);
    Ok(served(
        Router::new().route("/thing", get(answer)).layer(layer),
    ))
}

async fn connect(server: &Valkey) -> Result<redis::aio::MultiplexedConnection, Failure> {
    let client = redis::Client::open(server.tcp_url().replace("valkey://", "redis://"))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

async fn raw_get(server: &Valkey, size: usize) -> Result<Router, Failure> {
    let mut connection = connect(server).await?;
    let key = format!("raw:{size}");
    let () = redis::cmd("SET")
        .arg(&key)
        .arg(vec![b'x'; size])
        .query_async(&mut connection)
        .await?;
    let mut headers = Headers::Answered.map();
    headers.remove(header::VARY);
    let answer = move || {
        let (mut connection, key, headers) = (connection.clone(), key.clone(), headers.clone());
        async move {
            let mut get = redis::cmd("GET");
            let body: Vec<u8> = get
                .arg(&key)
                .query_async(&mut connection)
                .await
                .expect("a reply");
            (headers, body)
        }
    };
    Ok(served(Router::new().route("/thing", get(answer))))
}

/// The least that keeps a response in one value and never serves a wrong one: it waits for a
/// bounded time, checks a checksum, and makes a map of the lines. No key, no freshness, no purges.
async fn checked_get(server: &Valkey, size: usize) -> Result<Router, Failure> {
    let mut connection = connect(server).await?;
    let mut headers = Headers::Answered.map();
    headers.remove(header::VARY);
    let key = format!("checked:{size}");
    let () = redis::cmd("SET")
        .arg(&key)
        .arg(packed(&headers, size))
        .query_async(&mut connection)
        .await?;
    let answer = move || {
        let (mut connection, key) = (connection.clone(), key.clone());
        async move {
            let mut get = redis::cmd("GET");
            let reply = get.arg(&key).query_async(&mut connection);
            let reply: Bytes = timeout(Duration::from_secs(5), reply)
                .await
                .expect("in time")
                .expect("a reply");
            let (headers, body) = unpacked(&reply);
            let mut response = Response::new(Body::from(body));
            *response.headers_mut() = headers;
            response
        }
    };
    Ok(served(Router::new().route("/thing", get(answer))))
}

/// A response as one value: a checksum, the number of lines, the lines, each with two lengths, and
/// the body.
fn packed(headers: &HeaderMap, size: usize) -> Vec<u8> {
    let mut rest = vec![headers.len() as u8];
    for (name, value) in headers {
        rest.extend([name.as_str().len() as u8, value.len() as u8]);
        rest.extend(name.as_str().as_bytes());
        rest.extend(value.as_bytes());
    }
    rest.extend(vec![b'x'; size]);
    let mut all = XxHash3_64::oneshot(&rest).to_le_bytes().to_vec();
    all.append(&mut rest);
    all
}

fn unpacked(reply: &Bytes) -> (HeaderMap, Bytes) {
    let (checksum, rest) = reply.split_first_chunk().expect("a checksum");
    assert_eq!(u64::from_le_bytes(*checksum), XxHash3_64::oneshot(rest));
    let mut rest = reply.slice(9..);
    let mut headers = HeaderMap::with_capacity(reply[8].into());
    for _ in 0..reply[8] {
        let (name, value) = (usize::from(rest[0]), usize::from(rest[1]));
        let line = rest.split_to(2 + name + value);
        headers.append(
            HeaderName::from_bytes(&line[2..2 + name]).expect("a name"),
            HeaderValue::from_maybe_shared(line.slice(2 + name..)).expect("a value"),
        );
    }
    (headers, rest)
}

/// Microseconds for one exchange, 64 under way.
async fn at_once(app: &mut Router) -> f64 {
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut app = app.clone();
        tasks.spawn(async move {
            for _ in 0..EXCHANGES / 64 {
                exchange(&mut app, request()).await;
            }
        });
    }
    tasks.join_all().await;
    began.elapsed().as_micros() as f64 / EXCHANGES as f64
}

fn request() -> Request<Body> {
    tower_response_cache_bench::ask::at(http::Method::GET, "/thing")
}

/// The number of commands for each exchange, without those of the purge log's reader.
async fn commands_of(server: &Valkey, app: &mut Router) -> f64 {
    server.command(&["CONFIG", "RESETSTAT"]);
    at_once(app).await;
    let statistics = server.command(&["INFO", "commandstats"]);
    let calls = statistics
        .lines()
        .filter(|line| !line.starts_with("cmdstat_xread:"));
    let calls = calls.filter(|line| !line.starts_with("cmdstat_config"));
    let calls = calls.filter_map(|line| {
        line.split_once("calls=")?
            .1
            .split(',')
            .next()?
            .parse::<f64>()
            .ok()
    });
    calls.sum::<f64>() / EXCHANGES as f64
}

async fn stored_form(server: &Valkey, size: usize) -> Result<(), Failure> {
    let key = server.command(&["KEYS", &format!("b{size}:*:*")]);
    let key = key
        .lines()
        .find(|key| !key.ends_with(":log"))
        .ok_or("nothing is stored")?;
    let number = |reply: String| reply.parse::<usize>();
    let value = number(server.command(&["STRLEN", key]))?;
    let taken = number(server.command(&["MEMORY", "USAGE", key]))?;
    let mut headers = Headers::Handler.map();
    headers.remove(header::VARY);
    let lines: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    // `Content-Length` and `Date` are added on the way.
    let added = "content-length".len() + size.to_string().len() + "date".len() + 29;
    let own = "bench.example".len() + "/thing".len() + lines + added + size;
    println!(
        "| one response, three tags | {} KiB | {value} | {} | {taken} |",
        size / 1024,
        value - own
    );
    Ok(())
}

const SIZES: [usize; 2] = [1024, 16 * 1024];
const ROUNDS: usize = 21;
const EXCHANGES: usize = 12_800;
