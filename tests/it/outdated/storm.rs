//! A storm of changes over two instances and a real Valkey that evicts, is full for a while, and
//! whose clients leave.

use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::support::valkey::Valkey;

/// A page is its version, which a PUT moves before it waits.
#[derive(Default)]
struct Pages {
    versions: Vec<AtomicU64>,
    /// The versions of which everybody at an instance has been told, and when: (instance, page).
    told: Mutex<Vec<(usize, usize, u64, Instant)>>,
    outdated: [AtomicU64; 2],
    seen: AtomicU64,
}

impl Pages {
    fn told(&self, instance: usize, page: usize, version: u64) {
        let told = (instance, page, version, Instant::now());
        self.told.lock().unwrap().push(told);
    }

    /// The least version that a request which began then may show.
    fn least(&self, instance: usize, page: usize, began: Instant) -> [u64; 2] {
        let told = self.told.lock().unwrap();
        let of = |here: bool, grace: Duration| {
            let known = |it: &&(usize, usize, u64, Instant)| {
                it.1 == page && (it.0 == instance) == here && it.3 + grace < began
            };
            told.iter().filter(known).map(|it| it.2).max().unwrap_or(0)
        };
        [of(true, Duration::ZERO), of(false, BOUND)]
    }
}

async fn answer(pages: Arc<Pages>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let page = number_of(request.uri().path());
    let version = if request.method().is_safe() {
        pages.versions[page].load(Ordering::SeqCst)
    } else {
        pages.versions[page].fetch_add(1, Ordering::SeqCst) + 1
    };
    tokio::time::sleep(Duration::from_millis(2)).await;
    let response = Response::builder()
        .header("cache-control", "max-age=600")
        .header("etag", format!("\"{version}\""))
        .header("cache-tag", format!("page-{page}"))
        .header("x-version", version);
    Ok(response.body(Body::from("content")).unwrap())
}

fn number_of(path: &str) -> usize {
    path.rsplit('/').next().unwrap().parse().unwrap()
}

#[derive(Clone)]
struct Instance {
    number: usize,
    cache: Cache,
    pages: Arc<Pages>,
}

impl Instance {
    fn new(number: usize, server: &Valkey, pages: &Arc<Pages>) -> Self {
        let config = CacheConfig::builder().url(server.url());
        Self {
            number,
            cache: Cache::new(config.build().unwrap()),
            pages: Arc::clone(pages),
        }
    }

    fn send(&self, method: &str, page: usize, field: Option<(&str, &str)>) -> Answer {
        let pages = Arc::clone(&self.pages);
        let handler = service_fn(move |request| answer(Arc::clone(&pages), request));
        let app = tower::Layer::layer(&CacheLayer::new(self.cache.clone()), handler);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://example.org/page/{page}"));
        if let Some((name, value)) = field {
            request = request.header(name, value);
        }
        let request = request.body(Body::empty()).unwrap();
        Box::pin(async move { app.oneshot(request).await.unwrap().map(Body::new) })
    }

    async fn read_for_ever(self) {
        loop {
            let page = fastrand::usize(..PAGES);
            let (method, field) = match fastrand::u8(..5) {
                0 => ("HEAD", None),
                1 => ("GET", Some(("range", "bytes=0-"))),
                2 => ("GET", Some(("if-none-match", "\"x\""))),
                _ => ("GET", None),
            };
            let began = Instant::now();
            let response = self.send(method, page, field).await;
            let version = response.headers()["x-version"].to_str().unwrap();
            let version: u64 = version.parse().unwrap();
            drop(to_bytes(response.into_body(), 1 << 20).await);
            self.pages.seen.fetch_add(1, Ordering::Relaxed);
            let least = self.pages.least(self.number, page, began);
            for (outdated, least) in self.pages.outdated.iter().zip(least) {
                outdated.fetch_add(u64::from(version < least), Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_micros(fastrand::u64(..4000))).await;
        }
    }

    /// A PUT whose client may leave, or a change and its purge.
    async fn change(self) {
        let page = fastrand::usize(..PAGES);
        if fastrand::bool() {
            let patience = Duration::from_millis(fastrand::u64(1..12));
            let put = tokio::time::timeout(patience, self.send("PUT", page, None));
            if let Ok(response) = put.await {
                let version = response.headers()["x-version"].to_str().unwrap();
                self.pages.told(self.number, page, version.parse().unwrap());
            }
        } else {
            let version = self.pages.versions[page].fetch_add(1, Ordering::SeqCst) + 1;
            let purge = Purge::tag(format!("page-{page}"));
            // It is in force here whether or not the store took it.
            let _announced_later = self.cache.purge(purge).await;
            self.pages.told(self.number, page, version);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, and prints figures"]
async fn a_storm_of_changes_leaves_nothing_outdated() {
    let server = Valkey::start();
    let mut pages = Pages::default();
    pages.versions.resize_with(PAGES, AtomicU64::default);
    let pages = Arc::new(pages);
    let instances = [0, 1].map(|number| Instance::new(number, &server, &pages));
    let readers: Vec<_> = (0..64)
        .map(|reader| tokio::spawn(instances[reader % 2].clone().read_for_ever()))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    for change in 0..4000 {
        tokio::spawn(instances[fastrand::usize(..2)].clone().change());
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..10_000))).await;
        match change {
            1500 => full(&server, true),
            2000 => full(&server, false),
            _ if change % 10 == 0 => evict_any(&server),
            _ => {}
        }
    }
    println!("4000 changes in {:.0?}", began.elapsed());
    tokio::time::sleep(BOUND).await;
    for reader in readers {
        reader.abort();
    }
    let outdated = pages
        .outdated
        .each_ref()
        .map(|it| it.load(Ordering::Relaxed));
    println!(
        "{} responses seen; outdated where it was changed: {}, elsewhere after the bound: {}",
        pages.seen.load(Ordering::Relaxed),
        outdated[0],
        outdated[1]
    );
    propagation(&instances).await;
    assert_eq!(outdated, [0, 0]);
}

/// From when a purge has returned here until a request elsewhere shows the new state.
async fn propagation([here, there]: &[Instance; 2]) {
    let mut lags = Vec::new();
    for _ in 0..1000 {
        let there = there.clone();
        there.send("GET", 0, None).await;
        let version = there.pages.versions[0].fetch_add(1, Ordering::SeqCst) + 1;
        here.cache.purge(Purge::tag("page-0")).await.unwrap();
        let began = Instant::now();
        loop {
            let asked = began.elapsed();
            let response = there.send("GET", 0, None).await;
            if response.headers()["x-version"] == *version.to_string() {
                lags.push(asked);
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    lags.sort_unstable();
    println!("propagation: p50 {:.0?}, p99 {:.0?}", lags[500], lags[990]);
}

fn full(server: &Valkey, is_full: bool) {
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let most = if is_full { "1" } else { "0" };
    server.command(&["CONFIG", "SET", "maxmemory", most]);
}

/// But for the log, whose loss would purge everything.
fn evict_any(server: &Valkey) {
    let key = server.command(&["RANDOMKEY"]);
    let key = key.lines().last().unwrap_or_default();
    if key.starts_with("trc:3:") {
        server.command(&["DEL", key]);
    }
}

const PAGES: usize = 50;

/// And what it takes to notice, on a busy machine.
const BOUND: Duration = Duration::from_secs(7);
