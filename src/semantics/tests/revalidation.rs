//! Conditional requests of our own, 304s, and HEAD responses.

use super::*;

/// Applies a 304 to a stored 200.
fn freshened(stored: &[(&str, &str)], new: &[(&str, &str)]) -> Freshened {
    freshened_by(stored, &Case::new(new).status(304))
}

fn freshened_by(stored: &[(&str, &str)], case: &Case) -> Freshened {
    let stored = headers(stored);
    case.with(|exchange| freshen(StatusCode::OK, &stored, exchange, &case.rules))
}

fn updated(stored: &[(&str, &str)], new: &[(&str, &str)]) -> Admitted {
    match freshened(stored, new) {
        Freshened::Updated(admitted) => *admitted,
        other => panic!("{stored:?} {new:?}: {other:?}"),
    }
}

#[test]
fn the_request_is_about_our_copy() {
    let mut request = headers(&[
        ("if-match", "\"x\""),
        ("if-none-match", "\"x\""),
        ("if-none-match", "\"y\""),
        ("if-modified-since", "x"),
        ("if-unmodified-since", "x"),
        ("if-range", "\"x\""),
        ("range", "bytes=0-"),
        ("accept", "a/b"),
    ]);
    let mut plain = request.clone();
    make_conditional(
        &mut request,
        &headers(&[("etag", "W/\"a\""), ("last-modified", "then")]),
    );
    assert_eq!(
        request,
        headers(&[
            ("accept", "a/b"),
            ("if-none-match", "W/\"a\""),
            ("if-modified-since", "then")
        ])
    );
    make_conditional(&mut plain, &HeaderMap::new());
    assert_eq!(plain, headers(&[("accept", "a/b")]));
}

#[test]
fn validators_of_a_304_have_to_match() {
    let (one, two) = (date(-1000), date(-2000));
    let table: &[(Lines<'_>, Lines<'_>, bool)] = &[
        (&[("etag", "\"a\"")], &[("etag", "\"a\"")], true),
        (&[("etag", "\"a\"")], &[("etag", "W/\"a\"")], true),
        (&[("etag", "W/\"a\"")], &[("etag", "W/\"a\"")], true),
        (&[("etag", "W/\"a\"")], &[("etag", "\"a\"")], true),
        (&[("etag", "\"a\"")], &[], true),
        (&[("etag", "a")], &[("etag", "a")], true),
        (&[("etag", "\"a\"")], &[("etag", "\"b\"")], false),
        (&[("etag", "W/\"a\"")], &[("etag", "W/\"b\"")], false),
        (&[("etag", "a")], &[("etag", "b")], false),
        (
            &[("etag", "\"a\"")],
            &[("etag", "\"a\""), ("etag", "\"b\"")],
            false,
        ),
        (&[("last-modified", &one)], &[("last-modified", &one)], true),
        (
            &[("last-modified", &one)],
            &[("last-modified", &two)],
            false,
        ),
        (&[("last-modified", &one)], &[("last-modified", "x")], false),
        // Unparsable, but the same to the letter; and the same moment in another form.
        (&[("last-modified", "x")], &[("last-modified", "x")], true),
        (
            &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
            &[("last-modified", "Sun Nov  6 08:49:37 1994")],
            true,
        ),
        (&[("last-modified", "x")], &[("last-modified", "y")], false),
        (&[("last-modified", &one)], &[], true),
        (&[("last-modified", &one)], &[("etag", "\"a\"")], false),
        (&[("last-modified", &one)], &[("etag", "W/\"a\"")], true),
        (
            &[("last-modified", &one), ("etag", "\"a\"")],
            &[("etag", "\"a\""), ("last-modified", &two)],
            true,
        ),
        (
            &[("last-modified", &one), ("etag", "\"a\"")],
            &[("etag", "\"b\""), ("last-modified", &one)],
            false,
        ),
    ];
    for (stored, new, matches) in table {
        let stored = [*stored, &[("cache-control", "max-age=60")]].concat();
        let outcome = freshened(&stored, new);
        assert_eq!(
            matches!(outcome, Freshened::Updated(_)),
            *matches,
            "{stored:?} {new:?}"
        );
        assert_eq!(
            outcome == Freshened::Mismatch,
            !matches,
            "{stored:?} {new:?}"
        );
    }
}

