//! Known bugs of other caches, and things that no cache may ever do.

mod matrices;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt};
use tower_response_cache::{CacheConfig, CacheLayer, CacheOptions, Policy, Purge};

use crate::support::app::{App, Lines, feed, frames, request, response};
use crate::support::proxy::{Mode, Proxy, Tamper};
use crate::support::valkey::Valkey;
use crate::support::{eventually, wire};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// Asserts that a second request with these fields does not get what the first one got.
async fn assert_never_shared(sent: Lines<'_>, asked: Lines<'_>) {
    let app = App::sending(sent);
    app.get("/", asked).await;
    for other in [asked, &[]] {
        let second = app.get("/", other).await;
        assert_ne!(second.text(), "0", "{sent:?} {asked:?}");
    }
}

#[tokio::test]
async fn django_cve_2026_6907_vary_star_in_any_place_is_never_reused() {
    for vary in ["*", "accept, *", "*, accept", "accept,*,cookie"] {
        assert_never_shared(&[FRESH, ("vary", vary)], &[]).await;
        assert_never_shared(&[FRESH, ("vary", "accept"), ("vary", vary)], &[]).await;
    }
}

/// No field has a star in its name, so more than one field is meant.
#[tokio::test]
async fn a_star_in_a_name_of_vary_makes_a_response_unusable() {
    for vary in ["*x", "x-*", "accept, *x", "*;q=1", "**"] {
        assert_never_shared(&[FRESH, ("vary", vary)], &[]).await;
    }
}

#[tokio::test]
async fn django_cve_2026_48587_white_space_around_vary_star_does_not_hide_it() {
    for vary in [" *", "* ", "\t*\t", "accept ,\t* ", ",*,", " , *"] {
        assert_never_shared(&[FRESH, ("vary", vary)], &[]).await;
    }
}

#[tokio::test]
async fn django_cve_2026_8404_directives_count_in_any_spelling() {
    for control in [
        "Private",
        "PRIVATE",
        "pRiVaTe",
        "No-Store",
        "NO-STORE",
        "max-age=60,PRIVATE",
    ] {
        assert_never_shared(&[FRESH, ("cache-control", control)], &[]).await;
    }
}

#[tokio::test]
async fn django_cve_2026_35193_authorization_is_not_overlooked() {
    for scheme in ["Basic YTpi", "Bearer x", ""] {
        assert_never_shared(&[FRESH], &[("authorization", scheme)]).await;
    }
}

#[tokio::test]
async fn spring_cve_2026_59426_routes_of_the_same_inner_path_do_not_meet() {
    let named = |name: &'static str| {
        Router::new().route("/item", get(move || async move { ([FRESH], name) }))
    };
    let cache = CacheLayer::new(CacheConfig::default());
    let apps = [
        // Outside the nesting and inside it.
        Router::new()
            .nest("/a", named("a"))
            .nest("/b", named("b"))
            .layer(cache.clone()),
        Router::new()
            .nest("/a", named("a").layer(cache.clone()))
            .nest("/b", named("b").layer(cache)),
    ];
    for app in apps {
        for _ in 0..2 {
            for (path, expected) in [("/a/item", "a"), ("/b/item", "b")] {
                let request = Request::get(path).body(Body::empty()).unwrap();
                let answer = app.clone().oneshot(request).await.unwrap();
                assert_eq!(
                    answer.into_body().collect().await.unwrap().to_bytes(),
                    expected
                );
            }
        }
    }
}

#[tokio::test]
async fn pingora_cve_2026_2836_host_scheme_and_query_belong_to_the_key() {
    let app = App::sending(&[FRESH]);
    let targets = [
        ("/a", "one.example"),
        ("/a", "two.example"),
        ("/a", "one.example:81"),
        ("/a?b", "one.example"),
        ("https://one.example/a", "one.example"),
    ];
    for (path, host) in targets {
        assert!(
            !app.get(path, &[("host", host)]).await.is_hit(),
            "{host}{path}"
        );
    }
    // Handlers see how it is spelt, and put it into links.
    for spelling in ["ONE.example", "one.example:80", "one.example:"] {
        for is_hit in [false, true] {
            let answer = app.get("/a", &[("host", spelling)]).await;
            assert_eq!(answer.is_hit(), is_hit, "{spelling}");
        }
    }
}

