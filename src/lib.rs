//! A tower middleware that caches HTTP responses: by RFC 9111, shared by all instances through
//! Valkey, safe by default.
//!
//! [`CacheLayer`] wraps any tower service, such as axum's and hyper's. It answers from stored
//! responses, which are in Valkey and in a small in-process tier above. The handler answers the
//! other requests. Handlers control the layer with the header fields of HTTP, or with
//! [`CacheOptions`]. They get the [`Cache`] itself as a request extension.
//!
//! ```
//! use axum::{Json, Router, extract::Path, http::StatusCode, response::IntoResponse, routing::get};
//! use tower_response_cache::{Cache, CacheConfig, CacheLayer, CacheOptions, Purge};
//!
//! async fn show(Path(id): Path<u64>) -> impl IntoResponse {
//!     let options = CacheOptions::new().max_age(60).tag(format!("product:{id}"));
//!     (options, Json(id))
//! }
//!
//! async fn update(cache: Cache, Path(id): Path<u64>) -> StatusCode {
//!     match cache.purge(Purge::tag(format!("product:{id}"))).await {
//!         Ok(()) => StatusCode::NO_CONTENT,
//!         Err(_) => StatusCode::SERVICE_UNAVAILABLE,
//!     }
//! }
//!
//! # fn app() -> Result<Router, tower_response_cache::ConfigError> {
//! // `CACHE_URL` names the Valkey; without it, responses are kept in this process.
//! let cache = Cache::new(CacheConfig::from_env()?);
//! let app = Router::new()
//!     .route("/products/{id}", get(show).put(update))
//!     .layer(CacheLayer::new(cache));
//! # Ok(app)
//! # }
//! # drop(app());
//! ```
//!
//! # What it does by default
//!
//! - It stores responses to GET that name a lifetime. It does not store a response with `no-store`,
//!   `private` or `Set-Cookie`, nor the response to a request with `Authorization` or `Cookie`
//!   unless that permits sharing. `detail` in `Cache-Status` says why.
//! - It answers GET, HEAD, conditional and single-range requests from what it stored.
//! - One request at a time fetches for all that want the same. The others wait for its response,
//!   and call the handler themselves if it must not be shared.
//! - Bodies stream to the client while they are recorded. They are stored only after a clean end.
//! - Every response carries `Cache-Status` (RFC 9211), which says why it was not a hit.
//! - Trouble with Valkey makes misses, never errors. It costs a request at most the operation
//!   timeout (50 ms), and nothing once the breaker is open.
//!
//! # Where the layer goes
//!
//! Whatever changes responses by who asks (authentication, sessions) belongs *outside* the layer,
//! so that a hit passes it as well. Limits, timeouts and compression belong *inside*: a hit needs
//! none of them, and compressed variants are then stored.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `axum` | yes | keys by the original URI under `Router::nest`: needed for safety there |
//! | `serde` | no | settings by serde, serde types as the application's own values |
//! | `tls` | no | `valkeys://` and `rediss://`, by rustls |
//! | `zstd` | no | long bodies are compressed in Valkey |
//! | `metrics` | no | the figures of a cache for the `metrics` facade |
//! | `test-util` | no | clocks that tests move, a shared store without a server (`InProcessStore`), one that fails (`ChaosStore`), seeds |
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests"
    )
)]

mod base;
mod cache;
mod config;
mod entry;
mod error;
mod flight;
mod key;
mod purge;
mod recording;
mod request;
mod response;
mod semantics;
mod service;
mod status;
mod store;

pub use base::clock::{Clock, SystemClock, Timestamp};
#[cfg(feature = "test-util")]
pub use base::clock::{TestClock, TokioClock};
pub use cache::Cache;
#[cfg(feature = "axum")]
pub use cache::extract::NoCacheLayer;
#[cfg(feature = "serde")]
pub use cache::namespace::{Namespace, NamespaceError};
pub use cache::readiness::{Readiness, ReadinessService, ReadinessState};
#[cfg(feature = "metrics")]
pub use cache::statistics::Responses;
pub use cache::statistics::Statistics;
#[cfg(feature = "test-util")]
pub use cache::testing;
pub use cache::values::ValueOptions;
pub use config::{CacheBypass, CacheConfig, CacheConfigBuilder, Policy, PolicyBuilder};
pub use error::{ConfigError, ErrorCode, PurgeError, StoreError};
pub use key::{CacheKey, QueryRule, Scheme};
pub use purge::Purge;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use request::fuzzing;
pub use response::body::ResponseBody;
pub use response::error::BodyError;
pub use semantics::{
    ANALYTICS_COOKIES, CacheOptions, CookieRule, FIELDS_OF_ONE_REQUEST, SetCookieRule,
};
pub use service::CacheService;
pub use service::future::ResponseFuture;
pub use service::layer::CacheLayer;
#[cfg(feature = "test-util")]
pub use store::ChaosStore;
#[cfg(feature = "tls")]
pub use store::TlsSettings;
pub use store::{
    AppendOptions, Appended, BoxFuture, BreakerState, CredentialsProvider, Health, Leased,
    LogBounds, LogPosition, Presence, SharedStore, StoreState, StoreUrl, Trimmed, UrlError,
    ValkeySettings, ValkeyStore,
};
#[cfg(feature = "test-util")]
pub use store::{InProcessStore, Outage};

/// Keeps the README's program compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
