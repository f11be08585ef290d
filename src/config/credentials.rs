//! What identifies who asks, besides the fields that every cache knows.

use http::header::COOKIE;
use http::request::Parts;
use http::{Extensions, HeaderMap};

use crate::error::ConfigError;
use crate::semantics::{CookieNames, RequestFacts};

/// What a policy knows of credentials.
#[derive(Clone, Debug, Default)]
pub(crate) struct CredentialRules {
    /// Cookies that are none, and that the handler does not get.
    pub(super) ignored: CookieNames,
    /// Whether a request has the extensions that are.
    pub(super) declared: Vec<fn(&Extensions) -> bool>,
}

impl CredentialRules {
    /// Takes the ignored cookies from a request, and notes what of its credentials is left.
    pub(crate) fn apply(&self, parts: &mut Parts, facts: &mut RequestFacts) {
        if facts.cookie && !self.ignored.is_empty() {
            facts.cookie = self.remove_ignored(&mut parts.headers);
        }
        facts.declared = self.declared.iter().any(|is_in| is_in(&parts.extensions));
    }

    /// Whether any cookie is left.
    fn remove_ignored(&self, headers: &mut HeaderMap) -> bool {
        self.ignored.remove_from(headers);
        headers.contains_key(COOKIE)
    }

    pub(super) fn check(&self, keyed: &[String]) -> Result<(), ConfigError> {
        let setting = "ignore_cookies";
        let bad = |name: &&str| {
            let name = name.strip_suffix('*').unwrap_or(name);
            name.is_empty() || name.contains(['=', ';', ' ', '*'])
        };
        if let Some(name) = self.ignored.iter().find(bad) {
            let expected = "cookie names, which may end in a star";
            return Err(ConfigError::new(setting, name, expected));
        }
        let both = |name: &&String| self.ignored.contains(name.as_bytes());
        match keyed.iter().find(both) {
            Some(name) => {
                let expected = "no cookie that key_cookies names";
                Err(ConfigError::new(setting, name, expected))
            }
            None => Ok(()),
        }
    }
}

/// Whether there is an extension of a type.
pub(super) fn has<T: Send + Sync + 'static>(extensions: &Extensions) -> bool {
    extensions.get::<T>().is_some()
}
