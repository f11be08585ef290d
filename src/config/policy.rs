//! A layer's policy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, request, response};

use super::bounds::check_duration;
use crate::error::ConfigError;
use crate::key::{KeyRules, QueryRule, Scheme};
use crate::semantics::{CookieRule, SetCookieRule, StorageRules, is_tag};

/// What holds for the routes of one [`CacheLayer`](crate::CacheLayer), beyond what responses say
/// of themselves. The default is RFC 9111 for a shared cache, with explicit freshness only.
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
    pub(crate) early_refresh: Option<f32>,
    pub(crate) max_body: Option<u64>,
    /// Empty: whatever status RFC 9111 lets be stored.
    pub(crate) statuses: Vec<StatusCode>,
    pub(crate) auto_etag: bool,
    pub(crate) store_if: Option<StoreIf>,
    pub(crate) bypass_if: Option<BypassIf>,
}

/// A closure that has the last word on what is stored.
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

/// A closure that sends requests past the cache.
#[derive(Clone)]
pub(crate) struct BypassIf(Arc<dyn Fn(&request::Parts) -> bool + Send + Sync>);

impl BypassIf {
    pub(crate) fn holds(&self, request: &request::Parts) -> bool {
        (self.0)(request)
    }
}

impl fmt::Debug for BypassIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BypassIf")
    }
}

impl Policy {
    /// A policy to be filled in, each setting at its default.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }
}

/// Builds a [`Policy`]. Values are checked by [`PolicyBuilder::build`].
#[derive(Clone, Debug, Default)]
#[must_use = "settings do nothing until they are built"]
pub struct PolicyBuilder {
    policy: Policy,
}

