//! What of a response's fields is stored, and what an unsafe request invalidates.

use http::Uri;

use super::*;

fn stored(lines: &[(&str, &str)]) -> HeaderMap {
    let mut all = vec![("cache-control", "max-age=60")];
    all.extend_from_slice(lines);
    Case::new(&all).admit().unwrap().lines.to_map(0)
}

#[test]
fn fields_keep_their_order_and_repeated_lines() {
    let stored = stored(&[
        ("link", "<a>"),
        ("x-b", "1"),
        ("link", "<b>"),
        ("x-a", "2"),
        ("date", &date(0)),
    ]);
    let names: Vec<_> = stored.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["cache-control", "link", "x-b", "x-a", "date"]);
    assert_eq!(
        stored.get_all("link").iter().collect::<Vec<_>>(),
        ["<a>", "<b>"]
    );
}

#[test]
fn fields_of_one_connection_are_not_stored() {
    for name in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "age",
    ] {
        assert!(!stored(&[(name, "1")]).contains_key(name), "{name}");
    }
    for name in [
        "cache-status",
        "content-range",
        "set",
        "x-te",
        "content-md5",
        "etag",
    ] {
        assert!(stored(&[(name, "1")]).contains_key(name), "{name}");
    }
}

#[test]
fn connection_nominates_fields_but_no_critical_ones() {
    let stored = stored(&[
        ("connection", "A, b ,close,,"),
        (
            "connection",
            "vary, etag, Cache-Control, CDN-Cache-Control, content-type, date, x y",
        ),
        (
            "connection",
            "content-encoding, content-security-policy, expires, location",
        ),
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("vary", "accept"),
        ("etag", "\"a\""),
        ("cdn-cache-control", "max-age=9"),
        ("content-type", "a/b"),
        ("content-encoding", "gzip"),
        ("content-security-policy", "x"),
        ("expires", "0"),
        ("location", "/"),
        ("date", &date(0)),
    ]);
    for gone in ["a", "b", "connection"] {
        assert!(!stored.contains_key(gone), "{gone}");
    }
    for kept in [
        "c",
        "vary",
        "etag",
        "cache-control",
        "cdn-cache-control",
        "content-type",
        "content-encoding",
        "content-security-policy",
        "expires",
        "location",
        "date",
    ] {
        assert!(stored.contains_key(kept), "{kept}");
    }
}

#[test]
fn a_nominated_set_cookie_still_counts() {
    let case = Case::new(&[
        ("cache-control", "max-age=60"),
        ("connection", "set-cookie"),
        ("set-cookie", "a"),
    ]);
    assert_eq!(case.admit(), Err(Reason::SetCookie));
}