#[test]
fn a_304_replaces_and_adds_fields() {
    let stored = [
        ("cache-control", "max-age=1"),
        ("etag", "\"a\""),
        ("x-keep", "1"),
        ("x-keep", "2"),
        ("x-change", "1"),
        ("x-change", "2"),
        ("content-type", "text/plain"),
        ("content-length", "36"),
        ("content-encoding", "gzip"),
        ("content-security-policy", "a"),
        ("x-frame-options", "deny"),
        ("x-hop", "0"),
    ];
    let new = [
        ("cache-control", "max-age=3600"),
        ("etag", "\"a\""),
        ("x-change", "3"),
        ("x-new", "4"),
        ("content-type", "text/plain;charset=utf-8"),
        ("content-length", "10"),
        ("content-encoding", "br"),
        ("content-range", "x"),
        ("content-security-policy", "b"),
        ("transfer-encoding", "chunked"),
        ("connection", "x-hop, x-frame-options"),
        ("x-hop", "1"),
        ("set-cookie", "a=b"),
        ("set-cookie2", "a=b"),
        ("keep-alive", "1"),
        ("proxy-authenticate", "1"),
    ];
    let admitted = updated(&stored, &new);
    let fields = admitted.lines.to_map(0);
    let lines = |name: &str| {
        fields
            .get_all(name)
            .iter()
            .map(|v| v.to_str().unwrap())
            .collect::<Vec<_>>()
    };
    for (name, expected) in [
        ("cache-control", &["max-age=3600"][..]),
        ("x-keep", &["1", "2"]),
        ("x-change", &["3"]),
        ("x-new", &["4"]),
        ("content-type", &["text/plain"]),
        ("content-length", &["36"]),
        ("content-encoding", &["gzip"]),
        ("content-range", &[]),
        ("content-security-policy", &["b"]),
        ("transfer-encoding", &[]),
        ("connection", &[]),
        // What the 304 says of its own connection is nothing about the stored field.
        ("x-hop", &["0"]),
        ("set-cookie", &[]),
        ("set-cookie2", &[]),
        ("keep-alive", &[]),
        ("proxy-authenticate", &[]),
    ] {
        assert_eq!(lines(name), expected, "{name}");
    }
    assert_eq!(admitted.lifetimes.remaining(NOW), 3600);
}

#[test]
fn the_age_restarts() {
    let stored = [
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("date", &date(-500)),
    ];
    for (new, age, made) in [
        (&[][..], 0, date(0)),
        (&[("date", date(0))], 0, date(0)),
        (&[("date", date(-10))], 10, date(-10)),
        (
            &[("date", date(-10)), ("age", "20".to_owned())],
            20,
            date(-10),
        ),
    ] {
        let new: Vec<_> = new
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let admitted = updated(&stored, &new);
        assert_eq!(admitted.lifetimes.age(NOW), age, "{new:?}");
        assert_eq!(admitted.lines.to_map(0)["date"], made, "{new:?}");
        assert!(!admitted.lines.to_map(0).contains_key("age"));
    }
}

#[test]
fn a_304_that_now_forbids_storing_is_served_once() {
    let stored = [
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("x", "1"),
    ];
    for (new, expected) in [
        (("cache-control", "no-store"), Reason::NoStore),
        (("cache-control", "Private"), Reason::Private),
        (("cache-control", "x=\""), Reason::MalformedCacheControl),
        (("cdn-cache-control", "no-store"), Reason::NoStore),
        (("vary", "*"), Reason::VaryAny),
    ] {
        let hop_by_hop = [
            ("connection", "y"),
            ("keep-alive", "1"),
            ("y", "1"),
            ("age", "1"),
        ];
        let lines = [&[new][..], &hop_by_hop].concat();
        match freshened(&stored, &lines) {
            Freshened::Refused { refusal, headers } => {
                assert_eq!(refusal, expected);
                assert_eq!(headers["x"], "1");
                for (name, _) in hop_by_hop {
                    assert!(!headers.contains_key(name), "{name}");
                }
            }
            other => panic!("{new:?}: {other:?}"),
        }
    }
}

#[test]
fn a_304_to_a_request_with_credentials_needs_permission() {
    let stored = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
    for (name, expected) in [
        ("authorization", Reason::Authorization),
        ("cookie", Reason::Cookie),
    ] {
        let request = [(name, "x")];
        let refused = freshened_by(&stored, &Case::new(&[]).status(304).request(&request));
        assert!(
            matches!(refused, Freshened::Refused { refusal, .. } if refusal == expected && refusal.is_about_requester())
        );
        let public = Case::cache_control("max-age=60, public")
            .status(304)
            .request(&request);
        assert!(matches!(
            freshened_by(&stored, &public),
            Freshened::Updated(_)
        ));
    }
}

#[test]
fn options_of_a_304_count() {
    let stored = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
    let case = Case::new(&[])
        .status(304)
        .options(CacheOptions::new().max_age(7).tag("t"));
    let Freshened::Updated(admitted) = freshened_by(&stored, &case) else {
        panic!("not updated");
    };
    assert_eq!(admitted.lifetimes.remaining(NOW), 7);
    assert!(admitted.tags.iter().eq(["t"]));
}

