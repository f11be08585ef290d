//! Products of small tables, through the layer. Each test counts its cases, so that none can shrink
//! unnoticed. The expected values stand beside the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::any;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use http_body::Frame;
use tower_response_cache::{CacheConfig, CacheLayer};

use super::FRESH;
use crate::support::app::{App, Lines, frames, headers, response};
use crate::support::wire;

/// A field's lines as one; `none` where there is none, which is not the same as empty.
fn told(request: &Parts, name: &str) -> String {
    let lines = request.headers.get_all(name).iter();
    let lines: Vec<_> = lines.map(|line| line.to_str().unwrap()).collect();
    if lines.is_empty() {
        "none".into()
    } else {
        lines.join(", ")
    }
}

/// A handler that obeys the field answers to it; nobody else gets that answer.
#[tokio::test]
async fn what_a_method_override_brought_about_goes_to_the_same_override_only() {
    const NAMES: [&str; 3] = [
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
    ];
    let mut overrides: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    for name in NAMES {
        for method in ["DELETE", "PUT", "PATCH", "POST", "HEAD", "GET"] {
            overrides.push(vec![(name, method)]);
        }
    }
    let mut cases = 0;
    for first in &overrides {
        for second in &overrides {
            let app = App::new(|request, _| {
                let echo = NAMES.map(|name| told(request, name)).join("; ");
                response(200, &[FRESH], echo)
            });
            for lines in [first, second, first] {
                let answer = app.get("/", lines).await;
                let own = headers(lines);
                let own = NAMES.map(|name| own.get(name).map_or("none", |it| it.to_str().unwrap()));
                assert_eq!(answer.text(), own.join("; "), "{first:?} {second:?}");
            }
            let expected = if first == second { 1 } else { 2 };
            assert_eq!(app.calls(), expected, "{first:?} {second:?}");
            cases += 1;
        }
    }
    assert!(cases >= 361, "{cases}");
}

/// undici CVE-2026-85008: responses to unsafe methods were stored and replayed.
#[tokio::test]
async fn undici_cve_2026_85008_no_response_but_a_gets_is_replayed() {
    let permissions: [Lines<'_>; 4] = [
        &[FRESH],
        &[("cache-control", "public, s-maxage=60, immutable")],
        &[("cdn-cache-control", "max-age=60")],
        &[("expires", "Wed, 18 May 2050 03:33:20 GMT")],
    ];
    let methods = [
        "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND", "M-SEARCH", "get",
    ];
    let mut cases = 0;
    for method in methods.map(|method| Method::from_bytes(method.as_bytes()).unwrap()) {
        for status in [200, 201, 203, 204, 301, 404, 410] {
            for permission in permissions {
                let fields = headers(permission);
                let app = App::new(move |_, number| {
                    let mut made = response(status, &[], number.to_string());
                    *made.headers_mut() = fields.clone();
                    made
                });
                for (expected, method) in [&method, &method, &Method::GET].into_iter().enumerate() {
                    let answer = app.send(method.clone(), "/", &[]).await;
                    assert_eq!(answer.text(), expected.to_string(), "{method} {status}");
                    assert!(!answer.is_hit(), "{method} {status}");
                }
                cases += 1;
            }
        }
    }
    assert!(cases >= 252, "{cases}");
}

/// What a client can put in a request that makes many handlers refuse it.
const PROVOCATIONS: [(&str, &str); 14] = [
    ("x-bad", "1"),
    ("accept", "x/y"),
    ("accept-encoding", "x"),
    ("range", "bytes=z"),
    ("content-type", "x"),
    ("content-length", "5"),
    ("expect", "x"),
    ("if-match", "\"x\""),
    ("origin", "null"),
    ("authorization", "wrong"),
    ("cookie", "oversized"),
    ("x-http-method-override", "DELETE"),
    ("x-forwarded-host", "evil.example"),
    ("x-original-url", "/admin"),
];

