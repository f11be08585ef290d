//! RFC 9110, 9111, 5861, 8246, 9211 and 9213 from outside: a handler behind the layer, and a clock
//! that stands still.

use std::time::Duration;

use axum::body::Body;
use http::header::CONTENT_LOCATION;
use http::{Method, Response, StatusCode};
use tower::{Layer, ServiceExt};
use tower_response_cache::{CacheConfig, CacheLayer, CookieRule, Policy, QueryRule, SetCookieRule};

use crate::support::app::{App, Lines, headers, response};
use crate::support::eventually;

#[tokio::test]
async fn a_response_lives_as_long_as_it_says_and_tells_its_age() {
    let app = App::sending(&[("cache-control", "max-age=60")]);
    assert!(app.get("/", &[]).await.is_stored());
    for (wait, age, ttl) in [(0, "0", "60"), (10, "10", "50"), (49, "59", "1")] {
        app.wait(wait);
        let hit = app.get("/", &[]).await;
        assert_eq!(hit.field("age"), age);
        assert!(hit.cache().ends_with(&format!("; hit; ttl={ttl}")));
    }
    app.wait(1);
    assert_eq!(app.get("/", &[]).await.text(), "1");
}

#[tokio::test]
async fn an_age_of_the_origin_counts() {
    let app = App::sending(&[("cache-control", "max-age=60"), ("age", "50")]);
    app.get("/", &[]).await;
    app.wait(5);
    assert_eq!(app.get("/", &[]).await.field("age"), "55");
    app.wait(5);
    assert!(!app.get("/", &[]).await.is_hit());
}

/// RFC 9111 4.3.4 and 4.2.3.
#[tokio::test]
async fn a_304_renews_the_fields_and_the_age() {
    let app = App::new(
        |request, number| match request.headers.get("if-none-match") {
            Some(tag) if tag == "\"a\"" => response(
                304,
                &[
                    ("etag", "\"a\""),
                    ("cache-control", "max-age=20"),
                    ("x-new", "1"),
                ],
                "",
            ),
            _ => response(
                200,
                &[
                    ("etag", "\"a\""),
                    ("cache-control", "max-age=10"),
                    ("age", "5"),
                    ("x-old", "1"),
                ],
                number.to_string(),
            ),
        },
    );
    app.get("/", &[]).await;
    app.wait(7);
    let renewed = app.get("/", &[]).await;
    assert_eq!((renewed.status, renewed.text()), (StatusCode::OK, "0"));
    assert_eq!(
        [
            renewed.field("age"),
            renewed.field("x-new"),
            renewed.field("x-old")
        ],
        ["0", "1", "1"]
    );
    assert!(
        renewed
            .cache()
            .contains("fwd=stale; fwd-status=304; stored")
    );
    app.wait(19);
    let hit = app.get("/", &[]).await;
    assert_eq!((hit.field("age"), hit.is_hit()), ("19", true));
    assert_eq!(app.calls(), 2);
}

/// RFC 9111 4.3.4: nothing says that the stored response may be served for it. The request is made
/// once more, without conditions.
#[tokio::test]
async fn a_304_about_another_response_is_asked_again_without_conditions() {
    for (control, wait) in [
        ("max-age=10", 11),
        ("max-age=10, must-revalidate, stale-if-error=60", 11),
        ("no-cache", 0),
        ("max-age=10, stale-if-error=60", 11),
    ] {
        for asked in [
            &[][..],
            &[("range", "bytes=0-0")],
            &[("if-none-match", "\"z\"")],
        ] {
            let app = App::new(move |request, number| {
                if request.headers.contains_key("if-none-match") {
                    return response(304, &[("etag", "\"b\"")], "");
                }
                let lines = [("cache-control", control), ("etag", "\"a\"")];
                response(200, &lines, number.to_string())
            });
            app.get("/", &[]).await;
            app.wait(wait);
            let answer = app.get("/", asked).await;
            let case = format!("{control} {asked:?}");
            assert_eq!(answer.text(), "2", "{case}: {}", answer.cache());
            assert!(
                answer.cache().contains("detail=validator-mismatch"),
                "{case}"
            );
            assert!(answer.cache().contains("stored"), "{case}");
            let last = app.last_call();
            for name in ["if-none-match", "if-modified-since", "range"] {
                assert!(!last.contains_key(name), "{case}: {name}");
            }
            assert_eq!(app.calls(), 3, "{case}");
        }
    }
}

