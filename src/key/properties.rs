//! Keys against what handlers can read, over pairs of requests that are nearly alike.
//!
//! `PROPTEST_CASES=1000000` makes it as many pairs.

use std::cell::Cell;
use std::convert::Infallible;

use cookie::{Cookie, CookieJar};
use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderValue, Request};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};
use tower_service::Service;

use super::target::original_uri;
use super::*;
use crate::fuzzing::{as_handlers_see, selects_alike};

#[test]
fn requests_that_a_handler_can_tell_apart_never_share_a_key() {
    let counts = pairs_in_search_of_a_shared_key(&mut runner(4_000));
    let Counts { all, alike, shared } = counts.unwrap_or_else(|found| panic!("{found}"));
    let apart = all - alike;
    println!(
        "of {all} pairs handlers tell {apart} apart; of the other {alike}, {shared} share a key"
    );
    assert!(apart * 3 >= all, "{apart} of {all} differ for the handler");
    assert!(alike * 10 >= all, "{alike} of {all} do not");
    assert!(shared * 100 >= alike * 95, "{shared} of {alike} share");
}

#[test]
fn variants_are_shared_where_the_selecting_fields_agree_and_nowhere_else() {
    let counts = pairs_in_search_of_a_shared_variant(&mut runner(4_000));
    let Counts { all, alike, shared } = counts.unwrap_or_else(|found| panic!("{found}"));
    assert!((all - alike) * 3 >= all, "{alike} of {all} agree");
    assert!(alike * 10 >= all, "{alike} of {all} agree");
    assert!(shared * 100 >= alike * 95, "{shared} of {alike} share");
}

/// The pair that was found.
fn found<T: fmt::Debug>(error: &TestError<T>) -> String {
    match error {
        TestError::Fail(reason, pair) => format!("{reason}: {pair:#?}"),
        TestError::Abort(reason) => panic!("{reason}"),
    }
}

/// How many pairs there were, how many of them handlers cannot tell apart, and how many of these
/// share what they should.
#[derive(Clone, Copy, Default)]
struct Counts {
    all: u32,
    alike: u32,
    shared: u32,
}

fn pairs_in_search_of_a_shared_key(runner: &mut TestRunner) -> Result<Counts, String> {
    let counts = Cell::new(Counts::default());
    let query = select(vec![
        QueryRule::Exact,
        QueryRule::Sorted,
        QueryRule::Only(vec!["a".to_owned()]),
        QueryRule::Except(vec!["utm_*".to_owned()]),
    ]);
    let several = (asked(), asked(), few_bits(), query);
    let pairs = several.prop_map(|(one, other, taken, query)| {
        let other = one.with_parts_of(&other, taken);
        (one, other, query)
    });
    let ran = runner.run(&pairs, |(one, other, query)| {
        let rules = rules(query);
        let (one, other) = (one.parts(&rules), other.parts(&rules));
        let key = |parts| KeyBuilder::of_request(parts, &rules, 0).map(|it| it.base().to_key());
        let keys = [&one, &other].map(key);
        let [Ok(one_key), Ok(other_key)] = keys else {
            return Err(TestCaseError::reject("not keyed"));
        };
        let alike = seen(&one, &rules) == seen(&other, &rules);
        let shared = one_key == other_key;
        prop_assert_eq!(shared, one_key.hash() == other_key.hash());
        prop_assert!(alike || !shared);
        counts.set(counts.get().with(alike, shared));
        Ok(())
    });
    ran.map_err(|error| found(&error))?;
    Ok(counts.get())
}