/// A handler that answers to the field with this status and these fields, to others well.
fn provoked(name: &'static str, status: u16, lines: Lines<'static>) -> App {
    App::new(move |request, _| {
        if request.headers.contains_key(name) {
            response(status, lines, "refused")
        } else {
            response(200, &[FRESH], "fine")
        }
    })
}

#[tokio::test]
async fn an_error_that_one_client_provokes_is_never_anothers() {
    let mut cases = 0;
    for status in (400..=431).chain([451]).chain(500..=511) {
        for (name, value) in PROVOCATIONS {
            let app = provoked(name, status, &[]);
            let bad = app.get("/", &[(name, value)]).await;
            assert_eq!(bad.text(), "refused", "{status} {name}");
            for _ in 0..2 {
                let good = app.get("/", &[]).await;
                assert_eq!(
                    (good.status.as_u16(), good.text()),
                    (200, "fine"),
                    "{status} {name}"
                );
            }
            assert!(app.get("/", &[]).await.is_hit(), "{status} {name}");
            cases += 1;
        }
    }
    assert!(cases >= 630, "{cases}");
}

/// RFC 6585, and what answers something in the request that no key covers: not even with a
/// lifetime.
#[tokio::test]
async fn an_error_about_the_request_is_not_stored_whatever_it_says() {
    let mut cases = 0;
    for status in [407, 412, 416, 417, 421, 426, 428, 429, 431, 511] {
        for (name, value) in PROVOCATIONS {
            let app = provoked(name, status, &[("cache-control", "public, max-age=60")]);
            assert_eq!(app.get("/", &[(name, value)]).await.text(), "refused");
            for line in [&[(name, value)][..], &[]] {
                assert!(!app.get("/", line).await.is_hit(), "{status} {name}");
            }
            let good = app.get("/", &[]).await;
            assert_eq!(
                (good.text(), good.is_hit()),
                ("fine", true),
                "{status} {name}"
            );
            cases += 1;
        }
    }
    assert!(cases >= 140, "{cases}");
}

