//! The policy of a layer, and the builder that fills it in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, request, response};

use super::bounds::{Bounds, Show, YEAR};
use super::credentials::CredentialRules;
use crate::error::ConfigError;
use crate::key::{CacheKey, KeyRules, KeyWith, QueryRule, Scheme};
use crate::semantics::{StorageRules, is_critical, is_tag};

/// The rules of one [`CacheLayer`](crate::CacheLayer), for what responses do not say themselves.
///
/// The default is RFC 9111 for a shared cache, and a response without explicit freshness is not
/// stored.
///
/// ```
/// use std::time::Duration;
/// use tower_response_cache::{Policy, QueryRule};
///
/// let policy = Policy::builder()
///     .default_ttl(Duration::from_secs(30))
///     .stale_while_revalidate(Duration::from_secs(60))
///     .query(QueryRule::Except(vec!["utm_*".into(), "fbclid".into()]))
///     .build()?;
/// # drop(policy);
/// # Ok::<(), tower_response_cache::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub(crate) rules: StorageRules,
    pub(crate) key: KeyRules,
    pub(crate) credentials: CredentialRules,
    pub(crate) early_refresh: Option<f32>,
    pub(crate) max_body: Option<u64>,
    pub(crate) auto_etag: bool,
    pub(crate) store_if: Option<StoreIf>,
    pub(crate) bypass_if: Option<RequestPredicate>,
    /// Requests with unsafe methods change nothing that is stored.
    pub(crate) ignores_changes: bool,
}

/// The predicate of [`PolicyBuilder::store_if`].
#[derive(Clone)]
pub(crate) struct StoreIf(Arc<ResponsePredicate>);

type ResponsePredicate = dyn Fn(&HeaderMap, &response::Parts) -> bool + Send + Sync;

impl StoreIf {
    pub(crate) fn holds(&self, request: &HeaderMap, response: &response::Parts) -> bool {
        (self.0)(request, response)
    }
}

impl fmt::Debug for StoreIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreIf")
    }
}

/// The predicate of [`PolicyBuilder::bypass_if`], or of a layer's policy for some requests.
#[derive(Clone)]
pub(crate) struct RequestPredicate(Arc<dyn Fn(&request::Parts) -> bool + Send + Sync>);

impl RequestPredicate {
    pub(crate) fn new(predicate: impl Fn(&request::Parts) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(predicate))
    }

    pub(crate) fn holds(&self, request: &request::Parts) -> bool {
        (self.0)(request)
    }
}

impl fmt::Debug for RequestPredicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestPredicate")
    }
}

impl Policy {
    /// A builder with every setting at its default.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }
}

/// Builds a [`Policy`]. [`PolicyBuilder::build`] checks the values.
#[derive(Clone, Debug, Default)]
#[must_use = "settings do nothing until they are built"]
pub struct PolicyBuilder {
    pub(super) policy: Policy,
}