fn pairs_in_search_of_a_shared_variant(runner: &mut TestRunner) -> Result<Counts, String> {
    let counts = Cell::new(Counts::default());
    let base = Key::of_value("properties", "base");
    let several = (fields(), fields(), some_bits(), varying());
    let pairs = several.prop_map(|(one, mut other, taken, names)| {
        for (at, name) in VARYING.iter().enumerate() {
            if taken & (1 << at) == 0 {
                other.remove(name);
                for line in one.get_all(name) {
                    other.append(name, line.clone());
                }
            }
        }
        (one, other, names)
    });
    let ran = runner.run(&pairs, |(one, other, names)| {
        let keys = [&one, &other].map(|headers| base.variant(&names, headers));
        let shared = keys[0] == keys[1];
        let alike = |name: &HeaderName| selects_alike(name, &one, &other);
        let lines = |name| one.get_all(name).iter().eq(other.get_all(name).iter());
        let all_alike = names.iter().all(alike);
        prop_assert!(all_alike || !shared);
        prop_assert!(shared || !names.iter().all(lines));
        counts.set(counts.get().with(all_alike, shared));
        Ok(())
    });
    ran.map_err(|error| found(&error))?;
    Ok(counts.get())
}

impl Counts {
    fn with(self, alike: bool, shared: bool) -> Self {
        Self {
            all: self.all + 1,
            alike: self.alike + u32::from(alike),
            shared: self.shared + u32::from(alike && shared),
        }
    }
}

/// A request in its parts.
#[derive(Clone, Debug)]
struct Asked {
    target: &'static str,
    /// Where the router that took it off the target was.
    nested: &'static str,
    host: Option<&'static str>,
    cookies: Vec<String>,
    /// Lines of the other fields of [`FIELDS`].
    fields: [Vec<&'static str>; 5],
}

impl Asked {
    /// This request with those parts of another that have a bit.
    fn with_parts_of(&self, other: &Self, taken: u8) -> Self {
        let from = |bit: usize| if taken & (1 << bit) == 0 { self } else { other };
        // Each of the fields by one bit of those that are left.
        let fields = std::array::from_fn(|at| from(4 + at % 4).fields[at].clone());
        Self {
            target: from(0).target,
            nested: from(1).nested,
            host: from(2).host,
            cookies: from(3).cookies.clone(),
            fields,
        }
    }

    /// As the handler gets it.
    fn parts(&self, rules: &KeyRules) -> Parts {
        let mut parts = Request::get(self.target).body(()).unwrap().into_parts().0;
        #[cfg(feature = "axum")]
        if self.target.starts_with('/') && !self.nested.is_empty() {
            let original = format!("{}{}", self.nested, self.target);
            let original = axum::extract::OriginalUri(original.parse().unwrap());
            parts.extensions.insert(original);
        }
        let mut append = |name: &HeaderName, line: &str| {
            let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            parts.headers.append(name, line);
        };
        self.host.iter().for_each(|host| append(&HOST, host));
        self.cookies.iter().for_each(|line| append(&COOKIE, line));
        for (name, lines) in FIELDS.iter().zip(&self.fields) {
            lines.iter().for_each(|line| append(name, line));
        }
        rules.strip_request(&mut parts);
        parts
    }
}

/// What handlers read: as it is, and by the libraries that they read cookies with.
fn seen(parts: &Parts, rules: &KeyRules) -> Vec<Vec<u8>> {
    let mut seen = as_handlers_see(parts, rules);
    let original = original_uri(parts).path_and_query();
    seen.push(original.map_or_else(Vec::new, |original| original.as_str().into()));
    let cookie = |value: Option<&str>| value.map_or_else(Vec::new, |it| format!("={it}").into());
    let lines: Vec<&str> = {
        let lines = parts.headers.get_all(COOKIE).iter();
        lines.filter_map(|line| line.to_str().ok()).collect()
    };
    // Some look at the first line only, or at the last.
    for lines in [&lines[..], &lines[..1.min(lines.len())], last(&lines)] {
        let encoded = jar(lines, |line| {
            Cookie::split_parse_encoded(line).flatten().collect()
        });
        let raw = jar(lines, |line| Cookie::split_parse(line).flatten().collect());
        seen.extend([encoded, raw].map(|jar| cookie(jar.get(KEYED_COOKIE).map(Cookie::value))));
        // Those who write their own take the first.
        let mut pairs = lines.iter().flat_map(|line| line.split(';'));
        seen.push(cookie(
            pairs.find_map(|pair| pair.trim().strip_prefix("sid=")),
        ));
    }
    let of_axum = axum_extra::extract::CookieJar::from_headers(&parts.headers);
    seen.push(cookie(of_axum.get(KEYED_COOKIE).map(Cookie::value)));
    let of_tower = of_tower_cookies(parts.headers.clone());
    seen.push(cookie(of_tower.as_ref().map(Cookie::value)));
    seen
}

fn last<T>(lines: &[T]) -> &[T] {
    &lines[lines.len().saturating_sub(1)..]
}

fn jar<'a>(lines: &[&'a str], parse: impl Fn(&'a str) -> Vec<Cookie<'a>>) -> CookieJar {
    let mut jar = CookieJar::new();
    let cookies = lines.iter().flat_map(|line| parse(line));
    cookies.for_each(|cookie| jar.add_original(cookie.into_owned()));
    jar
}

