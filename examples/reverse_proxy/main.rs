//! A caching reverse proxy in front of one origin.
//!
//! ```sh
//! cargo run --release --example reverse_proxy -- \
//!     --listen 127.0.0.1:8080 --origin http://127.0.0.1:8000 --store valkey://127.0.0.1
//! ```
//!
//! Clients may use HTTP/1.0, HTTP/1.1 and HTTP/2 without TLS. The proxy uses HTTP/1.1 to the
//! origin. Responses pass unchanged, except for the fields that belong to one connection. Interim
//! responses reach HTTP/1.1 clients. Upgrades (WebSocket) are tunnelled.
//!
//! - `main.rs`: the command line, and the cache between client and origin
//! - `serve.rs`: the side of the clients
//! - `interim.rs`: 1xx responses on a client's connection
//! - `forward.rs`: the side of the origin
//! - `fields.rs`: the fields that an intermediary removes, adds and counts down
//! - `admin.rs`: liveness, readiness, metrics, purges
#![allow(clippy::disallowed_methods, reason = "a program starts its own tasks")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use http::uri::{Authority, Scheme, Uri};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tower::Layer;
use tower_response_cache::{Cache, CacheConfig, CacheLayer, ConfigError, Policy, SetCookieRule};

mod admin;
mod fields;
mod forward;
mod interim;
mod serve;

/// A caching reverse proxy in front of one origin.
///
/// Where a setting of the cache is not given, the environment is asked: `CACHE_URL`,
/// `CACHE_PREFIX`, `CACHE_MEMORY_BYTES`, `CACHE_MAX_BODY` and so on.
#[derive(Debug, Parser)]
struct Args {
    /// Where clients connect; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The origin: scheme `http`, host and port.
    #[arg(long, default_value = "http://127.0.0.1:8000", value_parser = origin)]
    origin: Authority,
    /// Where `/livez`, `/readyz`, `/metrics` and `POST /purge` are served; nowhere if not given.
    /// Whoever can connect may purge: keep it private.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// The time that the origin has for the head of its response, then 504; 0 for no limit.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    origin_timeout: Duration,
    /// Add `Via` to requests and responses.
    #[arg(long)]
    via: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

/// What the cache is told; unset means the environment, then the default.
#[derive(Debug, clap::Args)]
struct CacheArgs {
    /// `memory://`, or the shared store: `valkey://host:port/db`. [CACHE_URL]
    #[arg(long)]
    store: Option<String>,
    /// The first part of every key in the shared store. [CACHE_PREFIX]
    #[arg(long)]
    prefix: Option<String>,
    /// The most that the shared store may delay a response, as `50ms`. [CACHE_OPERATION_TIMEOUT]
    #[arg(long)]
    operation_timeout: Option<String>,
    /// The largest body to store, as `1MiB`. [CACHE_MAX_BODY]
    #[arg(long)]
    max_body: Option<String>,
    /// Memory for stored responses in this process, as `64MiB`; 0 for none. [CACHE_MEMORY_BYTES]
    #[arg(long)]
    memory: Option<String>,
    /// The lifetime of responses that do not say, as `30s`. [CACHE_DEFAULT_TTL]
    #[arg(long)]
    default_ttl: Option<String>,
    /// Obey `no-cache`, `max-age`, `min-fresh` and `max-stale` in requests: any client can
    /// then make the origin work.
    #[arg(long)]
    client_directives: bool,
    /// Without explicit freshness: this percentage of the time since `Last-Modified`
    /// (RFC 9111 4.2.2); 0 stores explicit freshness only.
    #[arg(long, default_value_t = 10)]
    heuristic_percent: u8,
    /// For how long after its lifetime a response is served when the origin fails (no answer,
    /// 500, 502, 503 or 504), unless the response forbids it; 0 passes the origin's failure on.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    stale_if_error: Duration,
    /// What happens to responses with `Set-Cookie`.
    #[arg(long, value_enum, default_value_t = SetCookie::Refuse)]
    set_cookie: SetCookie,
    /// Let one instance at a time fetch a missing response. [CACHE_LEASE]
    #[arg(long)]
    lease: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SetCookie {
    /// They are not stored.
    Refuse,
    /// They are stored without their cookies.
    Strip,
    /// They are stored with their cookies: everybody gets the cookie that was made for one.
    Store,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let cache = args.cache.cache()?;
    let layer = CacheLayer::new(cache.clone()).policy(args.cache.policy()?);
    let service = layer.layer(forward::Origin::new(
        args.origin.clone(),
        (!args.origin_timeout.is_zero()).then_some(args.origin_timeout),
        args.via,
    ));
    if let Some(address) = args.admin {
        let listener = TcpListener::bind(address).await?;
        println!("admin on http://{}", listener.local_addr()?);
        let metrics = PrometheusBuilder::new().install_recorder()?;
        tokio::spawn(admin::serve(listener, cache, metrics));
    }
    let listener = TcpListener::bind(args.listen).await?;
    println!(
        "listening on http://{} for http://{}",
        listener.local_addr()?,
        args.origin
    );
    serve::serve(listener, service, stop()).await;
    Ok(())
}

impl CacheArgs {
    /// The cache, by the flags first and the environment second.
    fn cache(&self) -> Result<Cache, ConfigError> {
        let config = CacheConfig::from_vars(|name| {
            let flag = match name {
                "CACHE_URL" => &self.store,
                "CACHE_PREFIX" => &self.prefix,
                "CACHE_OPERATION_TIMEOUT" => &self.operation_timeout,
                "CACHE_MAX_BODY" => &self.max_body,
                "CACHE_MEMORY_BYTES" => &self.memory,
                "CACHE_DEFAULT_TTL" => &self.default_ttl,
                _ => &None,
            };
            let flag = match name {
                "CACHE_LEASE" if self.lease => Some("true".to_owned()),
                _ => flag.clone(),
            };
            flag.or_else(|| std::env::var(name).ok())
        })?;
        Ok(Cache::new(config))
    }

    /// What holds for all that the origin sends.
    fn policy(&self) -> Result<Policy, ConfigError> {
        Policy::builder()
            .client_directives(self.client_directives)
            .heuristic_percent(self.heuristic_percent)
            .stale_if_error(self.stale_if_error)
            .set_cookie(match self.set_cookie {
                SetCookie::Refuse => SetCookieRule::Refuse,
                SetCookie::Strip => SetCookieRule::StoreAndStrip,
                SetCookie::Store => SetCookieRule::StoreForEveryone,
            })
            .build()
    }
}

/// Completes when the process is asked to end.
async fn stop() {
    #[cfg(unix)]
    if let Ok(mut terminated) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn origin(value: &str) -> Result<Authority, &'static str> {
    const EXPECTED: &str = "expected http://host:port, without a path";
    let parts = value
        .parse::<Uri>()
        .map_err(|_invalid| EXPECTED)?
        .into_parts();
    let path = parts
        .path_and_query
        .as_ref()
        .map_or("/", |path| path.as_str());
    match parts.authority {
        Some(authority) if parts.scheme == Some(Scheme::HTTP) && path == "/" => Ok(authority),
        _ => Err(EXPECTED),
    }
}
