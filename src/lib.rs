//! Stub.
#![allow(dead_code, unreachable_pub, reason = "under construction")]
mod clock;
mod error;
mod policy;
mod store;
mod task;
pub use clock::*;
pub use error::{ErrorCode, StoreError};
pub use policy::{CacheOptions, CookieRule, Rules, SetCookieRule};
pub use store::{
    BoxFuture, BreakerState, Health, LogBounds, LogPosition, SharedStore, StoreState, StoreUrl,
    Trimmed, UrlError, ValkeySettings, ValkeyStore,
};