/// The keyed cookie as a handler behind the layer of tower-cookies gets it.
fn of_tower_cookies(headers: HeaderMap) -> Option<Cookie<'static>> {
    let found = Cell::new(None);
    let handler = tower::service_fn(|request: Request<()>| {
        let cookies = request.extensions().get::<tower_cookies::Cookies>();
        let cookie = cookies.and_then(|cookies| cookies.get(KEYED_COOKIE));
        found.set(cookie.map(Cookie::into_owned));
        std::future::ready(Ok::<_, Infallible>(http::Response::new(())))
    });
    let mut service = tower_cookies::CookieManager::new(handler);
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    drop(service.call(request));
    found.into_inner()
}

fn asked() -> impl Strategy<Value = Asked> {
    let lines = |most| prop::collection::vec(select(LINES), 0..=most);
    let fields = [lines(2), lines(2), lines(1), lines(1), lines(1)];
    let target = prop_oneof![3 => Just("/p?a=1"), 5 => select(TARGETS)];
    let host = prop_oneof![3 => Just(Some("a")), 5 => prop::option::of(select(HOSTS))];
    let nested = prop_oneof![3 => Just(""), 1 => Just("/shop"), 1 => Just("/blog")];
    (target, nested, host, cookies(), fields).prop_map(|(target, nested, host, cookies, fields)| {
        Asked {
            target,
            nested,
            host,
            cookies,
            fields,
        }
    })
}

/// Lines of `Cookie`: half of them as browsers write them.
fn cookies() -> impl Strategy<Value = Vec<String>> {
    let plain = prop_oneof![1 => Just("sid"), 2 => select(&["other", "sidx", "xsid"][..])];
    let odd = select(&["sid", "SID", "", "sid ", " sid", "s%69d", "\tsid", "other"][..]);
    let plain = lines_of(plain, select(&["=a", "=b", "=", "=a=b"][..]));
    prop_oneof![plain, lines_of(odd, select(COOKIE_VALUES))]
}

fn lines_of(
    names: impl Strategy<Value = &'static str>,
    values: impl Strategy<Value = &'static str>,
) -> impl Strategy<Value = Vec<String>> {
    let pair = (names, values, select(&["; ", "; ", ";", " ;\t"][..]));
    let pair = pair.prop_map(|(name, value, after)| format!("{name}{value}{after}"));
    let line = prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.concat());
    prop::collection::vec(line, 0..=3)
}

fn rules(query: QueryRule) -> KeyRules {
    let mut rules = KeyRules {
        query,
        headers: FIELDS[..2].to_vec(),
        cookies: vec![KEYED_COOKIE.to_owned()],
        dropped: vec![FIELDS[4].clone()],
        ..KeyRules::default()
    };
    rules.forwarded.remove(&FIELDS[4]);
    rules
}

