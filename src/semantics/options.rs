//! Caching instructions of a handler, without headers.

use std::time::Duration;

use http::HeaderName;

/// Caching instructions that a handler attaches to its response.
///
/// A handler sets them as a response extension. Lifetimes given here take precedence over those of
/// targeted fields, of `Cache-Control` and `Expires`, and of the policy. Prohibitions add up: a
/// `no-store` or `private` is obeyed wherever it is, here or in the response's fields. To let this
/// cache store a response that clients must not store, send `CDN-Cache-Control`.
///
/// ```
/// use http::header::ACCEPT_LANGUAGE;
/// use tower_response_cache::CacheOptions;
///
/// let options = CacheOptions::new()
///     .max_age(60)
///     .stale_while_revalidate(30)
///     .vary(ACCEPT_LANGUAGE)
///     .tag("product:7");
/// assert_ne!(options, CacheOptions::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct CacheOptions {
    pub(crate) max_age: Option<Duration>,
    pub(crate) stale_while_revalidate: Option<Duration>,
    pub(crate) stale_if_error: Option<Duration>,
    pub(crate) no_store: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) vary: Vec<HeaderName>,
    pub(crate) tags: Vec<String>,
    pub(crate) purges: Vec<String>,
}

impl CacheOptions {
    /// Empty instructions.
    pub fn new() -> Self {
        Self::default()
    }

    /// The response is fresh for `secs` seconds after it was made.
    ///
    /// This alone does not permit sharing a response to a request that had `Authorization`
    /// or `Cookie`: see [`CacheOptions::public`].
    pub fn max_age(mut self, secs: u64) -> Self {
        self.max_age = Some(Duration::from_secs(secs));
        self
    }

    /// The response may be served stale for `secs` seconds after its lifetime, while it is fetched
    /// anew in the background (RFC 5861, section 3).
    pub fn stale_while_revalidate(mut self, secs: u64) -> Self {
        self.stale_while_revalidate = Some(Duration::from_secs(secs));
        self
    }

    /// The response may be served stale for `secs` seconds after its lifetime if fetching it anew
    /// fails (RFC 5861, section 4).
    pub fn stale_if_error(mut self, secs: u64) -> Self {
        self.stale_if_error = Some(Duration::from_secs(secs));
        self
    }

    /// The response is not stored, whatever else its fields or the policy say.
    pub fn no_store(mut self) -> Self {
        self.no_store = true;
        self
    }

    /// The response is meant for one user: a shared cache does not store it.
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// The response is the same for every user, even if the request had `Authorization` or
    /// `Cookie`.
    ///
    /// Danger: if the response does depend on the user, other users see that user's data.
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// The response depends on the request's `name` field, as if `Vary` named it too.
    /// Call it once per field.
    pub fn vary(mut self, name: HeaderName) -> Self {
        self.vary.push(name);
        self
    }

    /// Purges all responses and values with this tag in every instance, before the client gets the
    /// response. This works on the response to an unsafe request that succeeded (2xx or 3xx). Call
    /// it once for each tag.
    ///
    /// If the shared store does not take the purge, the response still goes out. Other instances
    /// then serve what they have for no longer than the purge bound, if the purge log takes no
    /// writes of theirs either. A handler that has to know calls
    /// [`Cache::purge`](crate::Cache::purge) itself.
    pub fn purge(mut self, tag: impl Into<String>) -> Self {
        self.purges.push(tag.into());
        self
    }

    /// Adds a tag by which the response can be purged. Call it once for each tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}