impl PolicyBuilder {
    /// The lifetime of responses that name none, if their status is cacheable by default
    /// (RFC 9110, section 15.1).
    ///
    /// Default: the cache's own [`default_ttl`](crate::CacheConfigBuilder::default_ttl). Allowed: at
    /// most a year; zero leaves it to the cache. Not together with
    /// [`forced_ttl`](Self::forced_ttl).
    ///
    /// Danger: a handler that forgets `private` has its responses served to everyone. Requests with
    /// credentials stay safe.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.policy.rules.default_ttl = (!ttl.is_zero()).then_some(ttl);
        self
    }

    /// The lifetime of every response that may be stored, in place of the lifetime that it names.
    /// Prohibitions (`no-store`, `private`) still hold.
    ///
    /// Default: none. Allowed: at most a year.
    ///
    /// Danger: handlers can no longer shorten the lifetime of what they answer.
    pub fn forced_ttl(mut self, ttl: Duration) -> Self {
        self.policy.rules.forced_ttl = Some(ttl);
        self
    }

    /// The lifetime of responses that name none, as a percentage of the time since their
    /// `Last-Modified` (RFC 9111, section 4.2.2).
    ///
    /// Default: 0, off. Allowed: at most 100; 10 is typical.
    ///
    /// Danger: the lifetime is a guess. A page that was not changed for a year stays for weeks.
    pub fn heuristic_percent(mut self, percent: u8) -> Self {
        self.policy.rules.heuristic_percent = (percent > 0).then_some(percent);
        self
    }

    /// The time after expiry in which a response is served while it is refreshed in the background
    /// (RFC 5861, section 3). A response's own `stale-while-revalidate` goes first.
    ///
    /// Default: zero, off.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.policy.rules.stale_while_revalidate = (!window.is_zero()).then_some(window);
        self
    }

    /// The time after expiry in which a response is served if the handler fails (RFC 5861,
    /// section 4). A response's own `stale-if-error` goes first.
    ///
    /// Default: zero, off.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.policy.rules.stale_if_error = (!window.is_zero()).then_some(window);
        self
    }

    /// The eagerness to refresh popular responses in the background before they expire, so that no
    /// request waits for the handler.
    ///
    /// Default: 0, off. Allowed: 0 to 10. A refresh is the likelier, the closer the expiry is and
    /// the longer the handler took (XFetch; Vattani, Chierichetti and Lowenstein, "Optimal
    /// Probabilistic Cache Stampede Prevention"). The paper derives 1; more is earlier. An instance
    /// refreshes only what it has fetched itself.
    pub fn early_refresh(mut self, eagerness: f32) -> Self {
        self.policy.early_refresh = (eagerness != 0.0).then_some(eagerness);
        self
    }

    /// The time for which a response with a validator is kept after it can no longer be served, so
    /// that it can be revalidated.
    ///
    /// Default: 10 minutes.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.policy.rules.keep = keep;
        self
    }

    /// Whether the cache obeys a client's `no-cache`, `max-age`, `min-fresh`, `max-stale` and
    /// `Pragma`.
    ///
    /// Default: `false`.
    ///
    /// Danger: with `true`, any client can flood the handler.
    pub fn client_directives(mut self, obeyed: bool) -> Self {
        self.policy.rules.client_directives = obeyed;
        self
    }

    /// The longest body that is stored, in bytes, if that is less than the cache's own
    /// [`max_body`](crate::CacheConfigBuilder::max_body).
    ///
    /// Default: the cache's own. Allowed: at least 1.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.policy.max_body = Some(bytes);
        self
    }

    /// The only statuses that are stored. A status that RFC 9111 forbids stays unstored.
    ///
    /// Default: all that RFC 9111 permits but 401, 403 and 407, which refuse access to those who
    /// asked. Allowed: final statuses.
    ///
    /// Danger: a 401, 403 or 407 that is named here and stored goes to those who would have access.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.policy.rules.statuses.extend(statuses);
        self
    }

    /// Whether a 200 without an `ETag` is stored with the digest of its content as `ETag`
    /// (RFC 9110, section 8.8.3), so that clients can revalidate what they have.
    ///
    /// Default: `false`. The response that is stored passes to its own client unchanged. The handler
    /// never gets such a tag in a request, since it would not know it.
    pub fn auto_etag(mut self, wanted: bool) -> Self {
        self.policy.auto_etag = wanted;
        self
    }

    /// Stores a response only if `predicate` returns `true` for the request's headers and the
    /// response's head. It cannot permit what other rules forbid. It is called once for each
    /// response of the handler, and never on a hit.
    ///
    /// Default: no predicate.
    ///
    /// ```
    /// use tower_response_cache::Policy;
    ///
    /// let policy = Policy::builder()
    ///     .store_if(|_request, response| !response.headers.contains_key("x-draft"))
    ///     .bypass_if(|request| request.uri.path().starts_with("/admin"))
    ///     .build()?;
    /// # drop(policy);
    /// # Ok::<(), tower_response_cache::ConfigError>(())
    /// ```
    pub fn store_if(
        mut self,
        predicate: impl Fn(&HeaderMap, &response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.policy.store_if = Some(StoreIf(Arc::new(predicate)));
        self
    }

    /// Whether a successful request with an unsafe method (`POST`, `PUT`, `DELETE` and all that is
    /// not known to be safe) invalidates its target, and the same-origin `Location` and
    /// `Content-Location` of its 2xx response, in every instance (RFC 9111, section 4.4).
    ///
    /// Default: `true`. Each such request is one record in the purge log, or a part of one, whether
    /// or not anything of it is stored. Switch it off for routes whose targets nobody caches: gRPC,
    /// GraphQL, beacons. Then the handler of a client that leaves is dropped, as without this layer.
    /// What a response names itself ([`CacheOptions`](crate::CacheOptions) and
    /// `Cache-Group-Invalidation`) is purged all the same.
    ///
    /// Danger: with `false`, a `PUT` leaves the old page stored.
    pub fn invalidate_on_unsafe_method(mut self, wanted: bool) -> Self {
        self.policy.ignores_changes = !wanted;
        self
    }

    /// Passes a request to the handler if `predicate` returns `true`: nothing is looked up, stored
    /// or invalidated. It is called for every request, before anything else.
    ///
    /// Default: no predicate.
    ///
    /// Danger: a `PUT` that bypasses the cache leaves the old page stored.
    pub fn bypass_if(
        mut self,
        predicate: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.policy.bypass_if = Some(RequestPredicate::new(predicate));
        self
    }

    /// Adds a tag to every response of these routes, for [`Purge::tag`](crate::Purge::tag).
    ///
    /// Default: no tags. Allowed: 1 to 256 bytes without control characters.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.policy.rules.tags.push(tag.into());
        self
    }

    /// Whether `Surrogate-Key` and `Cache-Tag` are removed from responses to clients.
    ///
    /// Default: `false`, since caches between this one and the client may use them.
    pub fn strip_tags(mut self, strip: bool) -> Self {
        self.policy.rules.strip_tags = strip;
        self
    }

    /// Response fields that are not stored, such as [`FIELDS_OF_ONE_REQUEST`]: the client whose
    /// request reached the handler gets them, and no client of the stored response does.
    ///
    /// Default: none, since RFC 9111, section 3.1, wants all fields stored. Allowed: fields that do
    /// not tell what the response means or who may have it, unlike `Content-Type` and `Vary`.
    ///
    /// ```
    /// use tower_response_cache::{FIELDS_OF_ONE_REQUEST, Policy};
    ///
    /// let policy = Policy::builder().unstored_fields(FIELDS_OF_ONE_REQUEST).build()?;
    /// # drop(policy);
    /// # Ok::<(), tower_response_cache::ConfigError>(())
    /// ```
    ///
    /// [`FIELDS_OF_ONE_REQUEST`]: crate::FIELDS_OF_ONE_REQUEST
    pub fn unstored_fields(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.policy.rules.unstored.extend(names);
        self
    }

    /// The targeted fields (RFC 9213) that the cache obeys, the most specific first.
    ///
    /// Default: `CDN-Cache-Control`.
    pub fn targets(mut self, targets: Vec<HeaderName>) -> Self {
        self.policy.rules.targets = targets;
        self
    }

    /// A namespace for this policy's responses, apart from those of other policies for the same
    /// URLs.
    ///
    /// Default: empty.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.policy.key.namespace = namespace.into();
        self
    }

    /// The scheme of requests that name none, such as most HTTP/1.1 requests.
    ///
    /// Default: [`Scheme::Http`].
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.policy.key.scheme = scheme;
        self
    }

    /// The parts of the query that belong to the key. Other parts are hidden from the handler.
    ///
    /// Default: the whole query as it was sent.
    pub fn query(mut self, rule: QueryRule) -> Self {
        self.policy.key.query = rule;
        self
    }

    /// Adds request headers to the key.
    ///
    /// Default: none.
    pub fn key_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.policy.key.headers.extend(names);
        self
    }

    /// Adds cookies to the key, by name.
    ///
    /// Default: none. Where those who read cookies differ on what the `Cookie` field says (a keyed
    /// name twice, or anything beside the plain grammar of RFC 6265), all of the field counts.
    /// Clients of HTTP/2 may send it in several lines, and some handlers read the first or the last
    /// one only; so it counts too whether the cookie stands in the first and in the last line.
    pub fn key_cookies<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        let names = names.into_iter().map(Into::into);
        self.policy.key.cookies.extend(names);
        self
    }

    /// Adds to the key what `key` makes of a request, beside the [`CacheKey`] that a middleware
    /// outside may have set. It is called for every request that is looked up, so it has to be
    /// quick. It sees the request as the handler will.
    ///
    /// Default: none.
    ///
    /// ```
    /// use tower_response_cache::{CacheKey, Policy};
    ///
    /// #[derive(Clone)]
    /// struct Tenant(String);
    ///
    /// let policy = Policy::builder()
    ///     .key_with(|request| {
    ///         let Tenant(name) = request.extensions.get()?;
    ///         Some(CacheKey::of_requester(format!("tenant:{name}")))
    ///     })
    ///     .build()?;
    /// # drop(policy);
    /// # Ok::<(), tower_response_cache::ConfigError>(())
    /// ```
    pub fn key_with(
        mut self,
        key: impl Fn(&request::Parts) -> Option<CacheKey> + Send + Sync + 'static,
    ) -> Self {
        self.policy.key.own = Some(KeyWith::new(key));
        self
    }

    /// Removes a forwarding header (such as `X-Forwarded-Host`) from the key, and from the request
    /// that the handler gets, so that the two cannot disagree.
    pub fn drop_header(mut self, name: HeaderName) -> Self {
        self.policy.key.forwarded.remove(&name);
        self.policy.key.dropped.push(name);
        self
    }

    /// Adds a header to the key of those requests that have it: a header by which handlers choose
    /// their answer.
    ///
    /// Default: the known forwarding and override headers, such as `X-Forwarded-Host`.
    pub fn forwarded_header(mut self, name: HeaderName) -> Self {
        self.policy.key.forwarded.add(name);
        self
    }

    /// Builds the policy if its settings are within their bounds and do not contradict each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting, its value, and what is allowed.
    pub fn build(self) -> Result<Policy, ConfigError> {
        let Self { policy } = self;
        check_lifetimes(&policy.rules)?;
        (0.0..=10.0).check("early_refresh", &policy.early_refresh.unwrap_or_default())?;
        if let Some(tag) = policy.rules.tags.iter().find(|tag| !is_tag(tag)) {
            let expected = "1 to 256 bytes without control characters";
            let tag = tag.escape_debug().to_string();
            return Err(ConfigError::new("tag", tag, expected));
        }
        if policy.max_body == Some(0) {
            return Err(ConfigError::new("max_body", "0", "at least 1 byte"));
        }
        let informational = |status: &&StatusCode| status.is_informational();
        if let Some(status) = policy.rules.statuses.iter().find(informational) {
            let status = status.as_str();
            return Err(ConfigError::new("statuses", status, "final statuses"));
        }
        if let Some(name) = policy.rules.unstored.iter().find(|name| is_critical(name)) {
            let expected = "fields that do not tell what a response means or who may have it";
            return Err(ConfigError::new("unstored_fields", name.as_str(), expected));
        }
        check_key(&policy.key)?;
        policy.credentials.check(&policy.key.cookies)?;
        Ok(policy)
    }
}