/// The types of some bodies let no empty one be made: then the request cannot be made once more.
#[tokio::test]
async fn a_304_about_another_response_is_never_an_error() {
    let handler = tower::service_fn(|request: http::Request<Opaque>| async move {
        let is_conditional = request.headers().contains_key("if-none-match");
        let (status, tag) = if is_conditional {
            (304, "\"b\"")
        } else {
            (200, "\"a\"")
        };
        let lines = [("cache-control", "no-cache"), ("etag", tag)];
        Ok::<_, std::convert::Infallible>(response(status, &lines, "content"))
    });
    let service = CacheLayer::new(CacheConfig::default()).layer(handler);
    for detail in ["not-found", "validator-mismatch", "not-found"] {
        let request = http::Request::builder()
            .uri("http://h.org/")
            .body(Opaque)
            .unwrap();
        let answer = service.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let status = answer.headers()["cache-status"].to_str().unwrap();
        assert!(status.contains(detail), "{status}");
    }
}

/// A body that is over, and has no constructor as far as the cache knows.
struct Opaque;

impl http_body::Body for Opaque {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

/// The cache asks for itself: the client's own question is answered from what it then has.
#[tokio::test]
async fn a_revalidation_is_not_the_clients_own() {
    let app = App::new(|_, number| {
        let lines = [("cache-control", "max-age=1"), ("etag", "\"new\"")];
        let lines: Lines<'_> = if number == 0 {
            &[("cache-control", "max-age=1"), ("etag", "\"old\"")]
        } else {
            &lines
        };
        response(200, lines, "0123456789")
    });
    app.get("/", &[]).await;
    app.wait(5);
    let part = app
        .get("/", &[("range", "bytes=2-3"), ("if-none-match", "\"x\"")])
        .await;
    assert_eq!((part.status.as_u16(), part.text()), (206, "23"));
    let asked = app.last_call();
    assert_eq!(asked["if-none-match"], "\"old\"");
    assert!(!asked.contains_key("range"));
    app.wait(5);
    let unchanged = app.get("/", &[("if-none-match", "\"new\"")]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.text()), (304, ""));
}

/// RFC 9111 4.3.2; the client's validators against what is stored.
#[tokio::test]
async fn conditional_requests_are_answered_from_the_store() {
    const MODIFIED: &str = "Tue, 15 Nov 1994 12:45:26 GMT";
    let app = App::sending(&[
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("last-modified", MODIFIED),
        ("content-type", "text/plain"),
    ]);
    app.get("/", &[]).await;
    let table: [(Lines<'_>, u16); 8] = [
        (&[("if-none-match", "\"a\"")], 304),
        (&[("if-none-match", "W/\"a\"")], 304),
        (&[("if-none-match", "\"b\", \"a\"")], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"b\"")], 200),
        (&[("if-modified-since", MODIFIED)], 304),
        (
            &[("if-modified-since", "Tue, 15 Nov 1994 12:45:25 GMT")],
            200,
        ),
        (
            &[("if-none-match", "\"b\""), ("if-modified-since", MODIFIED)],
            200,
        ),
    ];
    for (lines, status) in table {
        for method in [Method::GET, Method::HEAD] {
            let answer = app.send(method.clone(), "/", lines).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {lines:?}");
            assert_eq!(answer.field("etag"), "\"a\"");
            assert!(answer.is_hit());
            if status == 304 {
                assert!(answer.body.is_empty() && answer.field("content-type").is_empty());
            }
        }
    }
    assert_eq!(app.calls(), 1);
    for name in ["if-match", "if-unmodified-since"] {
        let answer = app.get("/", &[(name, "\"a\"")]).await;
        assert!(answer.cache().contains("fwd=bypass"), "{name}");
    }
}

