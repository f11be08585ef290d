//! The cost of purges, how soon they reach every instance, and how late at most.
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml --bench purges
//! ```
//!
//! The bench runs a server of its own on the loopback interface, which it finds as the tests find
//! theirs. An argument sets the number of entries. The default is a million: some 400 MB in the
//! server.

#[allow(dead_code)]
#[path = "../../tests/it/support/valkey.rs"]
mod valkey;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tower_response_cache::{Cache, CacheConfig, Purge, ValueOptions};

use self::valkey::Valkey;

type Failure = Box<dyn Error + Send + Sync>;

const ENTRIES: usize = 1_000_000;
/// The number of tags. Each is on an equal share of the entries.
const SHARES: usize = 100;
const ROUNDS: usize = 2_000;
const PROPAGATIONS: usize = 2_000;
const CUTS: usize = 5;

fn main() -> Result<(), Failure> {
    let entries = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(ENTRIES);
    let server = Valkey::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(cost(&server, entries))?;
    drop(runtime);
    propagation(&server)?;
    bound(&server)
}

/// Measures purges of tags that many entries have beside purges of tags that one entry has.
async fn cost(server: &Valkey, entries: usize) -> Result<(), Failure> {
    let cache = cache(server.port())?;
    let mut direct = connect(server).await?;
    let began = Instant::now();
    for number in 0..entries {
        let options = ValueOptions::ttl(DAY)
            .tag("many")
            .tag(format!("share-{}", number % SHARES))
            .tag(format!("own-{number}"));
        let name = format!("entry-{number}");
        cache
            .get_or_set_with(&name, options, async || Ok::<_, Failure>("x"))
            .await?;
        if number % 4096 == 0 && !cache.shutdown(MINUTE).await {
            return Err("the server does not keep up".into());
        }
    }
    cache.shutdown(MINUTE).await;
    let keys: usize = redis::cmd("DBSIZE").query_async(&mut direct).await?;
    println!(
        "{keys} keys in the server, of {entries} entries, stored in {:.0?}",
        began.elapsed()
    );

    println!("\n| purge | of how many entries | purges | median | p99 |\n|---|---|---|---|---|");
    let before = Counted::of(&mut direct).await?;
    // Purges each tag for the first time: one of many entries and one of a single entry, in turn.
    let (mut shares, mut own) = (Vec::new(), Vec::new());
    for number in 0..SHARES {
        shares.push(timed(&cache, &format!("share-{number}")).await?);
        own.push(timed(&cache, &format!("own-{number}")).await?);
    }
    row(
        "distinct tags",
        &(entries / SHARES).to_string(),
        &mut shares,
    );
    row("distinct tags", "1", &mut own);
    let (mut many, mut one) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        many.push(timed(&cache, "many").await?);
        one.push(timed(&cache, "own-0").await?);
    }
    row("one tag, again and again", &entries.to_string(), &mut many);
    row("one tag, again and again", "1", &mut one);
    let after = Counted::of(&mut direct).await?;
    println!(
        "\nratio of medians: {:.2} distinct, {:.2} again and again",
        ratio(&shares, &own),
        ratio(&many, &one)
    );

    let purges = 2 * (SHARES + ROUNDS);
    println!(
        "{purges} purges: {} XADD, and of the log's reader {} XREAD, {} XINFO, {} XRANGE; no other command but {} INFO, MEMORY and ROLE",
        after.of_command("xadd") - before.of_command("xadd"),
        after.of_command("xread") - before.of_command("xread"),
        after.of_command("xinfo|stream") - before.of_command("xinfo|stream"),
        after.of_command("xrange") - before.of_command("xrange"),
        after.others() - before.others()
    );
    let log: usize = redis::cmd("MEMORY")
        .arg("USAGE")
        .arg("trc:log")
        .query_async(&mut direct)
        .await?;
    let keys_after: usize = redis::cmd("DBSIZE").query_async(&mut direct).await?;
    println!(
        "used_memory {} before, {} after ({:+} bytes), the log {log} bytes; keys {keys} before, {keys_after} after",
        before.used_memory,
        after.used_memory,
        after.used_memory as i64 - before.used_memory as i64
    );
    for number in [0, entries / 2, entries.saturating_sub(1)] {
        if cache.get(&format!("entry-{number}")).await.is_some() {
            return Err("a purged entry was served".into());
        }
    }
    // `ASYNC`, since freeing a million keys would delay the next measurement.
    redis::cmd("FLUSHALL")
        .arg("ASYNC")
        .exec_async(&mut direct)
        .await?;
    Ok(())
}