#[tokio::test]
async fn pingora_cve_2025_4366_the_content_of_a_get_is_never_taken_for_a_request() {
    let evil = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&evil);
    let app = Router::new()
        .route("/", get(|| async { ([FRESH], "good") }))
        .route(
            "/evil",
            get(move || async move {
                counter.fetch_add(1, Ordering::SeqCst);
            }),
        )
        .layer(CacheLayer::new(CacheConfig::default()));
    let server = wire::serve(app).await;
    let plain = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    wire::exchange(server, plain).await;
    assert!(wire::exchange(server, plain).await.contains("; hit"));
    let smuggled = "GET /evil HTTP/1.1\r\nhost: a\r\n\r\n";
    let length = smuggled.len();
    let heads = [
        format!("content-length: {length}\r\n"),
        format!("content-length: {length}\r\nexpect: 100-continue\r\n"),
        "transfer-encoding: chunked\r\n".to_owned(),
    ];
    for head in heads {
        let content = if head.contains("chunked") {
            format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n")
        } else {
            smuggled.to_owned()
        };
        let bytes = format!("GET / HTTP/1.1\r\nhost: a\r\n{head}\r\n{content}{plain}");
        let answers = wire::exchange(server, &bytes).await;
        assert!(answers.contains("detail=request-body"), "{answers}");
        assert_eq!(evil.load(Ordering::SeqCst), 0, "{head}");
    }
}

#[tokio::test]
async fn hono_cve_2026_24472_private_is_obeyed() {
    for control in [
        "private",
        "max-age=60, private",
        "private, s-maxage=60",
        "public, private",
    ] {
        assert_never_shared(&[FRESH, ("cache-control", control)], &[]).await;
    }
}

#[tokio::test]
async fn hono_cve_2026_44457_vary_on_credentials_keeps_users_apart() {
    for name in ["authorization", "cookie"] {
        let app = App::sending(&[("cache-control", "public, max-age=60"), ("vary", name)]);
        for (user, body) in [("a=1", "0"), ("a=2", "1"), ("a=1", "0"), ("a=2", "1")] {
            assert_eq!(app.get("/", &[(name, user)]).await.text(), body);
        }
        assert_eq!(app.get("/", &[]).await.text(), "2");
    }
}

#[tokio::test]
async fn undici_cve_2026_13697_odd_qualified_directives_forbid_everything() {
    for control in [
        "private=\"\"",
        "private=",
        "private=\" \"",
        "private=\",\"",
        "private, private=\"x\"",
        "private=\"x\", private",
        "private=x y",
        "private=\"x",
        "no-cache=\"\"",
        "no-cache=",
    ] {
        assert_never_shared(&[FRESH, ("cache-control", control)], &[]).await;
    }
}

#[tokio::test]
async fn nextjs_cve_2025_49826_an_empty_response_does_not_take_a_pages_place() {
    let app = App::new(|_, number| match number {
        0 => response(204, &[], ""),
        _ => response(200, &[FRESH], "page"),
    });
    assert_eq!(app.get("/", &[]).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.get("/", &[]).await.text(), "page");
}

#[tokio::test]
async fn symfony_cve_2022_24894_and_rack_cache_cve_2012_2671_no_cookie_is_replayed() {
    let table: [Lines<'_>; 4] = [
        &[FRESH, ("set-cookie", "session=1")],
        &[
            ("cache-control", "public, s-maxage=60"),
            ("set-cookie", "session=1"),
        ],
        &[FRESH, ("set-cookie2", "session=1")],
        &[
            FRESH,
            ("connection", "set-cookie"),
            ("set-cookie", "session=1"),
        ],
    ];
    for sent in table {
        assert_never_shared(sent, &[]).await;
    }
}