#[test]
fn fields_listed_by_private_and_no_cache_are_not_stored() {
    for line in [
        "private=\"A, b\"",
        "no-cache=\"a,B\"",
        "private=a, no-cache=b",
        "private=\"a\", private=\"b\"",
    ] {
        let case = Case::new(&[
            ("cache-control", line),
            ("cache-control", "max-age=60"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
        ]);
        let admitted = case.admit().unwrap();
        assert!(
            !admitted.lines.to_map(0).contains_key("a")
                && !admitted.lines.to_map(0).contains_key("b"),
            "{line}"
        );
        assert!(admitted.lines.to_map(0).contains_key("c"), "{line}");
        assert!(
            !admitted.lifetimes.flags.contains(Flags::NO_CACHE),
            "{line}"
        );
    }
    // Without these the content is something else: no-cache for them is for all.
    let case = Case::new(&[
        ("cache-control", "max-age=60, no-cache=\"content-encoding\""),
        ("etag", "\"a\""),
    ]);
    assert!(case.lifetimes().flags.contains(Flags::NO_CACHE));
}

#[test]
fn a_missing_or_invalid_date_is_recorded() {
    assert_eq!(stored(&[])["date"], date(0));
    assert_eq!(stored(&[("date", "foo")])["date"], date(0));
    assert_eq!(stored(&[("date", &date(-30))])["date"], date(-30));
}

#[test]
fn thousands_of_fields_and_nominations_are_cheap() {
    let names: Vec<_> = (0..8000).map(|n| format!("x-{n}")).collect();
    let nominated = names.join(",");
    let mut lines = vec![("connection", nominated.as_str())];
    lines.extend(names.iter().map(|name| (name.as_str(), "1")));
    assert_eq!(stored(&lines).len(), 2);
    let lines: Vec<_> = (0..30_000).map(|_| ("x", "1")).collect();
    assert_eq!(stored(&lines).len(), 30_002);
}

#[test]
fn more_fields_than_a_map_has_places_for_are_not_stored() {
    let names: Vec<_> = (0..24_001).map(|n| format!("x-{n}")).collect();
    let mut lines = vec![("cache-control", "max-age=60")];
    lines.extend(names.iter().map(|name| (name.as_str(), "1")));
    for (fields, refusal) in [(23_999, None), (24_001, Some(Reason::TooManyFields))] {
        let found = Case::new(&lines[..fields]).admit();
        assert_eq!(found.as_ref().err().copied(), refusal);
        if let Ok(admitted) = found {
            assert_eq!(
                admitted.lines.to_map(3).len(),
                fields + 1,
                "all, and a date"
            );
        }
    }
}

#[test]
fn unsafe_methods_invalidate() {
    let target: Uri = "https://example.com/a/b?q=1".parse().unwrap();
    let run = |method: &str, status: u16, lines: &[(&str, &str)]| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let uris = invalidated(
            &method,
            StatusCode::from_u16(status).unwrap(),
            &target,
            &headers(lines),
        );
        uris.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "BREW"] {
        for status in [200, 201, 204, 301, 303] {
            assert_eq!(
                run(method, status, &[]),
                ["https://example.com/a/b?q=1"],
                "{method} {status}"
            );
        }
        for status in [400, 404, 412, 500, 503] {
            assert!(
                run(method, status, &[("location", "/x")]).is_empty(),
                "{method} {status}"
            );
        }
    }
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"] {
        assert!(
            run(method, 200, &[("location", "/x")]).is_empty(),
            "{method}"
        );
    }
    for (reference, expected) in [
        ("/x", Some("/x")),
        ("/x?y#z", Some("/x?y")),
        ("x", Some("/a/x")),
        ("./x", Some("/a/x")),
        ("../x", Some("/x")),
        ("../../x", Some("/x")),
        ("/a/./c/../x/", Some("/a/x/")),
        ("..", Some("/")),
        (".", Some("/a/")),
        ("?r=2", Some("/a/b?r=2")),
        ("x?y=/../z", Some("/a/x?y=/../z")),
        ("https://example.com/x", Some("/x")),
        ("HTTPS://EXAMPLE.COM:443/x", Some("/x")),
        ("https://example.com", Some("/")),
        ("https://example.com?q", Some("/?q")),
        ("//example.com/x", Some("/x")),
        (" /x ", Some("/x")),
        ("", None),
        ("#frag", None),
        ("http://example.com/x", None),
        ("https://example.com:444/x", None),
        ("https://example.com.evil/x", None),
        ("https://example.com@evil/x", None),
        ("https://evil/x", None),
        ("//evil/x", None),
        ("///x", None),
        ("mailto:a@example.com", None),
        ("javascript:x", None),
        ("https:/x", None),
        ("/x y", None),
        ("https://[::/x", None),
    ] {
        for name in ["location", "content-location"] {
            let mut uris = vec!["https://example.com/a/b?q=1".to_owned()];
            uris.extend(expected.map(|path| format!("https://example.com{path}")));
            let found = run("POST", 200, &[(name, reference)]);
            assert_eq!(found, uris, "{name}: {reference}");
        }
    }
    let both = run(
        "PUT",
        201,
        &[("location", "/x"), ("content-location", "/y")],
    );
    assert_eq!(both.len(), 3);
    assert_eq!(
        run(
            "PUT",
            201,
            &[("location", "/x"), ("content-location", "/x")]
        )
        .len(),
        2
    );
    assert_eq!(
        run("PUT", 201, &[("location", "/x"), ("location", "/y")]).len(),
        1
    );
}

#[test]
fn an_origin_form_target_invalidates_its_own_paths_only() {
    let target: Uri = "/a/b".parse().unwrap();
    let run = |reference: &str| {
        let headers = headers(&[("location", reference)]);
        invalidated(&Method::POST, StatusCode::OK, &target, &headers)
    };
    assert_eq!(run("c"), ["/a/b", "/a/c"]);
    assert_eq!(run("https://example.com/c"), ["/a/b"]);
    assert_eq!(run("//example.com/c"), ["/a/b"]);
}
