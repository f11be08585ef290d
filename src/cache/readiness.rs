//! Whether this instance should be sent requests, as far as the cache goes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower_service::Service;

use crate::cache::Cache;
use crate::store::{BreakerState, StoreState};

/// How the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadinessState {
    /// The shared store answers and takes writes, and neither is suspended; or there is none to wait
    /// for.
    Ready,
    /// Requests are served, without the shared store or without writing to it.
    Degraded,
}

impl ReadinessState {
    /// The stable label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
        }
    }
}

/// What [`Cache::readiness`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readiness {
    /// How the cache is.
    pub state: ReadinessState,
    /// The shared store's URL without its password, or `memory://`.
    pub store: String,
    /// The state of the connection to it.
    pub store_state: StoreState,
    /// How long a PING took, at most a second ago. `None` if it was not answered in time.
    pub ping: Option<Duration>,
    /// Whether reads of it are suspended, since they fail or are too slow.
    pub reads: BreakerState,
    /// Whether writes to it are.
    pub writes: BreakerState,
    /// Whether the settings ask for 503 while degraded.
    pub strict: bool,
}

impl Readiness {
    /// The status for a readiness probe: 200; while degraded 503 if the settings are strict.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.state {
            ReadinessState::Degraded if self.strict => StatusCode::SERVICE_UNAVAILABLE,
            ReadinessState::Ready | ReadinessState::Degraded => StatusCode::OK,
        }
    }

    /// A small JSON object: `state`, `store`, `store_state`, `reads`, `writes`, `ping_ms`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self {
            state,
            store,
            store_state,
            ping,
            reads,
            writes,
            strict: _,
        } = self;
        let ping = ping.map_or("null".to_owned(), |ping| {
            format!("{:.3}", ping.as_secs_f64() * 1000.0)
        });
        let store: String = store.chars().flat_map(escaped).collect();
        format!(
            r#"{{"state":"{}","store":"{store}","store_state":"{}","reads":"{}","writes":"{}","ping_ms":{ping}}}"#,
            state.as_str(),
            store_state.name(),
            reads.name(),
            writes.name(),
        )
    }
}

fn escaped(character: char) -> impl Iterator<Item = char> {
    let backslash = matches!(character, '"' | '\\').then_some('\\');
    let shown = if character.is_control() {
        '?'
    } else {
        character
    };
    backslash.into_iter().chain(std::iter::once(shown))
}

/// The last PING, so that probes do not add up to load.
#[derive(Debug, Default)]
pub(crate) struct LastPing(Mutex<Option<(Instant, Option<Duration>)>>);

impl Cache {
    /// Asks the shared store how it is, at most once a second and within the operation timeout,
    /// and reports.
    ///
    /// Liveness must never depend on this: restarting an instance mends no store.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use tower_response_cache::{Cache, CacheConfig, ReadinessState};
    ///
    /// let cache = Cache::new(CacheConfig::default());
    /// let readiness = cache.readiness().await;
    /// assert_eq!(readiness.state, ReadinessState::Ready);
    /// assert_eq!(readiness.status(), 200);
    /// # }
    /// ```
    pub async fn readiness(&self) -> Readiness {
        let ping = self.recent_ping().await;
        let closed = BreakerState::Closed;
        let (store_state, reads, writes) = match self.tiers().store().map(|store| store.health()) {
            Some(health) => (health.state, health.read_breaker, health.write_breaker),
            None => (StoreState::Ready, closed, closed),
        };
        let state = match (ping, store_state) {
            (Some(_), StoreState::Ready) if (reads, writes) == (closed, closed) => {
                ReadinessState::Ready
            }
            _ => ReadinessState::Degraded,
        };
        Readiness {
            state,
            store: self.config().store(),
            store_state,
            ping,
            reads,
            writes,
            strict: self.config().strict_readiness,
        }
    }

    /// A ready-made service for a readiness route: the report as JSON, with its status.
    ///
    /// ```
    /// use axum::Router;
    /// use tower_response_cache::{Cache, CacheConfig};
    ///
    /// let cache = Cache::new(CacheConfig::default());
    /// let app: Router = Router::new().route_service("/readyz", cache.readiness_service());
    /// ```
    #[must_use]
    pub fn readiness_service(&self) -> ReadinessService {
        ReadinessService {
            cache: self.clone(),
        }
    }

    async fn recent_ping(&self) -> Option<Duration> {
        let mut last = self.last_ping().0.lock().await;
        let now = Instant::now();
        if let Some((at, ping)) = *last
            && now.saturating_duration_since(at) < PING_INTERVAL
        {
            return ping;
        }
        let ping = self.ping().await.ok();
        *last = Some((now, ping));
        ping
    }
}

/// Answers readiness probes. Made by [`Cache::readiness_service`].
#[derive(Clone, Debug)]
pub struct ReadinessService {
    cache: Cache,
}

impl<B> Service<Request<B>> for ReadinessService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<B>) -> Self::Future {
        let cache = self.cache.clone();
        Box::pin(async move {
            let readiness = cache.readiness().await;
            let mut response = Response::new(Full::from(readiness.to_json()));
            *response.status_mut() = readiness.status();
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        })
    }
}

const PING_INTERVAL: Duration = Duration::from_secs(1);
