//! The settings of a policy that are about who asks.

use super::credentials::has;
use super::policy::PolicyBuilder;
use crate::semantics::{CookieRule, SetCookieRule};

impl PolicyBuilder {
    /// Whether `Cookie` counts as a credential, for what is stored and for what is served.
    ///
    /// Default: [`CookieRule::AsCredentials`], as `Authorization` does.
    ///
    /// Danger: with [`CookieRule::Ignore`], a page made for one user's session is served to
    /// everyone.
    pub fn cookies(mut self, rule: CookieRule) -> Self {
        self.policy.rules.cookies = rule;
        self
    }

    /// Cookies that carry no identity. They do not count as credentials, and are taken out of the
    /// request: handlers do not get them where the cache looks a request up. A trailing `*` stands
    /// for any ending. [`ANALYTICS_COOKIES`](crate::ANALYTICS_COOKIES) is a list to begin with.
    ///
    /// Default: none. Allowed: names of cookies, but those of
    /// [`key_cookies`](Self::key_cookies).
    ///
    /// Danger: a handler that does read such a cookie never sees it.
    ///
    /// ```
    /// use tower_response_cache::{ANALYTICS_COOKIES, Policy};
    ///
    /// let policy = Policy::builder()
    ///     .ignore_cookies(ANALYTICS_COOKIES)
    ///     .ignore_cookies(["theme", "banner_*"])
    ///     .build()?;
    /// # drop(policy);
    /// # Ok::<(), tower_response_cache::ConfigError>(())
    /// ```
    pub fn ignore_cookies<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        let names = names.into_iter().map(Into::into);
        self.policy.credentials.ignored.extend(names);
        self
    }

    /// Declares a type of request extension to be a credential: who has one gets, and leaves for
    /// others, only what permits sharing. It is for what middleware *outside* the layer knows of the
    /// requester where no field of the request says it, such as the `Session` of tower-sessions,
    /// whose cookies are set where the cache cannot see them.
    ///
    /// Default: none.
    ///
    /// ```
    /// use tower_response_cache::Policy;
    ///
    /// #[derive(Clone)]
    /// struct Session(String);
    ///
    /// let policy = Policy::builder().credentials_in::<Session>().build()?;
    /// # drop(policy);
    /// # Ok::<(), tower_response_cache::ConfigError>(())
    /// ```
    pub fn credentials_in<T: Send + Sync + 'static>(mut self) -> Self {
        self.policy.credentials.declared.push(has::<T>);
        self
    }

    /// Whether responses with `Set-Cookie` or `Clear-Site-Data` are stored, and with which fields.
    ///
    /// Default: [`SetCookieRule::Refuse`], they are not stored.
    ///
    /// Danger: [`SetCookieRule::StoreForEveryone`] can hand out one user's session.
    pub fn set_cookie(mut self, rule: SetCookieRule) -> Self {
        self.policy.rules.set_cookie = rule;
        self
    }
}
