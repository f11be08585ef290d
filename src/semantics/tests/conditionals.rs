//! 304, 206 and 416 from a stored response.

use super::*;

fn lifetimes() -> Lifetimes {
    Case::cache_control("max-age=60").lifetimes()
}

#[test]
fn if_none_match() {
    use Precondition::{NotModified, Proceed};
    let table: &[(&str, &[&str], Precondition)] = &[
        ("\"a\"", &["\"a\""], NotModified),
        ("\"a\"", &["W/\"a\""], NotModified),
        ("W/\"a\"", &["\"a\""], NotModified),
        ("W/\"a\"", &["W/\"a\""], NotModified),
        ("\"a\"", &["\"b\""], Proceed),
        ("\"a\"", &["\"A\""], Proceed),
        ("\"a\"", &["*"], NotModified),
        ("\"a\"", &[" * "], NotModified),
        ("\"a\"", &["\"a\", \"b\", \"c\""], NotModified),
        ("\"b\"", &["\"a\", \"b\", \"c\""], NotModified),
        ("\"c\"", &["\"a\",\"b\",\t\"c\""], NotModified),
        ("\"c\"", &["\"a\"", "\"b\"", "\"c\""], NotModified),
        ("\"c\"", &[",, \"a\",, \"c\" ,"], NotModified),
        ("\"a,b\"", &["\"a,b\""], NotModified),
        ("\"a\"", &["\"x,\", \"a\""], NotModified),
        ("\"a\"", &["\"x, \"a\""], Proceed),
        ("\"a\"", &["\"x,\\\"a\\\"\""], Proceed),
        ("\"a\\\"", &["\"a\\\""], NotModified),
        ("\"abcdefü\"", &["\"abcdefü\""], NotModified),
        ("\"\"", &["\"\""], NotModified),
        ("\"a\"", &["a"], Proceed),
        ("a", &["a"], Proceed),
        ("a", &["\"a\""], Proceed),
        ("w/\"a\"", &["w/\"a\""], Proceed),
        ("W\"a\"", &["W\"a\""], Proceed),
        ("\"a\"", &["\"a"], Proceed),
        ("\"a\"", &["\"a\" \"b\""], Proceed),
        ("\"a\"", &["\"a\"x"], Proceed),
        ("\"a\"", &["*, \"a\""], Proceed),
        ("\"a\"", &["*", "\"a\""], Proceed),
        ("\"a\"", &[""], Proceed),
        ("\"a\"", &["\"a b\""], Proceed),
        // No entity tag has a space in it.
        ("\"a b\"", &["\"a b\""], Proceed),
    ];
    for (etag, lines, expected) in table {
        let mut request: Vec<_> = lines.iter().map(|line| ("if-none-match", *line)).collect();
        let stored = headers(&[("etag", etag), ("date", &date(0))]);
        let run = |request: &[(&str, &str)], status| {
            evaluate(&headers(request), status, &stored, &lifetimes())
        };
        assert_eq!(run(&request, StatusCode::OK), *expected, "{etag} {lines:?}");
        assert_eq!(
            run(&request, StatusCode::NOT_FOUND),
            Proceed,
            "{etag} {lines:?} of a 404"
        );
        // If-Modified-Since does not count beside it, either way.
        let since = date(1000);
        request.push(("if-modified-since", &since));
        assert_eq!(
            run(&request, StatusCode::OK),
            *expected,
            "{etag} {lines:?} with IMS"
        );
    }
    let none = headers(&[]);
    let run = |line| {
        evaluate(
            &headers(&[("if-none-match", line)]),
            StatusCode::OK,
            &none,
            &lifetimes(),
        )
    };
    assert_eq!(run("\"a\""), Proceed);
    assert_eq!(run("*"), NotModified);
}

