//! Bugs of this crate that were found and fixed. Each has a test that is named for it.

use axum::body::Body;
use http::request::Parts;
use http::{Method, Response};
use tower_response_cache::{CacheConfig, Policy, Purge, QueryRule};

use crate::support::app::{App, Lines, request, response};

#[tokio::test]
async fn a_change_without_a_host_outdated_every_host() {
    let app = changing();
    let victim = [("host", "victim.example")];
    app.get("/", &victim).await;
    for method in [Method::GET, Method::POST] {
        let mut hostless = request(method, "/", &[]);
        hostless.headers_mut().remove("host");
        app.ask(hostless).await;
    }
    assert!(app.get("/", &victim).await.is_hit());
    let mut again = request(Method::GET, "/", &[]);
    again.headers_mut().remove("host");
    assert!(!app.ask(again).await.is_hit(), "its own is outdated");
}

#[tokio::test]
async fn a_part_had_the_digest_of_the_whole() {
    let app = App::sending(&[
        FRESH,
        ("content-digest", "sha-256=:whole:"),
        ("content-md5", "whole"),
        ("repr-digest", "sha-256=:whole:"),
    ]);
    app.get("/", &[]).await;
    let part = app.get("/", &[("range", "bytes=0-1")]).await;
    assert_eq!(part.status, 206);
    let digests = ["content-digest", "content-md5", "repr-digest"].map(|name| part.field(name));
    assert_eq!(digests, ["", "", "sha-256=:whole:"]);
}

#[tokio::test]
async fn a_416_of_the_cache_had_the_lifetime_of_the_whole() {
    let app = App::sending(&[FRESH, ("expires", "Wed, 18 May 2033 04:33:20 GMT")]);
    app.get("/", &[]).await;
    let refused = app.get("/", &[("range", "bytes=1000000-")]).await;
    assert_eq!(refused.status, 416);
    assert_eq!(
        [refused.field("cache-control"), refused.field("expires")],
        ["", ""]
    );
}

#[tokio::test]
async fn a_host_that_looked_as_if_it_had_a_port_was_another() {
    let app = App::sending(&[FRESH]);
    app.get("/", &[("host", "fe80::80")]).await;
    assert!(!app.get("/", &[("host", "fe80::")]).await.is_hit());
    let with_port = [("host", "[fe80::]:80")];
    app.get("/", &with_port).await;
    assert!(app.get("/", &with_port).await.is_hit());
    // It is the same host as without the port, so a purge of that one reaches it.
    let uri = "http://[FE80::]/".parse().unwrap();
    app.cache.purge(Purge::uri(&uri).unwrap()).await.unwrap();
    assert!(!app.get("/", &with_port).await.is_hit());
}

#[tokio::test]
async fn only_if_cached_with_a_precondition_reached_the_handler() {
    let app = App::sending(&[FRESH]);
    let lines = [("cache-control", "only-if-cached"), ("if-match", "\"a\"")];
    let answer = app.get("/", &lines).await;
    assert_eq!((answer.status.as_u16(), app.calls()), (504, 0));
}

#[tokio::test]
async fn what_was_softly_purged_and_must_be_validated_stood_in_for_a_failure() {
    let app = App::new(|_, number| match number {
        0 => response(
            200,
            &[
                ("cache-control", "max-age=60, must-revalidate"),
                ("etag", "\"a\""),
            ],
            "good",
        ),
        _ => response(503, &[], "bad"),
    });
    app.get("/", &[]).await;
    app.cache.purge(Purge::everything().soft()).await.unwrap();
    assert_eq!(app.get("/", &[]).await.text(), "bad");
}

/// Answered in full, and not with anything to store: what was stored is no more.
#[tokio::test]
async fn withdrawn_content_was_served_stale() {
    const LIFETIMES: [&str; 2] = [
        "max-age=10, stale-while-revalidate=600",
        "max-age=10, stale-if-error=600",
    ];
    let withdrawals = [
        (200, "private"),
        (200, "no-store"),
        (200, ""),
        (301, "no-store"),
        (404, ""),
        (410, ""),
    ];
    for lifetimes in LIFETIMES {
        for (status, control) in withdrawals {
            let then = after_withdrawal(lifetimes, status, control).await;
            assert_ne!(then, "old", "{lifetimes}; {status} {control:?}");
        }
        // A failure, and what a client without permission gets, withdraw nothing.
        for (status, control) in [(500, ""), (403, ""), (401, "")] {
            let then = after_withdrawal(lifetimes, status, control).await;
            assert_eq!(then, "old", "{lifetimes}; {status} {control:?}");
        }
    }
}