async fn timed(cache: &Cache, tag: &str) -> Result<Duration, Failure> {
    let began = Instant::now();
    cache.purge(Purge::tag(tag)).await?;
    Ok(began.elapsed())
}

/// Measures the time from the return of a purge in one instance until a read in another misses.
/// Each instance has a runtime of its own, and the other one reads in a loop.
fn propagation(server: &Valkey) -> Result<(), Failure> {
    let (one, other) = (runtime()?, runtime()?);
    let (here, there) = (cache(server.port())?, cache(server.port())?);
    one.block_on(connected(&here))?;
    let mut lags = Vec::new();
    for _ in 0..PROPAGATIONS {
        let returned = {
            other.block_on(store(&there))?;
            let here = here.clone();
            one.spawn(async move {
                // Gives the other instance time to start reading.
                tokio::time::sleep(Duration::from_micros(fastrand(500))).await;
                here.purge(Purge::tag("page"))
                    .await
                    .map(|()| Instant::now())
            })
        };
        let missed = other.block_on(until_missed(&there));
        let returned = one.block_on(returned)??;
        lags.push(missed.saturating_duration_since(returned));
    }
    println!("\n| purges | until a read elsewhere misses: p50 | p99 | worst |\n|---|---|---|---|");
    lags.sort_unstable();
    println!(
        "| {PROPAGATIONS} | {:.0?} | {:.0?} | {:.0?} |",
        percentile(&lags, 50),
        percentile(&lags, 99),
        percentile(&lags, 100)
    );
    Ok(())
}

/// Measures how long an instance serves a purged entry after it has lost the server.
fn bound(server: &Valkey) -> Result<(), Failure> {
    let (one, other) = (runtime()?, runtime()?);
    let cut = Arc::new(AtomicBool::new(false));
    let port = one.block_on(forward(server.port(), Arc::clone(&cut)))?;
    let (here, there) = (cache(server.port())?, cache(port)?);
    one.block_on(connected(&here))?;
    let mut lags = Vec::new();
    for _ in 0..CUTS {
        other.block_on(trusted(&there))?;
        cut.store(true, Ordering::SeqCst);
        one.block_on(here.purge(Purge::tag("page")))?;
        let purged = Instant::now();
        let missed = other.block_on(until_missed(&there));
        lags.push(missed.saturating_duration_since(purged));
        cut.store(false, Ordering::SeqCst);
    }
    lags.sort_unstable();
    println!("\n| connections cut | stale at most, of a bound of 5 s |\n|---|---|");
    println!("| {CUTS} | {:.2?} |", percentile(&lags, 100));
    Ok(())
}

async fn connected(cache: &Cache) -> Result<(), Failure> {
    let give_up = Instant::now() + MINUTE;
    while cache.purge(Purge::tag("nothing")).await.is_err() {
        if Instant::now() > give_up {
            return Err("no connection".into());
        }
    }
    Ok(())
}

/// Waits until the instance has the page, and would serve it.
async fn store(cache: &Cache) -> Result<(), Failure> {
    let until = Instant::now() + MINUTE;
    while cache.get("page").await.is_none() {
        let options = ValueOptions::ttl(DAY).tag("page");
        let made = cache
            .get_or_set_with("page", options, async || Ok::<_, Failure>("x"))
            .await;
        made?;
        tokio::time::sleep(Duration::from_millis(1)).await;
        if Instant::now() > until {
            return Err("nothing is stored".into());
        }
    }
    Ok(())
}