#[test]
fn if_modified_since() {
    use Precondition::{NotModified, Proceed};
    let made = date(-100);
    let table: &[(Option<i64>, Option<&str>, i64, Precondition)] = &[
        (Some(-3000), Some(&made), -3000, NotModified),
        (Some(-3000), Some(&made), -2000, NotModified),
        (Some(-3000), Some(&made), -3001, Proceed),
        (None, Some(&made), -100, NotModified),
        (None, Some(&made), -101, Proceed),
        (None, Some("x"), 0, NotModified),
        (None, None, -1, Proceed),
        (None, None, 0, NotModified),
    ];
    for (modified, made, since, expected) in table {
        let modified = modified.map(date);
        let mut stored: Vec<_> = modified
            .iter()
            .map(|date| ("last-modified", date.as_str()))
            .collect();
        stored.extend(made.map(|made| ("date", made)));
        let since = date(*since);
        let request = headers(&[("if-modified-since", &since)]);
        assert_eq!(
            evaluate(&request, StatusCode::OK, &headers(&stored), &lifetimes()),
            *expected,
            "{stored:?} {since}"
        );
    }
    let stored = headers(&[("last-modified", &date(-3000))]);
    let run = |request: &[(&str, &str)]| {
        evaluate(&headers(request), StatusCode::OK, &stored, &lifetimes())
    };
    let later = date(0);
    assert_eq!(run(&[("if-modified-since", &later)]), NotModified);
    assert_eq!(
        run(&[("if-modified-since", &later), ("if-modified-since", &later)]),
        Proceed
    );
    assert_eq!(run(&[("if-modified-since", "0")]), Proceed);
    assert_eq!(
        run(&[("if-modified-since", "Thursday, 18-Aug-50 02:01:18 GMT")]),
        NotModified
    );
    assert_eq!(run(&[]), Proceed);
    let odd = headers(&[("last-modified", "yesterday"), ("date", &date(-3000))]);
    let request = headers(&[("if-modified-since", &later)]);
    assert_eq!(
        evaluate(&request, StatusCode::OK, &odd, &lifetimes()),
        Proceed
    );
}

#[test]
fn fields_of_a_304() {
    let made = not_modified_headers(&headers(&[
        ("date", "d"),
        ("etag", "\"a\""),
        ("cache-control", "max-age=60"),
        ("expires", "e"),
        ("content-location", "/x"),
        ("vary", "a"),
        ("vary", "b"),
        ("last-modified", "l"),
        ("content-type", "t"),
        ("content-length", "3"),
        ("content-encoding", "gzip"),
        ("content-language", "en"),
        ("content-range", "r"),
        ("set-cookie", "s"),
        ("repr-digest", "x"),
        ("cache-status", "c"),
        ("access-control-allow-origin", "*"),
        ("content-security-policy", "p"),
    ]));
    let mut names: Vec<_> = made.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "access-control-allow-origin",
            "cache-control",
            "cache-status",
            "content-location",
            "content-security-policy",
            "date",
            "etag",
            "expires",
            "vary",
        ]
    );
    assert_eq!(made.get_all("vary").iter().count(), 2);
    assert!(
        not_modified_headers(&headers(&[("last-modified", "l")])).contains_key("last-modified")
    );
}