#[tokio::test]
async fn nginx_cve_2017_7529_and_squid_cve_2021_31806_ranges_stay_within_the_content() {
    let app = App::new(|_, _| response(200, &[FRESH], "0123456789"));
    app.get("/", &[]).await;
    for range in [
        "bytes=-9223372036854775808",
        "bytes=-18446744073709551616",
        "bytes=0-18446744073709551615",
        "bytes=9-99999999999999999999999999",
        "bytes=18446744073709551615-",
        "bytes=18446744073709551615-18446744073709551616",
        "bytes=--1",
        "bytes=-0",
        "bytes=0-0,-9223372036854775808",
        "bytes=5-4",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes=0x1-0x2",
    ] {
        let answer = app.get("/", &[("range", range)]).await;
        let expected: &[u16] = &[200, 206, 416];
        assert!(expected.contains(&answer.status.as_u16()), "{range}");
        assert!("0123456789".contains(answer.text()), "{range}");
        if answer.status == StatusCode::PARTIAL_CONTENT {
            assert_eq!(
                answer.field("content-length"),
                answer.body.len().to_string()
            );
        }
    }
    assert_eq!(app.calls(), 1);
}

#[tokio::test]
async fn aspnetcore_66877_an_aborted_request_stores_nothing_short() {
    let app = App::new(|_, number| {
        let (sender, body) = feed();
        sender
            .send(Ok(Frame::data(Bytes::from_static(b"half"))))
            .unwrap();
        if number == 0 {
            // The rest never comes: the sender lives on with nobody to use it.
            std::mem::forget(sender);
        } else {
            sender
                .send(Ok(Frame::data(Bytes::from_static(b"+half"))))
                .unwrap();
        }
        response(200, &[FRESH], body)
    });
    let mut aborted = app.open(request(Method::GET, "/", &[])).await.into_body();
    aborted.frame().await.unwrap().unwrap();
    drop(aborted);
    // The purge keeps this request from waiting for the fill that was left behind.
    app.cache.purge(Purge::everything()).await.unwrap();
    assert_eq!(app.get("/", &[]).await.text(), "half+half");
}

#[tokio::test]
async fn what_is_shorter_or_longer_than_declared_is_not_stored() {
    for (length, body) in [
        ("5", "0123"),
        ("3", "0123"),
        ("x", "0123"),
        ("4, 5", "0123"),
    ] {
        let app = App::new(move |_, _| {
            let parts = [Frame::data(Bytes::from_static(body.as_bytes()))];
            response(200, &[FRESH, ("content-length", length)], frames(parts))
        });
        let _short_or_long = app.get("/", &[]).await;
        assert!(!app.get("/", &[]).await.is_hit(), "{length}");
    }
}

#[tokio::test]
async fn aspnetcore_67763_delimiters_in_a_query_make_no_two_keys_one() {
    let app = App::sending(&[FRESH]);
    let paths = [
        "/",
        "/a",
        "/a/",
        "/A",
        "/%61",
        "//a",
        "/a//",
        "/./a",
        "/a/../a",
        "/a%2F",
        "/a%00",
        "/a;b",
        "/a;b=c",
        "/a?",
        "/a?b",
        "/a?b=",
        "/a?b&",
        "/a?&b",
        "/a?b;c",
        "/a?b&c",
        "/a?c&b",
        "/a?b=%1E",
        "/a?b=%1Ec",
        "/a?b=%1F",
        "/a?b+c",
        "/a?b%20c",
        "/a%3Fb",
        "/a?%62",
        "/a?b?c",
        "/a?b=/a",
        "/a?http://example.org/a",
        "/?a",
        "/?/a",
        "/a?B",
        "/a?b%3D",
        "/a,b",
        "/a|b",
    ];
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(
            app.get(path, &[]).await.text(),
            number.to_string(),
            "{path}"
        );
    }
    for (number, path) in paths.iter().enumerate() {
        let hit = app.get(path, &[]).await;
        assert!(hit.is_hit(), "{path}");
        assert_eq!(hit.text(), number.to_string(), "{path}");
    }
}