#[tokio::test]
async fn every_small_range_is_what_a_model_says() {
    const BODY: &str = "abcde";
    let app = App::new(|_, _| response(200, &[("cache-control", "max-age=60")], BODY));
    app.get("/", &[]).await;
    let len = BODY.len();
    let mut specs: Vec<(String, Option<(usize, usize)>)> = Vec::new();
    for first in 0..8 {
        let to_end = (first < len).then_some((first, len));
        specs.push((format!("{first}-"), to_end));
        let last = len.saturating_sub(first);
        specs.push((format!("-{first}"), (first > 0).then_some((last, len))));
        for last in first..8 {
            let part = (first < len).then_some((first, (last + 1).min(len)));
            specs.push((format!("{first}-{last}"), part));
        }
    }
    for (spec, expected) in specs {
        let answer = app.get("/", &[("range", &format!("bytes={spec}"))]).await;
        let range = answer.field("content-range");
        match expected {
            Some((start, end)) => {
                assert_eq!(
                    (answer.status.as_u16(), answer.text()),
                    (206, &BODY[start..end]),
                    "{spec}"
                );
                assert_eq!(range, format!("bytes {start}-{}/{len}", end - 1));
                assert_eq!(answer.field("content-length"), (end - start).to_string());
            }
            None => {
                assert_eq!(
                    (answer.status.as_u16(), range),
                    (416, "bytes */5"),
                    "{spec}"
                );
                assert!(answer.body.is_empty());
            }
        }
    }
    for ignored in [
        "bytes=0-1,3-4",
        "bytes=3-1",
        "bytes=a-b",
        "lines=0-1",
        "bytes=",
        "bytes 0-1",
    ] {
        let answer = app.get("/", &[("range", ignored)]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (200, BODY),
            "{ignored}"
        );
    }
    // RFC 9110 14.2: "A server MUST ignore a Range header field received with a request method
    // that is unrecognized or for which range handling is not defined", and HEAD has none.
    let head = app.send(Method::HEAD, "/", &[("range", "bytes=0-1")]).await;
    assert_eq!(
        (head.status.as_u16(), head.field("content-length")),
        (200, "5")
    );
    assert_eq!(app.calls(), 1);
}

#[tokio::test]
async fn if_range_wants_the_very_representation() {
    let app = App::new(|_, _| {
        let lines = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        response(200, &lines, "0123456789")
    });
    app.get("/", &[]).await;
    for (tag, status) in [
        ("\"a\"", 206),
        ("W/\"a\"", 200),
        ("\"b\"", 200),
        ("nonsense", 200),
    ] {
        let lines = [("range", "bytes=0-0"), ("if-range", tag)];
        assert_eq!(app.get("/", &lines).await.status.as_u16(), status, "{tag}");
    }
}

#[tokio::test]
async fn head_and_get_mix() {
    let app = App::new(|request, number| {
        let body = if request.method == Method::HEAD {
            String::new()
        } else {
            format!("get {number}")
        };
        let lines = [
            ("cache-control", "max-age=60"),
            ("etag", "\"a\""),
            ("x-n", "1"),
        ];
        response(200, &lines, body)
    });
    // A HEAD response is never stored as GET's.
    let head = app.send(Method::HEAD, "/", &[]).await;
    assert!(!head.is_stored() && head.body.is_empty());
    let get = app.get("/", &[]).await;
    assert_eq!((get.text(), get.is_hit()), ("get 1", false));
    let head = app.send(Method::HEAD, "/", &[]).await;
    assert!(head.is_hit() && head.body.is_empty());
    assert_eq!(head.field("content-length"), "5");
    assert_eq!(app.get("/", &[]).await.text(), "get 1");
}

