//! What a handler says of its own response, without headers.

use std::time::Duration;

use http::HeaderName;

/// Caching instructions that a handler attaches to its response.
///
/// Set as a response extension; they take precedence over targeted fields,
/// `Cache-Control`, and the policy's defaults, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct CacheOptions {
    pub(crate) max_age: Option<Duration>,
    pub(crate) stale_while_revalidate: Option<Duration>,
    pub(crate) stale_if_error: Option<Duration>,
    pub(crate) no_store: bool,
    pub(crate) private: bool,
    pub(crate) vary: Vec<HeaderName>,
    pub(crate) tags: Vec<String>,
}