#[tokio::test]
async fn an_origin_gets_another_ones_permission_only_if_the_response_does_not_vary() {
    let origins: [Lines<'_>; 11] = [
        &[],
        &[("origin", "")],
        &[("origin", "null")],
        &[("origin", "https://a.example")],
        &[("origin", "https://A.example")],
        &[("origin", "https://a.example:443")],
        &[("origin", "https://a.example:8443")],
        &[("origin", "http://a.example")],
        &[("origin", "https://b.example")],
        &[("origin", "https://a.example.b.example")],
        &[
            ("origin", "https://a.example"),
            ("origin", "https://b.example"),
        ],
    ];
    let varies: [(Lines<'_>, bool); 4] = [
        (&[("vary", "Origin")], true),
        (&[("vary", "accept"), ("vary", "x, ORIGIN")], true),
        (&[("vary", "accept")], false),
        (&[], false),
    ];
    let mut cases = 0;
    for (vary, varies) in varies {
        for first in origins {
            for second in origins {
                let fields = headers(vary);
                let app = App::new(move |request, _| {
                    let own = told(request, "origin");
                    let mut made =
                        response(200, &[FRESH, ("access-control-allow-origin", &own)], "");
                    made.headers_mut().extend(fields.clone());
                    made
                });
                let allowed = [first, second, first].map(|lines| {
                    let lines: Vec<_> = lines.iter().map(|(_, value)| *value).collect();
                    if lines.is_empty() {
                        "none".into()
                    } else {
                        lines.join(", ")
                    }
                });
                for (lines, own) in [first, second, first].into_iter().zip(&allowed) {
                    let answer = app.get("/", lines).await;
                    // Without `Vary`, the handler says that its answer is everybody's.
                    let expected = if varies { own } else { &allowed[0] };
                    let told = answer.field("access-control-allow-origin");
                    assert_eq!(told, expected, "{vary:?} {first:?} {second:?}");
                }
                let fetched = if varies && first != second { 2 } else { 1 };
                assert_eq!(app.calls(), fetched, "{vary:?} {first:?} {second:?}");
                cases += 1;
            }
        }
    }
    assert!(cases >= 484, "{cases}");
}

/// Every order of seven GETs and HEADs: the first GET is stored, and answers all that follow.
#[tokio::test]
async fn get_and_head_in_every_order() {
    let mut cases = 0;
    for order in 0..1_u32 << 7 {
        let app = App::new(|request, number| {
            let body = match request.method {
                Method::HEAD => String::new(),
                _ => format!("get {number}"),
            };
            response(200, &[FRESH, ("x-of", request.method.as_str())], body)
        });
        let mut stored = None::<String>;
        for (place, bit) in (0..7).map(|bit| (bit, order & (1 << bit) != 0)) {
            let method = if bit { Method::HEAD } else { Method::GET };
            let calls = app.calls();
            let answer = app.send(method.clone(), "/", &[]).await;
            let expected = match (&stored, bit) {
                (Some(body), _) => body.clone(),
                (None, true) => String::new(),
                (None, false) => format!("get {calls}"),
            };
            assert_eq!(answer.is_hit(), stored.is_some(), "{order:b} {place}");
            assert_eq!(app.calls() - calls, usize::from(stored.is_none()));
            if bit {
                assert!(answer.body.is_empty(), "{order:b} {place}");
                let length = answer.field("content-length");
                let known = stored.is_some();
                assert!(!known || length == expected.len().to_string());
                let of = if known { "GET" } else { "HEAD" };
                assert_eq!(answer.field("x-of"), of, "{order:b} {place}");
            } else {
                assert_eq!(answer.text(), expected, "{order:b} {place}");
                stored = Some(expected);
            }
            cases += 1;
        }
    }
    assert!(cases >= 896, "{cases}");
}

/// RFC 9110, section 14, of bodies of several lengths, against a model that slices text.
#[tokio::test]
async fn ranges_of_several_lengths_and_overlapping_ones() {
    const TEXT: &str = "abcdefghij";
    let mut cases = 0;
    for len in [1, 2, 5, 10] {
        let whole = &TEXT[..len];
        let app = App::new(move |_, _| response(200, &[FRESH], &TEXT[..len]));
        app.get("/", &[]).await;
        let mut check = async |spec: String, expected: Result<&str, u16>| {
            let answer = app.get("/", &[("range", &spec)]).await;
            assert!(answer.is_hit(), "{spec} of {len}");
            let found = match answer.status {
                StatusCode::PARTIAL_CONTENT => Ok(answer.text()),
                other => Err(other.as_u16()),
            };
            assert_eq!(found, expected, "{spec} of {len}");
            match expected {
                Ok(part) => {
                    let length = answer.field("content-length");
                    assert_eq!(length, part.len().to_string(), "{spec} of {len}");
                    let total = answer.field("content-range").rsplit('/').next().unwrap();
                    assert_eq!(total, len.to_string());
                }
                Err(416) => assert_eq!(answer.field("content-range"), format!("bytes */{len}")),
                Err(_) => assert_eq!(answer.text(), whole, "{spec} of {len}"),
            }
            cases += 1;
        };
        for first in 0..12_usize {
            let within = |last: usize| match whole.get(first..(last + 1).min(len)) {
                Some(part) if first < len => Ok(part),
                _ => Err(416),
            };
            check(format!("bytes={first}-"), within(len)).await;
            check(format!("BYTES= {first}- "), within(len)).await;
            let suffix = if first == 0 {
                Err(416)
            } else {
                Ok(&whole[len.saturating_sub(first)..])
            };
            check(format!("bytes=-{first}"), suffix).await;
            for last in 0..12 {
                let expected = if last < first { Err(200) } else { within(last) };
                check(format!("bytes={first}-{last}"), expected).await;
            }
            // Several ranges, overlapping or not, are served as the whole.
            for second in [0, first, first + 1, 11] {
                let spec = format!("bytes={first}-{},{second}-11", first + 2);
                check(spec, Err(200)).await;
            }
        }
        assert_eq!(app.calls(), 1);
    }
    assert!(cases >= 912, "{cases}");
}

/// Each client's own trailers reach it, and nobody else.
#[tokio::test]
async fn a_cookie_in_trailers_is_nobody_elses() {
    let directives = [
        "max-age=60",
        "public, max-age=60",
        "s-maxage=60",
        "public, s-maxage=60, immutable",
        "max-age=60, must-revalidate",
        "max-age=60, no-cache=\"set-cookie\"",
        "max-age=60, private=\"set-cookie\"",
        "max-age=60, stale-while-revalidate=60, stale-if-error=60",
    ];
    let names = ["set-cookie", "set-cookie2", "x-user", "authentication-info"];
    let mut cases = 0;
    for directive in directives {
        for name in names {
            for announced in [false, true] {
                let app = App::new(move |request, _| {
                    let mine = told(request, "x-user");
                    let mut lines = vec![("cache-control", directive)];
                    lines.extend(announced.then_some(("trailer", name)));
                    let body = [
                        Frame::data(Bytes::from_static(b"x")),
                        Frame::trailers(headers(&[(name, &mine)])),
                    ];
                    response(200, &lines, frames(body))
                });
                for user in ["1", "2", "3"] {
                    let answer = app.get("/", &[("x-user", user)]).await;
                    assert!(!answer.is_hit(), "{directive} {name}");
                    let trailers = answer.trailers.expect("they arrive");
                    assert_eq!(trailers, headers(&[(name, user)]), "{directive}");
                    assert!(!answer.headers.contains_key(name), "{directive} {name}");
                }
                cases += 3;
            }
        }
    }
    assert!(cases >= 192, "{cases}");
}

/// pingora CVE-2025-4366, in every framing: content that looks like a request stays content.
#[tokio::test]
async fn no_content_of_a_get_or_head_is_taken_for_a_request() {
    let evil = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&evil);
    let count = move || async move {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    let app = Router::new()
        .route("/evil", any(count))
        .fallback(any(|| async { ([FRESH], "good") }))
        .layer(CacheLayer::new(CacheConfig::default()));
    let server = wire::serve(app).await;
    let plain = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    wire::exchange(server, last).await;
    let contents = [
        "x",
        "GET /evil HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /evil HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        "\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n",
        "0\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    let framed = |content: &str| {
        let length = content.len();
        let (head, tail) = content.split_at(1);
        let rest = tail.len();
        let mut framings = vec![
            (format!("content-length: {length}"), content.to_owned()),
            (
                "transfer-encoding: chunked".into(),
                format!("{length:x}\r\n{content}\r\n0\r\n\r\n"),
            ),
            (
                "transfer-encoding: chunked\r\ntrailer: x".into(),
                format!("{length:x};x=\"y\"\r\n{content}\r\n0\r\nx: y\r\n\r\n"),
            ),
        ];
        if rest > 0 {
            framings.push((
                "transfer-encoding: chunked".into(),
                format!("1\r\n{head}\r\n{rest:x}\r\n{tail}\r\n0\r\n\r\n"),
            ));
        }
        framings
    };
    let mut cases = 0;
    for content in contents {
        for (framing, sent) in framed(content) {
            for expect in ["", "expect: 100-continue\r\n"] {
                for method in ["GET", "HEAD"] {
                    for path in ["/", "/cold"] {
                        for before in ["", plain] {
                            let bytes = format!(
                                "{before}{method} {path} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\
                                 {expect}\r\n{sent}{last}"
                            );
                            let answers = wire::exchange(server, &bytes).await;
                            assert!(answers.contains("detail=request-body"), "{bytes}{answers}");
                            assert_eq!(evil.load(Ordering::SeqCst), 0, "{bytes}{answers}");
                            let hits = answers.matches("; hit").count();
                            let most = 1 + usize::from(!before.is_empty());
                            assert!(hits <= most, "{bytes}{answers}");
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(cases >= 304, "{cases}");
}