/// Bytes moved over the border of two components, and values that look like framing.
#[tokio::test]
async fn no_byte_moves_between_the_components_of_a_key() {
    let names = ["x-one", "x-two"].map(http::HeaderName::from_static);
    let policy = Policy::builder().key_headers(names).build().unwrap();
    let app = App::sending_with(policy, &[FRESH, ("vary", "x-a, x-b")]);
    let mut requests: Vec<(String, Vec<(&str, String)>)> = Vec::new();
    let texts = ["", "a", "b", "ab", "a,b", "a\tb", "x-two", "4", "\u{1}"];
    let texts = texts
        .iter()
        .filter(|text| text.bytes().all(|byte| byte >= b' ' || byte == b'\t'));
    let texts: Vec<_> = texts.collect();
    for first in &texts {
        for second in &texts {
            for (one, two) in [("x-one", "x-two"), ("x-a", "x-b"), ("x-one", "x-a")] {
                let lines = vec![(one, first.to_string()), (two, second.to_string())];
                requests.push(("/p".into(), lines));
            }
        }
        for name in [
            "x-one",
            "x-two",
            "x-a",
            "x-b",
            "x-forwarded-host",
            "x-original-url",
            "forwarded",
        ] {
            requests.push(("/p".into(), vec![(name, first.to_string())]));
        }
    }
    // A subject without those fields, and one whose path continues where a value would.
    requests.push(("/p".into(), Vec::new()));
    requests.push(("/pa".into(), Vec::new()));
    assert!(requests.len() > 200);
    for (number, (path, lines)) in requests.iter().enumerate() {
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let answer = app.get(path, &lines).await;
        assert_eq!(answer.text(), number.to_string(), "{path} {lines:?}");
    }
}

#[tokio::test]
async fn aspnetcore_45998_a_coding_goes_only_to_those_who_accept_it() {
    let app = App::new(|request, _| {
        let accepted = request.headers.get("accept-encoding");
        let coding = match accepted.map(|accepted| accepted.to_str().unwrap()) {
            Some(accepted) if accepted.contains("gzip") && !accepted.contains("q=0") => "gzip",
            _ => "identity",
        };
        let lines = [
            FRESH,
            ("vary", "accept-encoding"),
            ("content-encoding", coding),
        ];
        response(200, &lines, coding)
    });
    for (accepted, expected) in [
        ("gzip", "gzip"),
        ("", "identity"),
        ("identity", "identity"),
        ("gzip;q=0", "identity"),
        ("br, gzip", "gzip"),
        ("br", "identity"),
        ("gzip", "gzip"),
    ] {
        let answer = app.get("/", &[("accept-encoding", accepted)]).await;
        assert_eq!(
            (answer.text(), answer.field("content-encoding")),
            (expected, expected)
        );
    }
    assert_eq!(app.get("/", &[]).await.text(), "identity");
}

#[tokio::test]
async fn aspnetcore_54687_no_age_is_told_beyond_the_responses_own() {
    let app = App::sending(&[FRESH, ("etag", "\"a\"")]);
    assert_eq!(app.get("/", &[]).await.headers.get("age"), None);
    for secs in 1..60 {
        app.wait(1);
        assert_eq!(app.get("/", &[]).await.field("age"), secs.to_string());
    }
    app.wait(1);
    assert!(app.get("/", &[]).await.headers.get("age").is_none());
    assert_eq!(app.get("/", &[]).await.field("age"), "0");
}

