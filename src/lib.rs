//! Stub.
#![allow(dead_code, unreachable_pub, reason = "under construction")]
mod clock;
mod policy;
pub use clock::*;
pub use policy::{CacheOptions, CookieRule, Rules, SetCookieRule};