fn check_lifetimes(rules: &StorageRules) -> Result<(), ConfigError> {
    let StorageRules {
        default_ttl,
        forced_ttl,
        heuristic_percent,
        ..
    } = rules;
    for (setting, ttl) in [("default_ttl", default_ttl), ("forced_ttl", forced_ttl)] {
        (Duration::ZERO..=YEAR).check(setting, &ttl.unwrap_or_default())?;
    }
    (0..=100).check("heuristic_percent", &heuristic_percent.unwrap_or_default())?;
    if let (Some(forced), Some(_)) = (forced_ttl, default_ttl) {
        let expected = "no default_ttl beside it: forced_ttl always wins";
        return Err(ConfigError::new("forced_ttl", forced.show(), expected));
    }
    Ok(())
}

fn check_key(key: &KeyRules) -> Result<(), ConfigError> {
    let both = |name: &&HeaderName| key.dropped.contains(name);
    if let Some(name) = key.headers.iter().chain(key.forwarded.iter()).find(both) {
        let expected = "a header that drop_header does not take from the request";
        return Err(ConfigError::new("key_headers", name.as_str(), expected));
    }
    let bad = |name: &&String| name.is_empty() || name.contains(['=', ';', ' ']);
    if let Some(name) = key.cookies.iter().find(bad) {
        return Err(ConfigError::new("key_cookies", name, "cookie names"));
    }
    match &key.query {
        QueryRule::Only(names) | QueryRule::Except(names) if names.is_empty() => Err(
            ConfigError::new("query", "no names", "at least one parameter name"),
        ),
        _ => Ok(()),
    }
}
