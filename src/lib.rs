//! A tower middleware that caches HTTP responses: RFC 9111 to the letter, shared by all instances
//! through Valkey, safe by default.
//!
//! [`CacheLayer`] wraps any tower service, axum's and hyper's among them. It answers from stored
//! responses, which live in Valkey with a small in-process tier above, and leaves to the handler
//! what it must not answer. Handlers steer it with the headers that HTTP has for it, or with
//! [`CacheOptions`]; they reach the [`Cache`] itself as a request extension.
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

mod answer;
mod body;
mod cache;
mod clock;
mod coalesce;
mod config;
mod entry;
mod error;
mod fetch;
mod fill;
mod flight;
mod flow;
mod future;
mod invalidate;
mod key;
mod layer;
mod lease;
#[cfg(all(test, shuttle))]
mod model;
mod policy;
mod position;
mod purge;
mod recording;
mod service;
mod status;
mod store;
mod sync;
mod task;
mod waiters;

pub use body::{BodyError, ResponseBody};
pub use cache::Cache;
#[cfg(feature = "test-util")]
pub use clock::TestClock;
pub use clock::{Clock, SystemClock, Timestamp};
pub use config::{CacheConfig, CacheConfigBuilder, Policy, PolicyBuilder};
pub use error::{ConfigError, ErrorCode, PurgeError, StoreError};
pub use future::ResponseFuture;
pub use key::{KeyRules, QueryRule, Scheme};
pub use layer::CacheLayer;
pub use policy::{CacheOptions, CookieRule, Refusal, Rules, SetCookieRule};
pub use purge::Purge;
pub use service::CacheService;
pub use status::Forwarded;
pub use store::{
    BoxFuture, BreakerState, Health, Leased, LogBounds, LogPosition, SharedStore, StoreState,
    StoreUrl, Trimmed, UrlError, ValkeySettings, ValkeyStore,
};