/// nginx CVE-2017-7529 and Squid CVE-2021-31806: arithmetic on hostile ranges.
#[test]
fn ranges() {
    use RangeAnswer::{Unsatisfiable, Whole};
    let part = |start, end_inclusive| RangeAnswer::Part {
        start,
        end_inclusive,
    };
    let table = [
        ("bytes=0-1", part(0, 1)),
        ("bytes=1-", part(1, 9)),
        ("bytes=-1", part(9, 9)),
        ("bytes=-10", part(0, 9)),
        ("bytes=-11", part(0, 9)),
        ("bytes=0-0", part(0, 0)),
        ("bytes=9-9", part(9, 9)),
        ("bytes=9-10", part(9, 9)),
        ("bytes=0-", part(0, 9)),
        ("BYTES=0-1", part(0, 1)),
        (" bytes=0-1 ", part(0, 1)),
        ("bytes= 0-1", part(0, 1)),
        ("bytes=,0-1,", part(0, 1)),
        ("bytes=0-18446744073709551615", part(0, 9)),
        ("bytes=0-99999999999999999999999999", part(0, 9)),
        ("bytes=-99999999999999999999999999", part(0, 9)),
        ("bytes=00000000000000000000000000-1", part(0, 1)),
        ("bytes=10-", Unsatisfiable),
        ("bytes=10-20", Unsatisfiable),
        ("bytes=18446744073709551615-", Unsatisfiable),
        (
            "bytes=18446744073709551616-99999999999999999999999999",
            Unsatisfiable,
        ),
        ("bytes=-0", Unsatisfiable),
        ("bytes=1-0", Whole),
        ("bytes=0-1,5-6", Whole),
        ("bytes=0-,0-,0-,0-", Whole),
        ("bytes=0-1, x", Whole),
        ("bytes=", Whole),
        ("bytes", Whole),
        ("bytes=-", Whole),
        ("bytes=--1", Whole),
        ("bytes=0--1", Whole),
        ("bytes=0-1-2", Whole),
        ("bytes=+0-1", Whole),
        ("bytes=0 -1", Whole),
        ("bytes=0x0-1", Whole),
        ("bytes=a-b", Whole),
        ("bytes =0-1", Whole),
        ("lines=0-1", Whole),
        ("0-1", Whole),
        ("", Whole),
    ];
    for (line, expected) in table {
        let request = headers(&[("range", line)]);
        let run = |status, len| resolve(&request, status, &HeaderMap::new(), len, NOW);
        assert_eq!(run(StatusCode::OK, 10), expected, "{line}");
        assert_eq!(run(StatusCode::NOT_FOUND, 10), Whole, "{line} of a 404");
        assert_eq!(run(StatusCode::OK, 0), Whole, "{line} of nothing");
        for len in [1, 2, 3, u64::MAX] {
            if let RangeAnswer::Part {
                start,
                end_inclusive,
            } = run(StatusCode::OK, len)
            {
                assert!(
                    start <= end_inclusive && end_inclusive < len,
                    "{line} of {len}"
                );
            }
        }
    }
    let twice = headers(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
    assert_eq!(
        resolve(&twice, StatusCode::OK, &HeaderMap::new(), 10, NOW),
        Whole
    );
    assert_eq!(content_range(0, 4, 10), "bytes 0-4/10");
    assert_eq!(unsatisfied_range(10), "bytes */10");
}

#[test]
fn every_small_range_is_within_bounds() {
    for len in 1..12_u64 {
        for first in 0..14 {
            for last in 0..14 {
                let request = headers(&[("range", &format!("bytes={first}-{last}"))]);
                let answer = resolve(&request, StatusCode::OK, &HeaderMap::new(), len, NOW);
                let expected = if first > last {
                    RangeAnswer::Whole
                } else if first >= len {
                    RangeAnswer::Unsatisfiable
                } else {
                    RangeAnswer::Part {
                        start: first,
                        end_inclusive: last.min(len - 1),
                    }
                };
                assert_eq!(answer, expected, "{first}-{last} of {len}");
            }
        }
    }
}

#[test]
fn if_range_wants_a_strong_match() {
    let (old, older, now) = (date(-100), date(-200), date(0));
    let table: &[(Lines<'_>, &str, bool)] = &[
        (&[("etag", "\"a\"")], "\"a\"", true),
        (&[("etag", "\"a\"")], "\"b\"", false),
        (&[("etag", "W/\"a\"")], "W/\"a\"", false),
        (&[("etag", "\"a\"")], "W/\"a\"", false),
        (&[("etag", "W/\"a\"")], "\"a\"", false),
        (&[("etag", "\"a\"")], "*", false),
        (&[("etag", "\"a\"")], "\"a\", \"b\"", false),
        (&[("etag", "\"a\"")], "a", false),
        (&[("etag", "\"a\"")], "", false),
        (&[], "\"a\"", false),
        (&[("last-modified", &old), ("date", &now)], &old, true),
        (&[("last-modified", &old), ("date", &now)], &older, false),
        (&[("last-modified", &older), ("date", &now)], &old, false),
        (&[("last-modified", &old), ("date", &old)], &old, false),
        (&[("last-modified", &old)], &old, false),
        (&[("date", &old)], &old, false),
        (&[("last-modified", "x"), ("date", &now)], "x", false),
    ];
    for (stored, line, passes) in table {
        let request = headers(&[("range", "bytes=0-1"), ("if-range", line)]);
        let stored = headers(stored);
        assert_eq!(
            if_range_passes(&request, &stored, NOW),
            *passes,
            "{stored:?} {line}"
        );
        let answer = resolve(&request, StatusCode::OK, &stored, 10, NOW);
        assert_eq!(answer != RangeAnswer::Whole, *passes, "{stored:?} {line}");
    }
    let twice = headers(&[("if-range", "\"a\""), ("if-range", "\"b\"")]);
    assert!(!if_range_passes(
        &twice,
        &headers(&[("etag", "\"a\"")]),
        NOW
    ));
    assert!(if_range_passes(&HeaderMap::new(), &HeaderMap::new(), NOW));
}
