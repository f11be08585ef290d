//! [`CacheLayer`]: a cache and a policy.

use std::sync::Arc;

use http::request::Parts;
use tower_layer::Layer;

use crate::cache::Cache;
use crate::config::{Policy, RequestPredicate};
use crate::request::settings::{Choice, Settings};
use crate::service::CacheService;

/// Caches the responses of the services it wraps.
///
/// It applies directly to an axum `Router` or `MethodRouter`, in a `ServiceBuilder`, and around
/// a plain hyper or tower service: the inner service's error type stays, and any body of `Bytes`
/// will do.
///
/// A hit does not touch the inner service, so limits, timeouts and load-shedding belong *inside*
/// this layer; so does compression, whose variants are then stored. So does whatever hands out
/// cookies, such as a session layer: the cache has to see what it sets. Who may see a page is decided
/// *outside*.
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
///
/// Where a route has a policy of its own, its layer goes around that route, and another around
/// everything. The inner of two layers of one cache has what reaches it:
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use tower_response_cache::{Cache, CacheConfig, CacheLayer, CookieRule, Policy, QueryRule};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Cache::new(CacheConfig::from_env()?);
/// let with = |policy: Policy| CacheLayer::new(cache.clone()).policy(policy);
/// let minute = Policy::builder().default_ttl(Duration::from_secs(60)).build()?;
/// let search = Policy::builder()
///     .default_ttl(Duration::from_secs(5))
///     .query(QueryRule::Only(vec!["q".into(), "page".into()]))
///     .build()?;
/// let themed = Policy::builder()
///     .default_ttl(Duration::from_secs(60))
///     .key_cookies(["theme"])
///     .cookies(CookieRule::Ignore)
///     .build()?;
/// let never = Policy::builder().bypass_if(|_| true).build()?;
/// # let handler = || async { "" };
/// let app: Router = Router::new()
///     .route("/", get(handler))
///     .route("/search", get(handler).layer(with(search)))
///     .route("/themed", get(handler).layer(with(themed)))
///     .route("/cart", get(handler).layer(with(never)))
///     .layer(with(minute)); // around the routes above, and none that is added below
/// # Ok(())
/// # }
/// ```
///
/// In axum `.layer()` wraps what stands before it: a route that is added after the layer is not
/// cached at all. [`CacheLayer::policy_if`] does the same in one layer.
#[derive(Clone, Debug)]
pub struct CacheLayer {
    choice: Arc<Choice>,
}

impl CacheLayer {
    /// A layer over a [`Cache`], or over one made from a [`CacheConfig`](crate::CacheConfig),
    /// with the default [`Policy`].
    #[must_use]
    pub fn new(cache: impl Into<Cache>) -> Self {
        let choice = Choice {
            default: settings(cache.into(), Policy::default()),
            exceptions: Vec::new(),
        };
        Self {
            choice: Arc::new(choice),
        }
    }

    /// The policy of this layer.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        let default = settings(self.cache().clone(), policy);
        Arc::make_mut(&mut self.choice).default = default;
        self
    }

    /// Another policy for the requests for which `predicate` returns `true`. It replaces the
    /// layer's policy as a whole. The first predicate that holds decides. It is called for every
    /// request, before anything else.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_response_cache::{CacheConfig, CacheLayer, Policy, QueryRule};
    ///
    /// let query = QueryRule::Only(vec!["q".into()]);
    /// let search = Policy::builder().query(query).build()?;
    /// let never = Policy::builder().bypass_if(|_| true).build()?;
    /// let layer = CacheLayer::new(CacheConfig::default())
    ///     .policy(Policy::builder().default_ttl(Duration::from_secs(60)).build()?)
    ///     .policy_if(|request| request.uri.path() == "/search", search)
    ///     .policy_if(|request| request.uri.path().starts_with("/cart"), never);
    /// # drop(layer);
    /// # Ok::<(), tower_response_cache::ConfigError>(())
    /// ```
    ///
    /// Danger: policies with the same key rules share what they store. Where a predicate looks at
    /// more than the URL, give its policy a [`namespace`](crate::PolicyBuilder::namespace).
    #[must_use]
    pub fn policy_if(
        mut self,
        predicate: impl Fn(&Parts) -> bool + Send + Sync + 'static,
        policy: Policy,
    ) -> Self {
        let exception = settings(self.cache().clone(), policy);
        let predicate = RequestPredicate::new(predicate);
        let exceptions = &mut Arc::make_mut(&mut self.choice).exceptions;
        exceptions.push((predicate, exception));
        self
    }

    /// The cache that this layer uses.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.choice.default.cache
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> CacheService<S> {
        CacheService::new(inner, Arc::clone(&self.choice))
    }
}

/// The lifetime that the cache assigns holds where the policy has none.
fn settings(cache: Cache, mut policy: Policy) -> Arc<Settings> {
    let rules = &mut policy.rules;
    if rules.default_ttl.is_none() && rules.forced_ttl.is_none() {
        rules.default_ttl = Some(cache.config().default_ttl).filter(|ttl| !ttl.is_zero());
    }
    Arc::new(Settings { cache, policy })
}
