//! Fields that few requests have and that change what many handlers answer.

use http::{HeaderMap, HeaderName};

/// Names of fields that few requests have, in a fixed order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    names: Vec<HeaderName>,
    /// A bit for each name, in the slot of its first letter. Few other fields have one of them.
    suspects: [u64; 32],
}

impl Watched {
    pub(crate) fn add(&mut self, name: HeaderName) {
        let (slot, bit) = place(&name);
        if let Some(bits) = self.suspects.get_mut(slot) {
            *bits |= bit;
        }
        self.names.push(name);
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        self.names.retain(|kept| kept != name);
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, HeaderName> {
        self.names.iter()
    }

    /// The names that the request has. One pass over its fields nearly always finds none.
    pub(super) fn present_in<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> impl Iterator<Item = &'a HeaderName> {
        let mut suspects = headers.keys().filter(|name| self.suspects(name));
        let any = suspects.any(|name| self.names.contains(name));
        let names = if any { self.names.as_slice() } else { &[] };
        names.iter().filter(|name| headers.contains_key(*name))
    }

    fn suspects(&self, name: &HeaderName) -> bool {
        let (slot, bit) = place(name);
        self.suspects.get(slot).is_some_and(|bits| bits & bit != 0)
    }
}

impl FromIterator<HeaderName> for Watched {
    fn from_iter<I: IntoIterator<Item = HeaderName>>(names: I) -> Self {
        let mut watched = Self::default();
        names.into_iter().for_each(|name| watched.add(name));
        watched
    }
}

/// The slot of a name, by its first letter, and its bit, by its length and its last letter. The
/// factor is one with which no usual field shares a bit with one of the default list.
fn place(name: &HeaderName) -> (usize, u64) {
    let bytes = name.as_str().as_bytes();
    let letter = |byte: Option<&u8>| byte.map_or(0, |byte| usize::from(*byte));
    let bit = (8 * bytes.len() + letter(bytes.last())) % 64;
    (letter(bytes.first()) % 32, 1 << bit)
}

/// Fields that frameworks take a method, a host, a scheme, a port or a path from. They can change
/// the response, so each would be a way to poison the cache if it were not part of the key.
///
/// Fields that name the client (`X-Forwarded-For`, `CF-Connecting-IP`) or describe it
/// (`CF-IPCountry`, `CloudFront-Is-Mobile-Viewer`) are not among them: with these no two clients
/// would share. A handler that goes by such a field says so in `Vary`.
pub(super) const FORWARDED: [&str; 53] = [
    "forwarded",
    // The method: PHP frameworks, Rails, ASP.NET; forward authentication and nginx's ingress.
    "x-envoy-original-method",
    "x-forwarded-method",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    // The host: Apache, HAProxy, Envoy, Azure, Fastly.
    "disguised-host",
    "fastly-orig-host",
    "x-envoy-original-host",
    "x-forwarded-host",
    "x-forwarded-server",
    "x-host",
    "x-host-override",
    "x-http-host-override",
    "x-original-host",
    // The scheme: IIS, PHP and WordPress, nginx's ingress, ASP.NET, WebLogic, and clouds.
    "cf-visitor",
    "cloudfront-forwarded-proto",
    "fastly-ssl",
    "fly-forwarded-proto",
    "fly-forwarded-ssl",
    "front-end-https",
    "https",
    "wl-proxy-ssl",
    "x-appengine-https",
    "x-appservice-proto",
    "x-arr-ssl",
    "x-forwarded-https",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-https",
    "x-original-proto",
    "x-scheme",
    "x-ssl",
    "x-url-scheme",
    // The port.
    "fly-forwarded-port",
    "x-forwarded-port",
    // The path: Spring, Traefik, Envoy, IIS, Symfony, Python's frameworks, Azure.
    "x-envoy-original-path",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-ingress-path",
    "x-original-prefix",
    "x-original-uri",
    "x-original-url",
    "x-replaced-path",
    "x-rewrite-url",
    "x-script-name",
    "x-waws-unencoded-url",
    // A file in place of the content: Rack, Symfony.
    "x-accel-mapping",
    "x-sendfile-type",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_request_is_passed_over_at_a_glance() {
        let watched: Watched = FORWARDED.map(HeaderName::from_static).into_iter().collect();
        let usual = [
            "host",
            "connection",
            "cache-control",
            "sec-ch-ua",
            "sec-ch-ua-mobile",
            "sec-ch-ua-platform",
            "upgrade-insecure-requests",
            "user-agent",
            "accept",
            "sec-fetch-site",
            "sec-fetch-mode",
            "sec-fetch-user",
            "sec-fetch-dest",
            "referer",
            "accept-encoding",
            "accept-language",
            "cookie",
            "authorization",
            "if-none-match",
            "if-modified-since",
            "range",
            "origin",
            "pragma",
            "te",
            "priority",
            "dnt",
            "x-forwarded-for",
            "x-real-ip",
            "x-request-id",
            "traceparent",
            "content-type",
        ];
        for name in usual {
            assert!(!watched.suspects(&HeaderName::from_static(name)), "{name}");
        }
        for name in FORWARDED {
            assert!(watched.suspects(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn no_field_stands_in_the_list_twice() {
        let mut names = FORWARDED.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FORWARDED.len());
    }
}
