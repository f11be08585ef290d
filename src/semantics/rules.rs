//! The part of a layer's policy that decides what is stored and reused.

use std::time::Duration;

use http::{HeaderName, StatusCode};

/// What `Cookie` in a request means for what is stored, and for what answers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CookieRule {
    /// As `Authorization`: the response is stored, and a stored response answers the request, only
    /// with `public`, `s-maxage` or a targeted directive.
    #[default]
    AsCredentials,
    /// The response is stored only with such a permission, but whatever is stored answers the
    /// request, as RFC 9111 allows.
    ///
    /// Danger: a user who is logged in gets the page that somebody else was shown who was not, if
    /// that was stored first.
    WhenStoring,
    /// Cookies do not matter: the application's responses never depend on them.
    Ignore,
}

/// What happens to a response that carries `Set-Cookie`, or `Clear-Site-Data`, which is for one
/// client as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetCookieRule {
    /// It is not stored.
    #[default]
    Refuse,
    /// It is stored without those lines; the client of the miss still gets them.
    StoreAndStrip,
    /// It is stored and replayed with those lines.
    ///
    /// Danger: a client that is served from the cache gets a cookie made for another client. If it
    /// names a session, the client is in that session from then on. RFC 9111, section 7.3, permits
    /// this. It is right only where no cookie of these routes identifies a person, for instance where
    /// cookies only remember a colour scheme.
    StoreForEveryone,
}

/// The part of a `Policy` that the pure functions consult. Plain data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StorageRules {
    /// Lifetime of responses with a heuristically cacheable status and no explicit freshness.
    /// Default: none, they are not stored.
    pub(crate) default_ttl: Option<Duration>,
    /// Lifetime that overrides what the response says (never its prohibitions).
    pub(crate) forced_ttl: Option<Duration>,
    /// RFC 9111 4.2.2's fraction of the time since `Last-Modified`, in percent. Default: off.
    pub(crate) heuristic_percent: Option<u8>,
    /// The longest lifetime that is believed. Default: a year.
    pub(crate) max_ttl: Duration,
    /// Stale window where the response names none. Default: none.
    pub(crate) stale_while_revalidate: Option<Duration>,
    /// Stale window on errors where the response names none. Default: none.
    pub(crate) stale_if_error: Option<Duration>,
    /// How long an entry with a validator is kept after it can no longer be served,
    /// so that it can be revalidated; with `client_directives`, also one that clients may
    /// take stale. Default: 10 minutes.
    pub(crate) keep: Duration,
    /// The only statuses that are stored; if empty, any that RFC 9111 lets a cache store, but those
    /// that refuse access.
    pub(crate) statuses: Vec<StatusCode>,
    /// Requests with `Cookie`.
    pub(crate) cookies: CookieRule,
    /// Responses with `Set-Cookie`.
    pub(crate) set_cookie: SetCookieRule,
    /// Whether a client's `no-cache`, `max-age`, `min-fresh`, `max-stale` and `Pragma` are obeyed.
    /// Default: no, since they let any client flood the handler.
    pub(crate) client_directives: bool,
    /// Tags that every response carries.
    pub(crate) tags: Vec<String>,
    /// Response fields that are for one client only. Default: none, as RFC 9111, section 3.1,
    /// wants all of them stored.
    pub(crate) unstored: Vec<HeaderName>,
    /// Whether `Surrogate-Key` and `Cache-Tag` are kept from clients. Default: no.
    pub(crate) strip_tags: bool,
    /// RFC 9213 targeted fields, most specific first. Default: `CDN-Cache-Control`.
    pub(crate) targets: Vec<HeaderName>,
}

impl Default for StorageRules {
    fn default() -> Self {
        Self {
            default_ttl: None,
            forced_ttl: None,
            heuristic_percent: None,
            max_ttl: Duration::from_secs(365 * 24 * 60 * 60),
            stale_while_revalidate: None,
            stale_if_error: None,
            keep: Duration::from_secs(600),
            statuses: Vec::new(),
            cookies: CookieRule::default(),
            set_cookie: SetCookieRule::default(),
            client_directives: false,
            tags: Vec::new(),
            unstored: Vec::new(),
            strip_tags: false,
            targets: vec![HeaderName::from_static("cdn-cache-control")],
        }
    }
}
