//! RFC 9111 as pure functions of (request head, stored metadata, response head, now).
//!
//! Nothing here reads a clock, does I/O, or knows of tokio and the stores.

pub mod options;
pub mod rules;

pub use options::CacheOptions;
pub use rules::{CookieRule, Rules, SetCookieRule};