impl PolicyBuilder {
    /// The lifetime of responses that name none and whose status is cacheable by default
    /// (RFC 9110 15.1). Default: none, they are not stored. Dangerous where handlers forget
    /// `private`; requests with credentials stay safe. At most a year.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.policy.rules.default_ttl = (!ttl.is_zero()).then_some(ttl);
        self
    }

    /// The lifetime of everything that may be stored, whatever the response says of its lifetime.
    /// Default: none. Prohibitions (`no-store`, `private`) still hold. At most a year.
    pub fn forced_ttl(mut self, ttl: Duration) -> Self {
        self.policy.rules.forced_ttl = Some(ttl);
        self
    }

    /// RFC 9111 4.2.2: the percentage of the time since `Last-Modified` for which a response
    /// without explicit freshness is fresh. Default: 0, off; 10 is typical; at most 100.
    pub fn heuristic_percent(mut self, percent: u8) -> Self {
        self.policy.rules.heuristic_percent = (percent > 0).then_some(percent);
        self
    }

    /// RFC 5861: how long after expiry a response is still served while it is refreshed, where it does
    /// not say so itself. Default: zero.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.policy.rules.stale_while_revalidate = (!window.is_zero()).then_some(window);
        self
    }

    /// RFC 5861: how long after expiry a response is still served when the handler fails, where it
    /// does not say so itself. Default: zero.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.policy.rules.stale_if_error = (!window.is_zero()).then_some(window);
        self
    }

    /// Refreshes popular responses in the background shortly before they expire, so that nobody
    /// waits: the likelier, the closer the end and the longer the handler took for it (XFetch;
    /// Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention").
    /// 1 is the eagerness that the paper derives, more is earlier; 0 to 10. Default: 0, off. Only
    /// what this instance fetched itself is refreshed early.
    pub fn early_refresh(mut self, eagerness: f32) -> Self {
        self.policy.early_refresh = (eagerness != 0.0).then_some(eagerness);
        self
    }

    /// How long a response with a validator is kept past its use, to be revalidated. Default: 10 minutes.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.policy.rules.keep = keep;
        self
    }

    /// What requests with `Cookie` may get and leave. Default: as with `Authorization`.
    pub fn cookies(mut self, rule: CookieRule) -> Self {
        self.policy.rules.cookies = rule;
        self
    }

    /// What happens to responses with `Set-Cookie`. Default: they are not stored.
    pub fn set_cookie(mut self, rule: SetCookieRule) -> Self {
        self.policy.rules.set_cookie = rule;
        self
    }

    /// Whether a client's `no-cache`, `max-age`, `min-fresh`, `max-stale` and `Pragma` are obeyed.
    /// Default: no, since they let any client flood the handler.
    pub fn client_directives(mut self, obeyed: bool) -> Self {
        self.policy.rules.client_directives = obeyed;
        self
    }

    /// The longest body that is stored, in bytes, where that is less than the cache's own
    /// [`max_body`](crate::CacheConfigBuilder::max_body). At least 1.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.policy.max_body = Some(bytes);
        self
    }

    /// The only statuses that are stored. Default: whatever RFC 9111 permits. It permits nothing
    /// that the RFC does not.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.policy.statuses.extend(statuses);
        self
    }

    /// Whether a 200 without an `ETag` is stored with one of its content's digest, so that clients
    /// can validate what the cache holds (RFC 9110 8.8.3). Default: no. The first response passes
    /// unchanged. The handler never sees such a tag answered: it does not know it.
    pub fn auto_etag(mut self, wanted: bool) -> Self {
        self.policy.auto_etag = wanted;
        self
    }

    /// Stores only what `predicate` says yes to, given the request's headers and the response's
    /// head, of what could be stored otherwise. Called once a response, never on a hit.
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

    /// Lets requests that `predicate` says yes to go to the handler past the cache: nothing is
    /// looked up, stored or invalidated. Called for every request, before anything else.
    pub fn bypass_if(
        mut self,
        predicate: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.policy.bypass_if = Some(BypassIf(Arc::new(predicate)));
        self
    }

    /// A tag that every response of these routes carries. 1 to 256 bytes, no control characters.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.policy.rules.tags.push(tag.into());
        self
    }

    /// Whether `Surrogate-Key` and `Cache-Tag` are taken from what clients get. Default: no; caches
    /// further out may want them.
    pub fn strip_tags(mut self, strip: bool) -> Self {
        self.policy.rules.strip_tags = strip;
        self
    }

    /// The targeted fields (RFC 9213) that are obeyed, most specific first.
    /// Default: `CDN-Cache-Control`.
    pub fn targets(mut self, targets: Vec<HeaderName>) -> Self {
        self.policy.rules.targets = targets;
        self
    }

    /// Keeps this policy's entries apart from those of others on the same paths. Default: empty.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.policy.key.namespace = namespace.into();
        self
    }

    /// The scheme of requests that name none. Default: `http`.
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.policy.key.scheme = scheme;
        self
    }

    /// Which parts of the query belong to the key. Default: all, as sent.
    pub fn query(mut self, rule: QueryRule) -> Self {
        self.policy.key.query = rule;
        self
    }

    /// Request headers that always belong to the key.
    pub fn key_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.policy.key.headers.extend(names);
        self
    }

    /// Cookies that always belong to the key, by name.
    pub fn key_cookies<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        let names = names.into_iter().map(Into::into);
        self.policy.key.cookies.extend(names);
        self
    }

    /// Takes a forwarding header (such as `X-Forwarded-Host`) out of the key, and out of what the
    /// handler sees, so that the two cannot disagree.
    pub fn drop_header(mut self, name: HeaderName) -> Self {
        self.policy.key.forwarded.remove(&name);
        self.policy.key.dropped.push(name);
        self
    }

    /// Adds a header that changes what handlers answer to the key, when a request has it.
    pub fn forwarded_header(mut self, name: HeaderName) -> Self {
        self.policy.key.forwarded.add(name);
        self
    }

    /// The policy, if its settings are within bounds and do not contradict each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting (or both), the value, and what is allowed.
    pub fn build(self) -> Result<Policy, ConfigError> {
        let Self { policy } = self;
        let StorageRules {
            default_ttl,
            forced_ttl,
            heuristic_percent,
            ..
        } = &policy.rules;
        for (setting, ttl) in [("default_ttl", default_ttl), ("forced_ttl", forced_ttl)] {
            check_duration(setting, ttl.unwrap_or_default(), Duration::ZERO, YEAR)?;
        }
        if let Some(percent) = heuristic_percent.filter(|percent| *percent > 100) {
            return Err(ConfigError::new(
                "heuristic_percent",
                percent.to_string(),
                "0 to 100",
            ));
        }
        if let (Some(forced), Some(_)) = (forced_ttl, default_ttl) {
            let value = humantime::format_duration(*forced).to_string();
            let expected = "no default_ttl beside it: forced_ttl always wins";
            return Err(ConfigError::new("forced_ttl", value, expected));
        }
        if let Some(tag) = policy.rules.tags.iter().find(|tag| !is_tag(tag)) {
            let expected = "1 to 256 bytes without control characters";
            let tag = tag.escape_debug().to_string();
            return Err(ConfigError::new("tag", tag, expected));
        }
        if policy.max_body == Some(0) {
            return Err(ConfigError::new("max_body", "0", "at least 1 byte"));
        }
        let informational = |status: &&StatusCode| status.is_informational();
        if let Some(status) = policy.statuses.iter().find(informational) {
            return Err(ConfigError::new(
                "statuses",
                status.as_str(),
                "final statuses",
            ));
        }
        let eagerness = policy.early_refresh.unwrap_or_default();
        if !(0.0..=10.0).contains(&eagerness) {
            let value = eagerness.to_string();
            return Err(ConfigError::new("early_refresh", value, "0 to 10"));
        }
        check_key(&policy.key)?;
        Ok(policy)
    }
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

/// The longest lifetime that can be set.
pub(super) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
