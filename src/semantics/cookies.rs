//! Cookies that carry no identity.

use http::{HeaderMap, HeaderValue, header};

/// Cookies that scripts in the browser and proxies in front set for themselves, and servers do not
/// read: of analytics, advertising and load balancing.
///
/// For [`PolicyBuilder::ignore_cookies`](crate::PolicyBuilder::ignore_cookies). Cookies of consent
/// banners are not among them, since some servers read those.
pub const ANALYTICS_COOKIES: [&str; 26] = [
    // Google Analytics, Ads and Optimize.
    "_ga",
    "_ga_*",
    "_gid",
    "_gat*",
    "_gac_*",
    "_gcl_*",
    "__gads",
    "__gpi",
    "__utm*",
    // Meta, Microsoft, TikTok, Pinterest, LinkedIn.
    "_fbp",
    "_fbc",
    "_clck",
    "_clsk",
    "_uet*",
    "_ttp",
    "_pin_unauth",
    "li_fat_id",
    // Matomo, Hotjar, HubSpot, Yandex.
    "_pk_*",
    "_hj*",
    "__hs*",
    "_ym_*",
    // Cloudflare's own, for its edge.
    "__cf_bm",
    "__cflb",
    "_cfuvid",
    // The affinity of AWS load balancers.
    "AWSALB*",
    "AWSELB*",
];

/// Names of cookies, where a trailing `*` stands for any ending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CookieNames(Vec<String>);

impl CookieNames {
    pub(crate) fn extend(&mut self, names: impl IntoIterator<Item = String>) {
        self.0.extend(names);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the names is, or stands for, this one.
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.0
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start.as_bytes()),
                None => name == pattern.as_bytes(),
            })
    }

    /// Removes the cookies of these names from a request. What is spelt in any other way than
    /// `name=value` stays, and counts.
    pub(crate) fn remove_from(&self, request: &mut HeaderMap) {
        let lines = request.get_all(header::COOKIE).iter();
        let lines: Vec<HeaderValue> = lines.filter_map(|line| self.rest_of(line)).collect();
        request.remove(header::COOKIE);
        for line in lines {
            request.append(header::COOKIE, line);
        }
    }

    /// A line without these cookies, or `None` if nothing is left of it.
    fn rest_of(&self, line: &HeaderValue) -> Option<HeaderValue> {
        let is_kept = |pair: &&[u8]| {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let name = equals.and_then(|equals| pair.get(..equals));
            name.is_none_or(|name| !self.contains(name))
        };
        let pairs = line.as_bytes().split(|byte| *byte == b';');
        let pairs = pairs
            .map(<[u8]>::trim_ascii)
            .filter(|pair| !pair.is_empty());
        let kept: Vec<&[u8]> = pairs.clone().filter(is_kept).collect();
        if kept.len() == pairs.count() {
            return Some(line.clone());
        }
        if kept.is_empty() {
            return None;
        }
        // Pieces of a value that is valid make one: else the line stays as it was.
        HeaderValue::from_bytes(&kept.join(&b"; "[..])).map_or_else(|_| Some(line.clone()), Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_goes_and_all_else_stays_as_it_was() {
        let mut names = CookieNames::default();
        names.extend(["_ga".to_owned(), "_ga_*".to_owned(), "x".to_owned()]);
        let table: [(&[&str], &[&str]); 16] = [
            (&["_ga=1"], &[]),
            (&["_ga=1; _ga_A=2; x=3"], &[]),
            (&["_ga=1; sid=a"], &["sid=a"]),
            (&["sid=a; _ga=1"], &["sid=a"]),
            (&["a=1;_ga=2;b=3"], &["a=1; b=3"]),
            // Untouched lines keep their spelling.
            (&["a=1;b=2 ;  c"], &["a=1;b=2 ;  c"]),
            (&["a=1", "x=2", "b=3"], &["a=1", "b=3"]),
            (&["_ga=1;"], &[]),
            (&["_ga=x=y"], &[]),
            (&["_ga"], &["_ga"]),
            (&["_gab=1"], &["_gab=1"]),
            (&["_GA=1"], &["_GA=1"]),
            (&["%5Fga=1"], &["%5Fga=1"]),
            (&["_ga =1"], &["_ga =1"]),
            // Quotes bind nothing together: who reads them otherwise has a credential left.
            (&["x=\"a; sid=b\""], &["sid=b\""]),
            (&[""], &[""]),
        ];
        for (sent, expected) in table {
            let mut request = HeaderMap::new();
            for line in sent {
                request.append(header::COOKIE, HeaderValue::from_static(line));
            }
            names.remove_from(&mut request);
            let left: Vec<_> = request.get_all(header::COOKIE).iter().collect();
            assert_eq!(left, expected, "{sent:?}");
        }
    }

    #[test]
    fn the_ready_list_is_made_of_names() {
        for name in ANALYTICS_COOKIES {
            let is_last = |star| star > 2 && star + 1 == name.len();
            assert!(name.find('*').is_none_or(is_last), "{name}");
        }
    }
}