/// Lines of all fields that responses vary on.
fn fields() -> impl Strategy<Value = HeaderMap> {
    let lines = |values: &'static [&'static str]| prop::collection::vec(select(values), 0..3);
    let all = [
        lines(CODINGS),
        lines(LANGUAGES),
        lines(TYPES),
        lines(LISTS),
        lines(LISTS),
    ];
    all.prop_map(|all| {
        let mut headers = HeaderMap::new();
        for (name, lines) in VARYING.iter().zip(all) {
            for line in lines {
                headers.append(name, HeaderValue::from_static(line));
            }
        }
        headers
    })
}

fn varying() -> impl Strategy<Value = Vec<HeaderName>> {
    prop::sample::subsequence(VARYING.to_vec(), 1..=VARYING.len()).prop_map(|mut names| {
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names
    })
}

/// Which parts of a pair are made independently of each other.
fn some_bits() -> impl Strategy<Value = u8> {
    any::<[u8; 2]>().prop_map(|[one, other]| one & other)
}

fn few_bits() -> impl Strategy<Value = u8> {
    (some_bits(), any::<u8>()).prop_map(|(some, other)| some & other)
}

fn runner(least: u32) -> TestRunner {
    TestRunner::new(config(Config::default().cases.max(least)))
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        max_global_rejects: u32::MAX,
        ..Config::default()
    }
}

const KEYED_COOKIE: &str = "sid";

/// Two that are keyed, two that count when they are there, and one that is dropped.
const FIELDS: [HeaderName; 5] = [
    ACCEPT_LANGUAGE,
    HeaderName::from_static("x-tenant"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-host"),
];

const TARGETS: &[&str] = &[
    "/p",
    "/p?",
    "/p?a=1",
    "/p?a=1&b=1",
    "/p?b=1&a=1",
    "/p?a=1&a=2",
    "/p?a=2&a=1",
    "/p?a=%31",
    "/p?%61=1",
    "/p?utm_x=1&a=1",
    "/P?a=1",
    "/p/?a=1",
    "/%70?a=1",
    "//p?a=1",
    "http://a/p?a=1",
    "https://a/p?a=1",
    "http://A/p?a=1",
    "http://a:80/p?a=1",
    "http://a:81/p?a=1",
    "http://b/p",
];
const HOSTS: &[&str] = &["a", "A", "a:80", "a:81", "a:", "b", ""];
const LINES: &[&str] = &["", "1", "2", "1,2", "1, 2", " 1", "\u{fc}"];
const COOKIE_VALUES: &[&str] = &[
    "=a", "=b", "=", "=%61", "=\"a\"", "=a b", "=a=b", "", "=%ff",
];

const VARYING: [HeaderName; 5] = [
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    ACCEPT,
    COOKIE,
    HeaderName::from_static("x-user"),
];
const CODINGS: &[&str] = &[
    "",
    "gzip",
    "GZIP",
    "x-gzip",
    "gzip, br",
    "br,gzip",
    "br;q=1.0, gzip;q=0.5",
    "gzip;q=0",
    "*",
    "*;q=0",
    "identity;q=0",
    "identity",
    "gzip;q=2",
    "gzip, gzip;q=0",
    "-gzip",
    "=gzip",
];
const LANGUAGES: &[&str] = &[
    "",
    "de",
    "DE",
    "en, de",
    "de,en",
    "de;q=0.5, en",
    "de; q=0.5,en",
    "de de",
    "*",
];
const TYPES: &[&str] = &[
    "",
    "text/html",
    "text/html, */*",
    "text/html,*/*",
    "a/b;x=\"y, z\"",
    "a/b;x=\"y,z\"",
    "A/B",
];
const LISTS: &[&str] = &[
    "",
    "smith",
    "smith, john",
    "smith , john",
    "smith,john",
    "\"a , b\"",
];