#[tokio::test]
async fn fusioncache_625_a_purge_during_a_fill_wins() {
    let purges: [fn() -> Purge; 2] = [Purge::everything, || {
        Purge::uri(&"http://example.org/".parse().unwrap()).unwrap()
    }];
    for purge in purges {
        let (sender, body) = feed();
        let body = std::sync::Mutex::new(Some(body));
        let app = App::new(move |_, number| {
            let waiting = body.lock().unwrap().take();
            response(
                200,
                &[FRESH],
                waiting.unwrap_or_else(|| number.to_string().into()),
            )
        });
        let filling = app.open(request(Method::GET, "/", &[])).await;
        app.cache.purge(purge()).await.unwrap();
        sender
            .send(Ok(Frame::data(Bytes::from_static(b"old"))))
            .unwrap();
        drop(sender);
        assert_eq!(
            filling.into_body().collect().await.unwrap().to_bytes(),
            "old"
        );
        assert_eq!(app.get("/", &[]).await.text(), "1");
    }
}

/// Of what was purged while a background refresh was under way, nothing of that refresh stays.
#[tokio::test]
async fn fusioncache_628_a_purge_during_a_background_refresh_wins() {
    let purges: [fn() -> Purge; 2] = [|| Purge::tag("t"), Purge::everything];
    for purge in purges {
        let (sender, body) = feed();
        let body = std::sync::Mutex::new(Some(body));
        let app = App::new(move |_, number| {
            let lines = [("cache-control", "max-age=10, stale-while-revalidate=60")];
            let body = match number {
                1 => body.lock().unwrap().take().unwrap(),
                _ => number.to_string().into(),
            };
            let mut made = response(200, &lines, body);
            made.extensions_mut().insert(CacheOptions::new().tag("t"));
            made
        });
        app.get("/", &[]).await;
        app.wait(15);
        assert_eq!(app.get("/", &[]).await.text(), "0", "served stale");
        eventually("the refresh begins", Duration::from_secs(5), || async {
            app.calls() == 2
        })
        .await;
        app.cache.purge(purge()).await.unwrap();
        sender
            .send(Ok(Frame::data(Bytes::from_static(b"old"))))
            .unwrap();
        drop(sender);
        for _ in 0..3 {
            assert_eq!(app.get("/", &[]).await.text(), "2");
        }
    }
}

/// After a hard purge no failure brings the purged response back.
#[tokio::test]
async fn fusioncache_648_what_was_purged_does_not_stand_in_for_a_failure() {
    let purges: [fn() -> Purge; 3] = [
        Purge::everything,
        || Purge::uri(&"http://example.org/".parse().unwrap()).unwrap(),
        || Purge::tag("t"),
    ];
    for purge in purges {
        for wait in [0, 15] {
            let app = App::new(|_, number| {
                if number > 0 {
                    return response(503, &[], "down");
                }
                let lines = [
                    ("cache-control", "max-age=10, stale-if-error=600"),
                    ("etag", "\"a\""),
                    ("surrogate-key", "t"),
                ];
                response(200, &lines, "old")
            });
            app.get("/", &[]).await;
            app.wait(wait);
            app.cache.purge(purge()).await.unwrap();
            for _ in 0..3 {
                assert_eq!(app.get("/", &[]).await.text(), "down");
            }
        }
    }
}

/// A handler that fails costs nothing that is stored, for as long as it may be served.
#[tokio::test]
async fn fusioncache_553_a_failing_handler_does_not_cost_the_stored_response() {
    let app = App::new(|_, number| match number {
        0 => response(
            200,
            &[("cache-control", "max-age=10, stale-if-error=600")],
            "good",
        ),
        _ => response(503, &[], "down"),
    });
    app.get("/", &[]).await;
    for _ in 0..20 {
        app.wait(15);
        assert_eq!(app.get("/", &[]).await.text(), "good");
    }
    assert!(app.calls() > 10, "it was asked again: {}", app.calls());
}

