//! Freshness over time, and what a further directive makes of it.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::fuzzing::only_ages;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stored_response_only_ages(
        case in cases(),
        asked in directives(CLIENT, 3),
        moments in prop::collection::vec(-1000_i64..200_000, 2..20),
    ) {
        if let Ok(admitted) = case.admit() {
            let mut moments: Vec<Timestamp> = moments.into_iter().map(millis_after).collect();
            moments.sort();
            let request = facts(&[("cache-control", &asked)]);
            only_ages(&request, &admitted.lifetimes, &case.rules, &moments);
        }
    }

    #[test]
    fn a_longer_lifetime_never_ends_sooner(
        case in cases(),
        seconds in 0_u32..1000,
        more in 0_u32..1000,
    ) {
        let until = |seconds: u32| {
            let mut case = case.clone();
            let value = HeaderValue::try_from(format!("s-maxage={seconds}")).unwrap();
            case.response.insert("cache-control", value);
            case.admit().ok().map(|admitted| admitted.lifetimes.fresh_until)
        };
        prop_assert!(until(seconds) <= until(seconds + more));
    }

    #[test]
    fn a_prohibition_never_lets_more_be_served(
        case in cases(),
        prohibition in select(PROHIBITIONS),
        asked in directives(CLIENT, 2),
        after in -1000_i64..200_000,
    ) {
        let mut stricter = case.clone();
        let value = HeaderValue::from_static(prohibition);
        stricter.response.append("cache-control", value);
        let request = facts(&[("cache-control", &asked)]);
        let served = |case: &Case| {
            case.admit().is_ok_and(|admitted| {
                let judged = reuse(&request, &admitted.lifetimes, &case.rules, millis_after(after));
                !matches!(judged, Reuse::Revalidate(_) | Reuse::Dead)
            })
        };
        prop_assert!(served(&case) || !served(&stricter));
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let fields = subsequence(FIELDS, 0..4);
    let credentials = any::<bool>();
    let status = select(vec![200, 203, 301, 302, 404, 500]);
    let rules = (any::<[bool; 5]>(), select(vec![0_u64, 30, 600]));
    let several = (
        directives(RESPONSE, 4),
        fields,
        credentials,
        status,
        rules,
        0_i64..20,
    );
    several.prop_map(|(said, fields, cookie, status, (set, keep), delay)| {
        let mut case = Case::cache_control(&said).status(status).rules(|rules| {
            let seconds = |set: bool, seconds| set.then_some(Duration::from_secs(seconds));
            rules.client_directives = set[0];
            rules.default_ttl = seconds(set[1], 20);
            rules.heuristic_percent = set[2].then_some(10);
            rules.stale_while_revalidate = seconds(set[3], 15);
            rules.stale_if_error = seconds(set[4], 25);
            rules.keep = Duration::from_secs(keep);
        });
        for (name, value) in fields {
            case.response.append(name, HeaderValue::from_static(value));
        }
        if cookie {
            case = case.request(&[("cookie", "a=b")]);
        }
        case.delay = delay;
        case
    })
}

fn directives(all: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    subsequence(all, 0..=most).prop_map(|some| some.join(", "))
}

fn millis_after(millis: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis().saturating_add_signed(millis))
}

const RESPONSE: &[&str] = &[
    "max-age=0",
    "max-age=10",
    "max-age=60",
    "max-age=x",
    "s-maxage=30",
    "stale-while-revalidate=20",
    "stale-while-revalidate=90",
    "stale-if-error=40",
    "no-cache",
    "must-revalidate",
    "public",
    "immutable",
];

const CLIENT: &[&str] = &[
    "max-age=0",
    "max-age=15",
    "min-fresh=5",
    "max-stale",
    "max-stale=25",
    "stale-if-error=50",
    "no-cache",
];

const PROHIBITIONS: &[&str] = &[
    "no-store",
    "private",
    "no-cache",
    "must-revalidate",
    "proxy-revalidate",
];

const FIELDS: &[(&str, &str)] = &[
    ("age", "7"),
    ("age", "100"),
    ("date", "Wed, 18 May 2033 03:33:10 GMT"),
    ("date", "Wed, 18 May 2033 03:33:40 GMT"),
    ("expires", "Wed, 18 May 2033 03:34:00 GMT"),
    ("expires", "0"),
    ("last-modified", "Wed, 18 May 2033 03:00:00 GMT"),
    ("etag", "\"a\""),
    ("cdn-cache-control", "max-age=45"),
    ("vary", "accept"),
];