/// Waits until the instance has the page, and has trusted it for longer than it would without the
/// log.
async fn trusted(cache: &Cache) -> Result<(), Failure> {
    let give_up = Instant::now() + MINUTE;
    while Instant::now() < give_up {
        store(cache).await?;
        let long_enough = Instant::now() + Duration::from_secs(6);
        while cache.get("page").await.is_some() {
            if Instant::now() > long_enough {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Err("an entry is not trusted though the log is in sight".into())
}

async fn until_missed(cache: &Cache) -> Instant {
    while cache.get("page").await.is_some() {
        tokio::task::yield_now().await;
    }
    Instant::now()
}

/// Starts a relay that swallows everything while it is cut.
async fn forward(upstream: u16, cut: Arc<AtomicBool>) -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else {
                continue;
            };
            let _best_effort = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(relay(from_client, to_server, Arc::clone(&cut)));
            tokio::spawn(relay(from_server, to_client, Arc::clone(&cut)));
        }
    });
    Ok(port)
}

/// Relays one connection. If it has swallowed bytes, the connection stays silent, since these bytes
/// would be missing later.
async fn relay(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    cut: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut swallows = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        swallows |= cut.load(Ordering::SeqCst);
        let bytes = buffer.get(..count).unwrap_or_default();
        if !swallows && to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

fn row(what: &str, carried: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let count = times.len();
    println!(
        "| {what} | {carried} | {count} | {:.1?} | {:.1?} |",
        percentile(times, 50),
        percentile(times, 99)
    );
}

fn ratio(many: &[Duration], one: &[Duration]) -> f64 {
    percentile(many, 50).as_secs_f64() / percentile(one, 50).as_secs_f64()
}

/// A percentile of sorted durations.
fn percentile(sorted: &[Duration], part: usize) -> Duration {
    let place = (sorted.len() * part / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}

/// A number up to `most`, from the clock. It need only break the rhythm.
fn fastrand(most: u64) -> u64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    nanos.map_or(0, |nanos| u64::from(nanos.subsec_nanos()) % most)
}

fn runtime() -> Result<Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(1).enable_all().build()?)
}

/// What the server counted so far.
struct Counted {
    used_memory: u64,
    commands: Vec<(String, u64)>,
}

impl Counted {
    async fn of(direct: &mut MultiplexedConnection) -> Result<Self, Failure> {
        let info: String = redis::cmd("INFO")
            .arg("everything")
            .query_async(direct)
            .await?;
        let value = |line: &str| {
            line.split_once(':')
                .map(|(_, value)| value.trim().to_owned())
        };
        let used = info
            .lines()
            .find(|line| line.starts_with("used_memory:"))
            .and_then(value);
        let command = |line: &str| {
            let (name, facts) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), facts.split(',').next()?.parse().ok()?))
        };
        Ok(Self {
            used_memory: used.and_then(|used| used.parse().ok()).unwrap_or_default(),
            commands: info.lines().filter_map(command).collect(),
        })
    }

    fn of_command(&self, name: &str) -> u64 {
        self.commands
            .iter()
            .filter(|(of, _)| of == name)
            .map(|(_, calls)| calls)
            .sum()
    }

    fn others(&self) -> u64 {
        let log = ["xadd", "xread", "xinfo|stream", "xrange"];
        let others = self
            .commands
            .iter()
            .filter(|(name, _)| !log.contains(&name.as_str()));
        others.map(|(_, calls)| calls).sum()
    }
}

fn cache(port: u16) -> Result<Cache, Failure> {
    let config = CacheConfig::builder().url(format!("valkey://127.0.0.1:{port}"));
    // The timeout is long, since a busy machine is no fault of the server.
    let config = config.operation_timeout(Duration::from_millis(500));
    Ok(Cache::new(config.build()?))
}

async fn connect(server: &Valkey) -> Result<MultiplexedConnection, Failure> {
    let client = redis::Client::open(("127.0.0.1", server.port()))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