#[tokio::test]
async fn ocache_61_who_waits_does_not_get_the_cookie_of_who_leads() {
    let gate = Arc::new(Semaphore::new(0));
    let calls = Arc::new(AtomicUsize::new(0));
    let (opened, counted) = (Arc::clone(&gate), Arc::clone(&calls));
    let handler = move |headers: HeaderMap| {
        let (gate, calls) = (Arc::clone(&opened), Arc::clone(&counted));
        async move {
            calls.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            let user = headers["x-user"].to_str().unwrap().to_owned();
            (
                [
                    ("cache-control", "public, max-age=60".to_owned()),
                    ("set-cookie", user.clone()),
                ],
                user,
            )
        }
    };
    let app = Router::new()
        .route("/", get(handler))
        .layer(CacheLayer::new(CacheConfig::default()));
    let ask = |user: String| {
        let app = app.clone();
        tokio::spawn(async move {
            let request = Request::get("/")
                .header("x-user", &user)
                .body(Body::empty());
            let answer = app.oneshot(request.unwrap()).await.unwrap();
            let cookie = answer.headers()["set-cookie"].clone();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(
                (cookie.as_bytes(), &body[..]),
                (user.as_bytes(), user.as_bytes())
            );
        })
    };
    let users: Vec<_> = (0..20).map(|user| ask(user.to_string())).collect();
    eventually("the leader calls", Duration::from_secs(5), || async {
        calls.load(Ordering::SeqCst) > 0
    })
    .await;
    gate.add_permits(users.len());
    for user in users {
        user.await.unwrap();
    }
    assert_eq!(calls.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn github_2016_an_application_starts_and_serves_without_its_store() {
    // Nothing listens on port 1.
    let config = CacheConfig::builder()
        .url("valkey://127.0.0.1:1")
        .build()
        .unwrap();
    let app = Router::new()
        .route("/", get(|| async { ([FRESH], "served") }))
        .layer(CacheLayer::new(config));
    for _ in 0..3 {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            answer.into_body().collect().await.unwrap().to_bytes(),
            "served"
        );
    }
}

/// ChatGPT in March 2023 and go-redis CVE-2025-29923: a command that was given up, or that took
/// too long, left its reply to the next one, which was someone else's.
#[tokio::test]
async fn chatgpt_2023_and_go_redis_cve_2025_29923_no_reply_goes_to_another_command() {
    let server = Valkey::start();
    let proxy = Proxy::to(server.port()).await;
    // Without memory, so that every hit is a reply.
    let config = CacheConfig::builder()
        .url(server.tcp_url_at(proxy.port()))
        .memory_bytes(0)
        .build()
        .unwrap();
    let inner = tower::service_fn(|request: Request<Body>| async move {
        let path = request.uri().path().to_owned();
        Ok::<_, Infallible>(response(200, &[FRESH], path))
    });
    let cached = CacheLayer::new(config).layer(inner);
    let start = |path: &str| cached.clone().oneshot(request(Method::GET, path, &[]));
    let ask = async |path: &str| {
        let (head, body) = start(path).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(body, path, "{:?}", head.headers);
        head.headers["cache-status"]
            .to_str()
            .unwrap()
            .contains("; hit")
    };
    let paths: Vec<_> = (0..10).map(|number| format!("/{number}")).collect();
    let all_hit = async || {
        for path in &paths {
            eventually("a hit", Duration::from_secs(10), || ask(path)).await;
        }
    };
    all_hit().await;
    let mut hits = 0;
    for round in 0..500 {
        // Given up after the command was sent.
        let mut given_up = Box::pin(start(&paths[round % 10]));
        let _pending = given_up
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        drop(given_up);
        hits += usize::from(ask(&paths[(round + 1) % 10]).await);
    }
    assert!(hits > 400, "{hits}");
    // Late: the replies come when nobody waits for them any more.
    for round in 0..5 {
        proxy.set(Mode::Delay(Duration::from_millis(150)));
        for path in &paths[round..round + 3] {
            ask(path).await;
        }
        proxy.set(Mode::Forward);
        all_hit().await;
    }
    // Twice: every later reply would be that of the command before.
    for _ in 0..5 {
        proxy.tamper(Tamper::Duplicate);
        // At once, so that there are later ones on the connection.
        tokio::join!(ask("/0"), ask("/1"), ask("/2"), ask("/3"), ask("/4"));
        all_hit().await;
    }
}

#[tokio::test]
async fn railway_2026_nothing_is_stored_that_does_not_say_how_long() {
    let table: [Lines<'_>; 5] = [
        &[],
        &[
            ("last-modified", "Tue, 15 Nov 1994 12:45:26 GMT"),
            ("etag", "\"a\""),
        ],
        &[("cache-control", "public")],
        &[("cache-control", "")],
        &[("content-type", "text/html")],
    ];
    for sent in table {
        assert_never_shared(sent, &[]).await;
    }
}

/// Credentials of two requests by directives by `Vary`: 6144 pairs against a model. RFC 9111 3.5 is
/// about the first request; the second is answered by the same rule.
#[tokio::test]
async fn credentials_by_directives_by_vary() {
    const DIRECTIVES: [&str; 7] = [
        "public",
        "s-maxage=60",
        "must-revalidate",
        "proxy-revalidate",
        "private",
        "no-store",
        "no-cache",
    ];
    const BOTH: [&str; 2] = ["authorization", "cookie"];
    let requests: [&[&str]; 4] = [&[], &BOTH[..1], &BOTH[1..], &BOTH];
    let (mut cases, mut hits) = (0, 0);
    for bits in 0..1_u32 << DIRECTIVES.len() {
        let chosen: Vec<_> = (0..DIRECTIVES.len())
            .filter(|bit| bits & (1 << bit) != 0)
            .map(|bit| DIRECTIVES[bit])
            .collect();
        let has = |name: &str| chosen.contains(&name);
        let control = [&["max-age=60"][..], &chosen].concat().join(", ");
        let permitted = |credentials: &[&str]| {
            let shared = has("public") || has("s-maxage=60");
            (!credentials.contains(&"authorization") || shared || has("must-revalidate"))
                && (!credentials.contains(&"cookie") || shared)
        };
        let storable = !has("private") && !has("no-store") && !has("no-cache");
        for vary in ["accept", "authorization", "cookie"] {
            for first in requests {
                for second in requests {
                    let app = App::sending(&[("cache-control", &control), ("vary", vary)]);
                    let ask = async |credentials: &[&'static str]| {
                        let lines: Vec<_> = credentials.iter().map(|name| (*name, "x=y")).collect();
                        app.get("/", &lines).await.is_hit()
                    };
                    ask(first).await;
                    let same_variant = first.contains(&vary) == second.contains(&vary);
                    let expected =
                        storable && permitted(first) && permitted(second) && same_variant;
                    assert_eq!(
                        ask(second).await,
                        expected,
                        "{control}; vary {vary}; {first:?}, then {second:?}"
                    );
                    hits += usize::from(expected);
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 6144, "{cases}");
    assert!(hits > 300, "the model must allow something: {hits}");
}

/// A 304 that now forbids what the stored response allowed is obeyed.
#[tokio::test]
async fn a_304_can_take_permission_back() {
    for forbidding in ["no-store", "private", "no-cache", "max-age=0"] {
        let app = App::new(move |request, number| {
            if request.headers.contains_key("if-none-match") && number == 1 {
                return response(304, &[("etag", "\"a\""), ("cache-control", forbidding)], "");
            }
            let lines = [("etag", "\"a\""), ("cache-control", "max-age=10")];
            response(200, &lines, number.to_string())
        });
        app.get("/", &[]).await;
        app.wait(11);
        assert_eq!(app.get("/", &[]).await.text(), "0");
        assert!(!app.get("/", &[]).await.is_hit(), "{forbidding}");
    }
}

#[tokio::test]
async fn errors_are_not_stored_unless_they_say_so() {
    for status in [400, 401, 403, 404, 429, 500, 502, 503, 504] {
        let app = App::new(move |_, number| response(status, &[], number.to_string()));
        app.get("/", &[]).await;
        assert!(!app.get("/", &[]).await.is_hit(), "{status}");
    }
    let app = App::new(|_, number| response(429, &[FRESH], number.to_string()));
    app.get("/", &[]).await;
    assert!(!app.get("/", &[]).await.is_hit(), "RFC 6585 4: never 429");
}