/// What is served, while the handler fails, of what it answered anew with `status` before.
async fn after_withdrawal(lifetimes: &'static str, status: u16, control: &'static str) -> String {
    let app = App::new(move |_, number| match number {
        0 => response(
            200,
            &[("cache-control", lifetimes), ("etag", "\"a\"")],
            "old",
        ),
        1 => response(status, &[("cache-control", control)], "withdrawn"),
        _ => response(503, &[], "down"),
    });
    app.get("/", &[]).await;
    app.wait(15);
    app.get("/", &[]).await;
    // A refresh is in the background.
    while app.calls() < 2 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    // Longer than a handler that failed is let rest.
    app.wait(30);
    app.get("/", &[]).await.text().to_owned()
}

#[tokio::test]
async fn a_change_was_not_seen_by_keys_with_other_fields() {
    for (policy, get, post) in reads_and_changes() {
        let app = App::with(policy, counting);
        app.get(get.0, get.1).await;
        assert!(app.get(get.0, get.1).await.is_hit());
        app.send(Method::POST, post.0, post.1).await;
        assert!(!app.get(get.0, get.1).await.is_hit(), "{get:?} {post:?}");
    }
}

/// What nobody asks for again goes first: what is known of a page, and not the page.
#[tokio::test]
async fn a_change_was_not_seen_by_keys_with_other_fields_once_memory_was_full() {
    for (policy, get, post) in reads_and_changes() {
        let config = CacheConfig::builder()
            .memory_bytes(256 << 10)
            .max_body(64 << 10);
        let app = App::configured(config, policy, counting);
        let filler = async |number| app.get(&format!("/filler/{number}"), &[]).await;
        for number in 0..1000 {
            filler(number).await;
        }
        app.get(get.0, get.1).await;
        for number in 1000..2000 {
            assert!(app.get(get.0, get.1).await.is_hit());
            filler(number).await;
        }
        assert!(app.cache.statistics().memory_records < 1000);
        app.send(Method::POST, post.0, post.1).await;
        assert!(!app.get(get.0, get.1).await.is_hit(), "{get:?} {post:?}");
    }
}

/// A path or URI, and field lines.
type Asked = (&'static str, Lines<'static>);

/// Policies, what is read under each, and what changes it, in spite of other fields.
fn reads_and_changes() -> [(Policy, Asked, Asked); 12] {
    let query = |rule| Policy::builder().query(rule).build().unwrap();
    let by_header = Policy::builder()
        .key_headers([http::header::ORIGIN])
        .build()
        .unwrap();
    let plain = Policy::default;
    [
        (
            plain(),
            ("/", &[("forwarded", "for=1.1.1.1")]),
            ("/", &[("forwarded", "for=2.2.2.2")]),
        ),
        (
            plain(),
            ("/", &[("x-forwarded-proto", "https")]),
            ("/", &[]),
        ),
        (
            plain(),
            ("/", &[]),
            ("/", &[("x-forwarded-proto", "https")]),
        ),
        (
            plain(),
            ("/", &[]),
            ("/", &[("x-http-method-override", "DELETE")]),
        ),
        (
            by_header.clone(),
            ("/", &[("origin", "http://a")]),
            ("/", &[]),
        ),
        (
            by_header,
            ("/", &[("origin", "http://a")]),
            ("/", &[("origin", "http://b")]),
        ),
        (
            query(QueryRule::Except(vec!["utm_*".into()])),
            ("/p?a=1", &[]),
            ("/p?a=1&utm_x=2", &[]),
        ),
        (
            query(QueryRule::Only(vec!["a".into()])),
            ("/p?a=1", &[]),
            ("/p?b=1&a=1", &[]),
        ),
        (
            query(QueryRule::Sorted),
            ("/p?a=1&b=1", &[]),
            ("/p?b=1&a=1", &[]),
        ),
        (
            plain(),
            ("/", &[("host", "A.example")]),
            ("/", &[("host", "a.example:80")]),
        ),
        (plain(), ("/", &[]), ("http://example.org/", &[])),
        (plain(), ("/", &[("x-v", "1")]), ("/", &[("x-v", "2")])),
    ]
}

#[tokio::test]
async fn a_stale_variant_was_forgotten_where_the_store_had_nothing_better() {
    let app = App::new(
        |request, _| match request.headers.contains_key("if-none-match") {
            true => response(304, &[], ""),
            false => response(
                200,
                &[
                    ("cache-control", "max-age=10"),
                    ("vary", "abc"),
                    ("etag", "\"a\""),
                ],
                "content",
            ),
        },
    );
    app.get("/", &[("abc", "123")]).await;
    app.wait(15);
    let again = app.get("/", &[("abc", "123")]).await;
    assert_eq!((again.status.as_u16(), again.text()), (200, "content"));
    assert!(app.last_call().contains_key("if-none-match"));
}

/// A handler that counts, and that POST changes.
fn changing() -> App {
    App::new(counting)
}

fn counting(request: &Parts, number: usize) -> Response<Body> {
    match request.method {
        Method::GET => response(200, &[FRESH], number.to_string()),
        _ => response(204, &[], ""),
    }
}

const FRESH: (&str, &str) = ("cache-control", "public, max-age=60");
