//! Readiness: the report of a cache on its store, and a service that answers probes with it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use tower_service::Service;

use crate::cache::Cache;
use crate::store::{BreakerState, StoreState};

/// Whether the cache works with its shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadinessState {
    /// The shared store answers, and neither reads nor writes are suspended. A cache without a
    /// shared store is always ready.
    Ready,
    /// The cache serves requests without reading from the shared store, or without writing to it.
    Degraded,
}

impl ReadinessState {
    /// The stable name, for probes and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
        }
    }
}

/// The report of [`Cache::readiness`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readiness {
    /// Whether the cache works with its shared store.
    pub state: ReadinessState,
    /// The URL of the shared store without its password, or `memory://`.
    pub store: String,
    /// The state of the connection to the shared store.
    pub store_state: StoreState,
    /// The round trip of a PING at most a second ago. `None` if the store did not answer within
    /// the operation timeout.
    pub ping: Option<Duration>,
    /// The breaker of reads. It opens when they fail or are too slow.
    pub reads: BreakerState,
    /// The breaker of writes.
    pub writes: BreakerState,
    /// Whether [`Readiness::status`] is 503 while the cache is degraded.
    pub strict: bool,
}

impl Readiness {
    /// The status for a readiness probe: 503 if the cache is degraded and
    /// [`strict_readiness`](crate::CacheConfigBuilder::strict_readiness) is set, 200 otherwise.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        if self.strict && self.state == ReadinessState::Degraded {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        }
    }

    /// The report as a JSON object with `state`, `store`, `store_state`, `reads`, `writes` and
    /// `ping_ms`.
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

/// The character in a JSON string. Control characters become `?`.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let backslash = matches!(character, '"' | '\\').then_some('\\');
    let shown = if character.is_control() {
        '?'
    } else {
        character
    };
    backslash.into_iter().chain(std::iter::once(shown))
}

impl Cache {
    /// Reports whether the cache works with its shared store. At most once a second this sends a
    /// PING, which takes at most the operation timeout.
    ///
    /// A liveness probe must not use this: restarting an instance does not repair a store.
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
        let ping = self
            .last_ping()
            .recent_or(async || self.ping().await.ok())
            .await;
        let closed = BreakerState::Closed;
        let (store_state, reads, writes) = match self.tiers().store().map(|store| store.health()) {
            Some(health) => (health.state, health.read_breaker, health.write_breaker),
            None => (StoreState::Ready, closed, closed),
        };
        let answers = ping.is_some() && store_state == StoreState::Ready;
        let state = if answers && (reads, writes) == (closed, closed) {
            ReadinessState::Ready
        } else {
            ReadinessState::Degraded
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

    /// A service for a readiness route. It answers with the report as JSON, and its status.
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
}

/// The service that answers readiness probes, from [`Cache::readiness_service`].
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