/// Who may have the content does not get wider by an answer that has none.
#[test]
fn an_update_without_content_never_narrows_vary() {
    let table: &[(&[&str], &[&str], &[&str])] = &[
        (&["accept"], &[], &["accept"]),
        (&["accept"], &["accept"], &["accept"]),
        (&["accept, foo"], &["FOO"], &["accept, foo"]),
        (&["accept"], &["foo"], &["accept", "foo"]),
        (
            &["accept", "bar"],
            &["Bar, foo"],
            &["accept", "bar", "Bar, foo"],
        ),
        (&[], &["foo"], &["foo"]),
    ];
    for (stored, new, expected) in table {
        let lines = |lines: &[&'static str]| {
            let mut all = vec![("cache-control", "max-age=60"), ("etag", "\"a\"")];
            all.extend(lines.iter().map(|line| ("vary", *line)));
            all
        };
        let (kept, answer) = (lines(stored), lines(new));
        let by_304 = updated(&kept, &answer);
        let mut case = Case::new(&answer);
        case.method = Method::HEAD;
        let kept = headers(&kept);
        let by_head = case.with(|it| head_updates(StatusCode::OK, &kept, 1, it, &case.rules));
        let HeadOutcome::Freshened(by_head) = by_head else {
            panic!("{stored:?} {new:?}: {by_head:?}");
        };
        for admitted in [by_304, *by_head] {
            let fields = admitted.lines.to_map(0);
            let united: Vec<_> = fields.get_all("vary").iter().collect();
            assert_eq!(united, *expected, "{stored:?} {new:?}");
            let names = expected.iter().flat_map(|line| line.split(", "));
            let names: std::collections::BTreeSet<_> = names.map(str::to_lowercase).collect();
            assert!(
                admitted.vary.iter().map(HeaderName::as_str).eq(&names),
                "{stored:?} {new:?}"
            );
        }
    }
}

#[test]
fn an_update_knows_what_the_options_alone_have_named() {
    let stored = [("cache-control", "max-age=60"), ("vary", "foo")];
    let options = CacheOptions::new().vary(http::header::ACCEPT);
    let first = Case::new(&stored).options(options).admit().unwrap();
    let first = first.lines.to_map(0);
    let second = Case::new(&[]).status(304);
    let second = second.with(|it| freshen(StatusCode::OK, &first, it, &second.rules));
    let Freshened::Updated(second) = second else {
        panic!("{second:?}");
    };
    assert_eq!(second.vary[..], ["accept", "foo"]);
}

/// axum calls the empty content of a 304 plain text.
#[test]
fn an_update_without_content_does_not_say_how_to_read_the_stored_one() {
    let stored = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
    let typed = [&stored[..], &[("content-type", "text/html")]].concat();
    let new = [("content-type", "text/plain"), ("content-encoding", "br")];
    assert_eq!(
        updated(&typed, &new).lines.to_map(0)["content-type"],
        "text/html"
    );
    let untyped = updated(&stored, &new).lines.to_map(0);
    assert!(!untyped.contains_key("content-type") && !untyped.contains_key("content-encoding"));
}

#[test]
fn head_responses_update_or_invalidate() {
    let stored = headers(&[
        ("cache-control", "max-age=1"),
        ("etag", "\"a\""),
        ("x", "1"),
        ("content-length", "10"),
    ]);
    let run = |status: u16, new: &[(&str, &str)], request: &[(&str, &str)]| {
        let mut case = Case::new(new).status(status).request(request);
        case.method = Method::HEAD;
        case.with(|exchange| head_updates(StatusCode::OK, &stored, 10, exchange, &case.rules))
    };
    let same = [
        ("etag", "\"a\""),
        ("content-length", "10"),
        ("cache-control", "max-age=1000"),
        ("x", "2"),
    ];
    let HeadOutcome::Freshened(admitted) = run(200, &same, &[]) else {
        panic!("not freshened");
    };
    assert_eq!(admitted.lines.to_map(0)["x"], "2");
    assert_eq!(admitted.lifetimes.remaining(NOW), 1000);
    for (status, new, expected) in [
        (200, &[("etag", "\"b\"")][..], HeadOutcome::Invalidate),
        (
            200,
            &[("etag", "\"a\""), ("content-length", "11")],
            HeadOutcome::Invalidate,
        ),
        (200, &[("content-length", "11")], HeadOutcome::Invalidate),
        (200, &[("content-length", "x")], HeadOutcome::Invalidate),
        (
            200,
            &[("etag", "\"a\""), ("cache-control", "no-store")],
            HeadOutcome::Invalidate,
        ),
        (200, &[("content-length", "10")], HeadOutcome::Nothing),
        (
            200,
            &[("cache-control", "max-age=1000")],
            HeadOutcome::Nothing,
        ),
        (404, &[("etag", "\"b\"")], HeadOutcome::Nothing),
        (304, &[("etag", "\"a\"")], HeadOutcome::Nothing),
    ] {
        assert_eq!(run(status, new, &[]), expected, "{status} {new:?}");
    }
    assert_eq!(
        run(200, &same, &[("authorization", "x")]),
        HeadOutcome::Nothing
    );
}