/// RFC 9111 4.3.5.
#[tokio::test]
async fn a_head_response_renews_or_outdates_what_is_stored() {
    let tables: [(Lines<'_>, bool); 4] = [
        (&[("etag", "\"a\""), ("cache-control", "max-age=60")], true),
        (&[("etag", "\"b\""), ("cache-control", "max-age=60")], false),
        (
            &[
                ("etag", "\"a\""),
                ("cache-control", "max-age=60"),
                ("content-length", "9"),
            ],
            false,
        ),
        (&[("etag", "\"a\""), ("cache-control", "no-store")], false),
    ];
    for (lines, kept) in tables {
        let second = headers(lines);
        let app = App::new(move |request, number| match number {
            0 => response(
                200,
                &[("etag", "\"a\""), ("cache-control", "max-age=10")],
                "0",
            ),
            1 => {
                assert_eq!(request.method, Method::HEAD);
                let mut head = Response::new(Body::empty());
                *head.headers_mut() = second.clone();
                head
            }
            _ => response(200, &[("etag", "\"c\"")], "later"),
        });
        app.get("/", &[]).await;
        app.wait(11);
        app.send(Method::HEAD, "/", &[]).await;
        let get = app.get("/", &[]).await;
        assert_eq!(get.is_hit(), kept, "{lines:?}: {}", get.cache());
    }
}

/// RFC 9111 4.1.
#[tokio::test]
async fn vary_selects_among_variants() {
    let app = App::new(|request, _| {
        let value = request.headers.get("accept-language");
        let body = value
            .map_or("none", |value| value.to_str().unwrap())
            .to_owned();
        let lines = [("cache-control", "max-age=60"), ("vary", "Accept-Language")];
        response(200, &lines, body)
    });
    let variants: [Lines<'_>; 3] = [
        &[],
        &[("accept-language", "de")],
        &[("accept-language", "en")],
    ];
    for expected in [false, true] {
        for lines in variants {
            assert_eq!(app.get("/", lines).await.is_hit(), expected, "{lines:?}");
        }
    }
    assert!(app.get("/", &[("accept-language", " DE ")]).await.is_hit());
    let other = app.get("/", &[("accept-language", "fr")]).await;
    assert!(other.cache().contains("fwd=vary-miss"));
    assert_eq!(
        app.get("/", &[("accept-language", "en")]).await.text(),
        "en"
    );
}

#[tokio::test]
async fn repeated_lines_of_vary_and_of_what_it_names_all_count() {
    let app = App::new(|_, number| {
        let lines = [
            ("cache-control", "max-age=60"),
            ("vary", "a"),
            ("vary", "b"),
        ];
        response(200, &lines, number.to_string())
    });
    app.get("/", &[("a", "1"), ("b", "1")]).await;
    for lines in [
        &[("a", "1"), ("b", "2")][..],
        &[("a", "2"), ("b", "1")],
        &[("a", "1")],
        &[("a", "1"), ("b", "1"), ("b", "2")],
        &[("a", "1"), ("b", "")],
    ] {
        assert!(!app.get("/", lines).await.is_hit(), "{lines:?}");
    }
    let combined = [("b", "1"), ("b", "2"), ("a", "1")];
    assert!(app.get("/", &combined).await.is_hit());
    assert!(app.get("/", &[("a", "1"), ("b", "1, 2")]).await.is_hit());
}

/// RFC 9111 4.4, by method, status and what the response names.
#[tokio::test]
async fn unsafe_methods_outdate_their_target_and_what_they_name_of_the_same_origin() {
    let outdating = [
        "POST", "PUT", "DELETE", "PATCH", "MKCOL", "M-SEARCH", "post",
    ];
    let harmless = ["OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH"];
    let mut cases = 0;
    for (methods, success) in [(&outdating[..], true), (&harmless[..], false)] {
        for method in methods {
            for status in [200, 201, 204, 303, 307, 400, 404, 412, 500] {
                let app = App::new(move |request, number| {
                    if request.method == Method::GET {
                        let lines = [("cache-control", "max-age=60")];
                        return response(200, &lines, number.to_string());
                    }
                    let lines = [
                        ("location", "/named?by=location"),
                        ("content-location", "http://example.org/named"),
                    ];
                    response(status, &lines, "")
                });
                let paths = ["/target", "/named", "/named?by=location", "/other"];
                for path in paths {
                    app.get(path, &[]).await;
                }
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                app.send(method.clone(), "/target", &[]).await;
                let outdated = success && (200..400).contains(&status);
                // A redirection only says where to look next.
                let names = status < 300;
                for (path, concerned) in paths.into_iter().zip([true, names, names, false]) {
                    let hit = app.get(path, &[]).await.is_hit();
                    assert_eq!(hit, !(outdated && concerned), "{method} {status} {path}");
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 468, "{cases}");
}

#[tokio::test]
async fn no_origin_outdates_what_is_stored_of_another() {
    let app = App::new(|request, number| {
        if request.method == Method::GET {
            return response(200, &[("cache-control", "max-age=60")], number.to_string());
        }
        let named = [
            ("location", "http://victim.example/"),
            ("content-location", "//victim.example/"),
        ];
        response(201, &named, "")
    });
    let victim = [("host", "victim.example")];
    app.get("/", &victim).await;
    app.get("/", &[]).await;
    for attacker in ["attacker.example", "victim.example:81", "xvictim.example"] {
        app.send(Method::POST, "/x", &[("host", attacker)]).await;
        assert!(app.get("/", &victim).await.is_hit(), "{attacker}");
    }
}

#[tokio::test]
async fn an_unsafe_request_outdates_what_is_stored_under_the_key_of_get() {
    let policy = || Policy::builder();
    let cookies = policy()
        .key_cookies(["currency"])
        .cookies(CookieRule::Ignore);
    let query = policy().query(QueryRule::Except(vec!["utm_*".into()]));
    let header = policy().key_headers([http::HeaderName::from_static("x-tenant")]);
    let table: [(_, &str, Lines<'_>, &str, Lines<'_>); 4] = [
        (
            policy(),
            "/",
            &[],
            "/",
            &[("x-http-method-override", "DELETE")],
        ),
        (cookies, "/", &[("cookie", "currency=EUR")], "/", &[]),
        (query, "/?a&utm_x=1", &[], "/?a&utm_y=2", &[]),
        (header, "/", &[("x-tenant", "a")], "/", &[]),
    ];
    for (policy, path, lines, changed, by) in table {
        let app = App::sending_with(policy.build().unwrap(), &[("cache-control", "max-age=60")]);
        app.get(path, lines).await;
        assert!(app.get(path, lines).await.is_hit());
        app.send(Method::POST, changed, by).await;
        assert!(!app.get(path, lines).await.is_hit(), "{by:?}");
    }
}

/// RFC 9110 9.3.3 lets the response to a POST be stored for GET; it never is.
#[tokio::test]
async fn no_post_is_stored_whatever_it_says() {
    let app = App::new(|request, _| {
        let lines = [
            ("cache-control", "public, max-age=60"),
            ("content-location", "http://example.org/a"),
        ];
        response(200, &lines, request.method.to_string())
    });
    let posted = app.send(Method::POST, "/a", &[]).await;
    assert_eq!((posted.text(), posted.is_stored()), ("POST", false));
    assert_eq!(app.get("/a", &[]).await.text(), "GET");
    assert!(app.get("/a", &[]).await.is_hit());
}

/// RFC 9111 3.3: parts are cut from what is stored whole, and are not stored themselves.
#[tokio::test]
async fn a_206_is_passed_on_and_never_stored() {
    let app = App::new(|request, number| {
        let fresh = ("cache-control", "max-age=60");
        if request.headers.get("range").is_none() {
            return response(200, &[fresh], "0123456789");
        }
        let lines = [fresh, ("content-range", "bytes 2-4/10"), ("etag", "\"a\"")];
        response(206, &lines, format!("part {number}"))
    });
    let range = [("range", "bytes=2-4")];
    for expected in ["part 0", "part 1"] {
        let part = app.get("/", &range).await;
        assert_eq!((part.status.as_u16(), part.text()), (206, expected));
        assert!(part.cache().ends_with("detail=partial"), "{}", part.cache());
    }
    assert_eq!(app.get("/", &[]).await.text(), "0123456789");
    let part = app.get("/", &range).await;
    assert_eq!((part.text(), part.is_hit()), ("234", true));
}

#[tokio::test]
async fn set_cookie_by_rule_and_directive_on_200_and_304() {
    let rules = [
        SetCookieRule::Refuse,
        SetCookieRule::StoreAndStrip,
        SetCookieRule::StoreForEveryone,
    ];
    let directives = [
        "",
        "public, ",
        "s-maxage=10, ",
        "must-revalidate, ",
        "immutable, ",
    ];
    let names = ["set-cookie", "set-cookie2"];
    for rule in rules {
        for directive in directives {
            for name in names {
                let policy = Policy::builder().set_cookie(rule).build().unwrap();
                let control = format!("{directive}max-age=10");
                let app = App::with(policy, move |request, _| {
                    let revalidated = request.headers.contains_key("if-none-match");
                    let mine = request.headers["x-user"].to_str().unwrap();
                    let lines = [
                        ("cache-control", &*control),
                        ("etag", "\"a\""),
                        (name, mine),
                    ];
                    response(if revalidated { 304 } else { 200 }, &lines, "")
                });
                let miss = app.get("/", &[("x-user", "a")]).await;
                assert_eq!(miss.field(name), "a");
                let second = app.get("/", &[("x-user", "b")]).await;
                let (hit, cookie) = match rule {
                    SetCookieRule::Refuse => (false, "b"),
                    SetCookieRule::StoreAndStrip => (true, ""),
                    _ => (true, "a"),
                };
                assert_eq!((second.is_hit(), second.field(name)), (hit, cookie));
                if rule == SetCookieRule::StoreAndStrip && name == "set-cookie" {
                    app.wait(11);
                    // A 304 may set the cookie of the client it answers, and of nobody else.
                    assert_eq!(app.get("/", &[("x-user", "c")]).await.field(name), "c");
                    assert_eq!(app.get("/", &[("x-user", "d")]).await.field(name), "");
                }
            }
        }
    }
}

/// RFC 5861 3.
#[tokio::test]
async fn stale_while_revalidate_serves_at_once_and_refreshes_behind() {
    let app = App::sending(&[("cache-control", "max-age=10, stale-while-revalidate=10")]);
    app.get("/", &[]).await;
    app.wait(15);
    let stale = app.get("/", &[]).await;
    assert_eq!((stale.text(), stale.field("age")), ("0", "15"));
    assert!(
        stale
            .cache()
            .contains("hit; ttl=-5; detail=stale-while-revalidate")
    );
    let patience = Duration::from_secs(5);
    eventually("the refresh is stored", patience, || async {
        app.get("/", &[]).await.text() == "1"
    })
    .await;
    app.wait(20);
    assert_eq!(app.get("/", &[]).await.text(), "2");
}

/// RFC 5861 4, and what forbids it (RFC 9111 4.2.4).
#[tokio::test]
async fn stale_if_error_stands_in_for_a_failure_within_its_window() {
    for (more, wait, stands_in) in [
        ("", 15, true),
        ("", 25, false),
        (", must-revalidate", 15, false),
        (", proxy-revalidate", 15, false),
        (", no-cache", 0, false),
        (", s-maxage=10", 15, false),
    ] {
        for status in [500, 502, 503, 504, 404, 501, 505, 507] {
            let control = format!("max-age=10, stale-if-error=10{more}");
            let app = App::new(move |_, number| match number {
                0 => response(
                    200,
                    &[("cache-control", &control), ("etag", "\"a\"")],
                    "good",
                ),
                _ => response(status, &[], "bad"),
            });
            app.get("/", &[]).await;
            app.wait(wait);
            let answer = app.get("/", &[]).await;
            let good = stands_in && [500, 502, 503, 504].contains(&status);
            let expected = if good { "good" } else { "bad" };
            assert_eq!(answer.text(), expected, "{more} {wait} {status}");
        }
    }
}

#[tokio::test]
async fn only_if_cached_never_asks_the_handler() {
    let app = App::sending(&[("cache-control", "max-age=60")]);
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(app.get("/", &only).await.status.as_u16(), 504);
    assert_eq!(app.calls(), 0);
    app.get("/", &[]).await;
    assert!(app.get("/", &only).await.is_hit());
}

/// RFC 8246 2, where clients have a say at all.
#[tokio::test]
async fn immutable_outlives_a_reload_but_not_no_cache() {
    let policy = Policy::builder().client_directives(true).build().unwrap();
    let app = App::sending_with(policy, &[("cache-control", "max-age=60, immutable")]);
    app.get("/", &[]).await;
    assert!(
        app.get("/", &[("cache-control", "max-age=0")])
            .await
            .is_hit()
    );
    assert!(
        !app.get("/", &[("cache-control", "no-cache")])
            .await
            .is_hit()
    );
}

#[tokio::test]
async fn clients_have_no_say_by_default() {
    let app = App::sending(&[("cache-control", "max-age=60")]);
    app.get("/", &[]).await;
    for control in ["no-cache", "max-age=0", "min-fresh=600"] {
        assert!(app.get("/", &[("cache-control", control)]).await.is_hit());
    }
    assert!(app.get("/", &[("pragma", "no-cache")]).await.is_hit());
    app.wait(61);
    assert!(
        !app.get("/", &[("cache-control", "max-stale")])
            .await
            .is_hit()
    );
}

/// RFC 9213.
#[tokio::test]
async fn a_targeted_field_is_obeyed_and_passed_on() {
    let lines = [
        ("cache-control", "no-cache"),
        ("cdn-cache-control", "max-age=60"),
    ];
    let app = App::sending(&lines);
    app.get("/", &[]).await;
    let hit = app.get("/", &[]).await;
    assert!(hit.is_hit());
    assert_eq!(
        [hit.field("cache-control"), hit.field("cdn-cache-control")],
        ["no-cache", "max-age=60"]
    );
}

/// RFC 9211 2: the member of this cache comes after those of caches nearer the origin.
#[tokio::test]
async fn cache_status_is_appended() {
    let lines = [
        ("cache-control", "max-age=60"),
        ("cache-status", "inner; hit"),
    ];
    let app = App::sending(&lines);
    for _ in 0..2 {
        let answer = app.get("/", &[]).await;
        let members: Vec<_> = answer.headers.get_all("cache-status").iter().collect();
        assert_eq!(members.len(), 2);
        assert_eq!(members[0], "inner; hit");
    }
}

#[tokio::test]
async fn content_location_alone_stores_nothing_under_another_key() {
    let app = App::new(|_, number| {
        let lines = [
            ("cache-control", "max-age=60"),
            ("content-location", "/other"),
        ];
        response(200, &lines, number.to_string())
    });
    let first = app.get("/", &[]).await;
    assert_eq!(first.headers[CONTENT_LOCATION], "/other");
    assert!(!app.get("/other", &[]).await.is_hit());
}
