//! Random fields: nothing panics, and what must hold of every outcome holds.

use super::*;

const NAMES: &[&str] = &[
    "cache-control",
    "cdn-cache-control",
    "vary",
    "expires",
    "date",
    "age",
    "etag",
    "last-modified",
    "connection",
    "location",
    "set-cookie",
    "content-length",
    "range",
    "if-range",
    "if-none-match",
    "if-modified-since",
    "accept-encoding",
    "accept-language",
    "authorization",
    "x",
];

const PIECES: &[&str] = &[
    "max-age",
    "s-maxage",
    "no-cache",
    "private",
    "public",
    "no-store",
    "must-revalidate",
    "stale-while-revalidate",
    "stale-if-error",
    "immutable",
    "must-understand",
    "set-cookie",
    "x",
    "=",
    "=",
    ",",
    ",",
    ";",
    "\"",
    "\\",
    " ",
    "\t",
    "*",
    "W/",
    "(",
    ")",
    "?1",
    ":",
    "/",
    "..",
    "#",
    "-",
    "0",
    "1",
    "60",
    "4294967296",
    "18446744073709551616",
    "bytes=",
    "gzip",
    "q=0",
    "%",
    "@",
    "Sun, 06 Nov 2050 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "ü",
    "https://a/",
];

fn lines(random: &mut fastrand::Rng) -> HeaderMap {
    let mut map = HeaderMap::new();
    for _ in 0..random.usize(0..6) {
        let name = NAMES[random.usize(..NAMES.len())];
        let value: String = (0..random.usize(0..8))
            .map(|_| PIECES[random.usize(..PIECES.len())])
            .collect();
        map.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

#[test]
fn random_fields_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(7);
    let target = "https://a/b/c".parse().unwrap();
    let mut stored = 0;
    for _ in 0..60_000 {
        let mut case = Case::new(&[]);
        case.request = lines(&mut random);
        case.response = lines(&mut random);
        case.rules.client_directives = random.bool();
        case.rules.heuristic_percent = random.bool().then_some(10);
        if let Ok(admitted) = case.admit() {
            stored += 1;
            holds(&case, &admitted);
            let now = after(random.i64(-100..100_000));
            let facts = RequestFacts::read(&case.method, &lines(&mut random));
            let judged = reuse(&facts, &admitted.lifetimes, &case.rules, now);
            if now >= admitted.lifetimes.fresh_until {
                assert_ne!(judged, Reuse::Fresh);
            }
            may_serve_on_error(&facts, &admitted.lifetimes, &case.rules, now);
            evaluate(
                &case.request,
                case.status,
                &admitted.lines.to_map(0),
                &admitted.lifetimes,
            );
            not_modified_headers(&admitted.lines.to_map(0));
            let (old, new) = (&admitted.lines.to_map(0), lines(&mut random));
            let validation = Case {
                response: new,
                ..case
            };
            validation.with(|exchange| {
                if let Freshened::Updated(updated) =
                    freshen(StatusCode::OK, old, exchange, &validation.rules)
                {
                    assert!(!updated.lines.to_map(0).contains_key("set-cookie"));
                }
                head_updates(StatusCode::OK, old, 60, exchange, &validation.rules);
            });
            case = validation;
        }
        let len = random.u64(..);
        if let RangeAnswer::Part {
            start,
            end_inclusive,
        } = resolve(&case.request, StatusCode::OK, &case.response, len, NOW)
        {
            assert!(start <= end_inclusive && end_inclusive < len);
        }
        for uri in invalidated(&Method::POST, StatusCode::OK, &target, &case.response) {
            assert_eq!(uri.authority(), target.authority());
        }
        let mut key = Vec::new();
        for name in NAMES {
            variant_value(&HeaderName::from_static(name), &case.request, &mut key);
        }
    }
    assert!(stored > 1000, "{stored}");
}

fn holds(case: &Case, admitted: &Admitted) {
    let Lifetimes {
        born,
        stored,
        fresh_until,
        swr_until,
        sie_until,
        kept_until,
        flags,
    } = admitted.lifetimes;
    assert!(born <= stored && born <= fresh_until && stored < kept_until);
    assert!(fresh_until <= swr_until && fresh_until <= sie_until);
    assert!(flags.contains(Flags::VALIDATOR) || !flags.contains(Flags::NO_CACHE));
    if flags.contains(Flags::MUST_REVALIDATE) {
        assert!(swr_until == fresh_until && sie_until == fresh_until);
    }
    for gone in ["set-cookie", "age", "connection"] {
        assert!(!admitted.lines.to_map(0).contains_key(gone));
    }
    assert!(admitted.lines.to_map(0).contains_key("date"));
    assert!(admitted.vary.is_sorted_by(|a, b| a.as_str() < b.as_str()));
    if case.request.contains_key("authorization") {
        assert!(flags.intersects(Flags::CREDENTIALS_OK.with(Flags::MUST_REVALIDATE)));
    }
}
