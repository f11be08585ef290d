//! The parts of a request that a handler's content may depend on.

use http::header::{ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue};

use crate::step::By;

/// What a handler reads of a request that its content may depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    pub user: String,
    pub lang: String,
    pub origin: String,
    pub host: String,
}

impl Facts {
    /// As the crate `cookie` and most handlers read them. Where the cookie is part of the key, the
    /// handler goes by nothing else.
    pub fn of(headers: &HeaderMap, keyed: bool) -> Self {
        let text = |name| {
            let value: Option<&HeaderValue> = headers.get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or("-")
                .to_owned()
        };
        let authorization = text(AUTHORIZATION);
        let user = authorization.strip_prefix("Bearer ").filter(|_| !keyed);
        let user = user.map(str::to_owned);
        Self {
            user: user
                .or_else(|| last_cookie(headers))
                .unwrap_or_else(|| "-".to_owned()),
            lang: text(ACCEPT_LANGUAGE),
            origin: text(ORIGIN),
            host: text(HOST),
        }
    }

    /// The one that the content depends on.
    pub fn fact(&self, by: By) -> &str {
        match by {
            By::Nothing => "-",
            By::Lang => &self.lang,
            By::User => &self.user,
            By::Origin => &self.origin,
            By::Host => &self.host,
        }
    }
}

/// The last cookie called `sid`, its name trimmed and decoded: so does the crate `cookie`.
fn last_cookie(headers: &HeaderMap) -> Option<String> {
    let lines = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok());
    let pairs = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().replace("%69", "i") == "sid");
    named.next_back().map(|(_, value)| value.trim().to_owned())
}
