//! The policy, as tables of (name, input, expected) and as generated matrices.

mod admission;
mod conditionals;
mod freshness;
mod garbage;
mod headers;
mod matrices;
mod properties;
mod revalidation;
mod syntax;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::conditional::if_range_passes;
use super::syntax::{dates, targeted};
use super::vary::normalize_accept_encoding;
use super::*;
use crate::base::clock::Timestamp;
use crate::status::Reason;

/// Field lines.
type Lines<'a> = &'a [(&'a str, &'a str)];

/// In 2033; any moment does.
const NOW: Timestamp = Timestamp::from_secs(2_000_000_000);

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

fn after(secs: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis().saturating_add_signed(secs * 1000))
}

fn date(secs: i64) -> String {
    dates::format_date(after(secs)).unwrap()
}

/// A request and its response, to be judged.
#[derive(Clone, Debug)]
struct Case {
    method: Method,
    request: HeaderMap,
    status: StatusCode,
    response: HeaderMap,
    options: Option<CacheOptions>,
    rules: StorageRules,
    delay: i64,
}

impl Case {
    fn new(response: &[(&str, &str)]) -> Self {
        Self {
            method: Method::GET,
            request: HeaderMap::new(),
            status: StatusCode::OK,
            response: headers(response),
            options: None,
            rules: StorageRules::default(),
            delay: 0,
        }
    }

    fn cache_control(value: &str) -> Self {
        Self::new(&[("cache-control", value)])
    }

    fn request(mut self, lines: &[(&str, &str)]) -> Self {
        self.request = headers(lines);
        self
    }

    fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).unwrap();
        self
    }

    fn options(mut self, options: CacheOptions) -> Self {
        self.options = Some(options);
        self
    }

    fn rules(mut self, change: impl FnOnce(&mut StorageRules)) -> Self {
        change(&mut self.rules);
        self
    }

    fn with<T>(&self, judge: impl FnOnce(&Exchange<'_>) -> T) -> T {
        let facts = RequestFacts::read(&self.method, &self.request);
        judge(&Exchange {
            facts: &facts,
            status: self.status,
            headers: &self.response,
            options: self.options.as_ref(),
            request_time: after(-self.delay),
            response_time: NOW,
        })
    }

    fn admit(&self) -> Result<Admitted, Reason> {
        self.with(|exchange| admit(exchange, &self.rules))
    }

    fn lifetimes(&self) -> Lifetimes {
        self.admit().unwrap().lifetimes
    }

    /// Seconds of freshness left; `None` if not stored.
    fn fresh_for(&self) -> Option<i64> {
        Some(self.admit().ok()?.lifetimes.remaining(NOW))
    }
}

fn facts(lines: &[(&str, &str)]) -> RequestFacts {
    RequestFacts::read(&Method::GET, &headers(lines))
}
