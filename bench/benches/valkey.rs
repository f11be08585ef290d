//! Hits that cost a round trip, 64 at a time, beside a handler that does the bare `GET`; and what
//! a stored response takes in Valkey.

#[allow(dead_code)]
#[path = "../../tests/it/support/valkey.rs"]
mod valkey;

use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, header};
use tower_response_cache::{CacheConfig, CacheLayer};
use tower_response_cache_bench::apps::Headers;
use tower_response_cache_bench::ask::{exchange, served};
use tower_response_cache_bench::rounds::median;

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
    let mut ours = ours(server, size)?;
    let mut raw = raw_get(server, size).await?;
    let (mut one, mut other, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    at_once(&mut ours).await;
    for _ in 0..ROUNDS {
        let (a, b) = (at_once(&mut raw).await, at_once(&mut ours).await);
        one.push(a);
        other.push(b);
        ratios.push(b / a);
    }
    let commands = [
        commands_of(server, &mut raw).await,
        commands_of(server, &mut ours).await,
    ];
    let kib = size / 1024;
    println!(
        "| raw GET in the handler | {kib} KiB | {:.1} | 1.00 | {:.2} |",
        median(one),
        commands[0]
    );
    println!(
        "| hit | {kib} KiB | {:.1} | {:.2} | {:.2} |",
        median(other),
        median(ratios),
        commands[1]
    );
    Ok(())
}

/// With no tier in memory, so that every hit comes from the store.
fn ours(server: &Valkey, size: usize) -> Result<Router, Failure> {
    let config = CacheConfig::builder()
        .url(server.tcp_url())
        .memory_bytes(0)
        .prefix(format!("b{size}"));
    // A loaded machine is not to turn hits into misses.
    let config = config.operation_timeout(std::time::Duration::from_secs(5));
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

async fn raw_get(server: &Valkey, size: usize) -> Result<Router, Failure> {
    let client = redis::Client::open(server.tcp_url().replace("valkey://", "redis://"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
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

/// What the server was asked for each exchange, but for the purge log's reader.
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
