//! [`CacheLayer`]: a cache and a policy.

use std::sync::Arc;

use tower_layer::Layer;

use crate::cache::Cache;
use crate::config::Policy;
use crate::request::settings::Settings;
use crate::service::CacheService;

/// Caches the responses of the services it wraps.
///
/// It applies directly to an axum `Router` or `MethodRouter`, in a `ServiceBuilder`, and around
/// a plain hyper or tower service: the inner service's error type stays, and any body of `Bytes`
/// will do.
///
/// A hit does not touch the inner service, so limits, timeouts and load-shedding belong *inside*
/// this layer; so does compression, whose variants are then stored.
///
/// ```
/// use axum::{Router, routing::get};
/// use http::header::CACHE_CONTROL;
/// use tower_response_cache::{CacheConfig, CacheLayer};
///
/// let app: Router = Router::new()
///     .route("/", get(|| async { ([(CACHE_CONTROL, "max-age=60")], "hello") }))
///     .layer(CacheLayer::new(CacheConfig::default()));
/// ```
#[derive(Clone, Debug)]
pub struct CacheLayer {
    settings: Arc<Settings>,
}

impl CacheLayer {
    /// A layer over a [`Cache`], or over one made from a [`CacheConfig`](crate::CacheConfig),
    /// with the default [`Policy`].
    #[must_use]
    pub fn new(cache: impl Into<Cache>) -> Self {
        let cache = cache.into();
        Self::with(cache, Policy::default())
    }

    /// The same cache with a policy of its own for these routes.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self::with(self.settings.cache.clone(), policy)
    }

    /// The cache that this layer uses.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.settings.cache
    }

    fn with(cache: Cache, mut policy: Policy) -> Self {
        let rules = &mut policy.rules;
        if rules.default_ttl.is_none() && rules.forced_ttl.is_none() {
            rules.default_ttl = Some(cache.config().default_ttl).filter(|ttl| !ttl.is_zero());
        }
        Self {
            settings: Arc::new(Settings { cache, policy }),
        }
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> CacheService<S> {
        CacheService::new(inner, Arc::clone(&self.settings))
    }
}
