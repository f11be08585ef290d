//! Who has credentials gets, and leaves for others, only what permits sharing.

mod declared;
mod flights;
mod sites;

use http::{Method, StatusCode, Version};
use tower_response_cache::{CookieRule, Policy, Purge, SetCookieRule};

use crate::support::app::{Answer, App, Lines, request, response};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const CREDENTIALS: [(&str, &str); 2] = [("authorization", "Bearer alice"), ("cookie", "sid=alice")];

/// What permits sharing with requests that have `Authorization`, and with those that have `Cookie`.
const PERMISSIONS: [(Lines<'_>, bool, bool); 9] = [
    (&[FRESH], false, false),
    (
        &[("expires", "Wed, 18 May 2050 03:33:20 GMT")],
        false,
        false,
    ),
    (
        &[("cache-control", "max-age=60, must-revalidate")],
        true,
        false,
    ),
    (
        &[("cache-control", "max-age=60, proxy-revalidate")],
        false,
        false,
    ),
    (&[("cache-control", "max-age=60, immutable")], false, false),
    (&[("cache-control", "public, max-age=60")], true, true),
    (&[("cache-control", "s-maxage=60")], true, true),
    (&[("cdn-cache-control", "max-age=60")], true, true),
    (
        &[("cdn-cache-control", "max-age=60, must-revalidate")],
        true,
        true,
    ),
];

#[tokio::test]
async fn what_one_gets_does_not_depend_on_who_came_first() {
    for (sent, to_authorization, to_cookie) in PERMISSIONS {
        for (line, permitted) in CREDENTIALS.into_iter().zip([to_authorization, to_cookie]) {
            let app = App::sending(sent);
            let anonymous_first = [app.get("/", &[]).await, app.get("/", &[line]).await];
            assert_eq!(anonymous_first[1].is_hit(), permitted, "{sent:?} {line:?}");
            let app = App::sending(sent);
            let credentials_first = [app.get("/", &[line]).await, app.get("/", &[]).await];
            assert_eq!(
                credentials_first[1].is_hit(),
                permitted,
                "{sent:?} {line:?}"
            );
            assert!(app.get("/", &[]).await.is_hit(), "{sent:?}");
        }
    }
}

#[tokio::test]
async fn the_detail_says_what_the_stored_response_lacks() {
    let app = App::sending(&[FRESH]);
    app.get("/", &[]).await;
    for (name, value) in CREDENTIALS {
        let answer = app.get("/", &[(name, value)]).await;
        let expected = format!("; fwd=request; fwd-status=200; detail={name}-needs-public");
        assert!(answer.cache().ends_with(&expected), "{}", answer.cache());
    }
}

/// Whatever the handler answers to a request that passes by, and whatever that asks for.
#[tokio::test]
async fn what_passes_by_for_its_credentials_changes_nothing_that_is_stored() {
    let answers: [(u16, Lines<'_>); 9] = [
        (200, &[FRESH, ("etag", "\"b\"")]),
        (
            200,
            &[("cache-control", "public, max-age=60"), ("etag", "\"b\"")],
        ),
        (200, &[("cache-control", "no-store")]),
        (200, &[("cache-control", "private"), ("vary", "cookie")]),
        (304, &[("cache-control", "no-store"), ("etag", "\"a\"")]),
        (
            304,
            &[("cache-control", "public, max-age=9"), ("etag", "\"a\"")],
        ),
        (404, &[FRESH]),
        (410, &[]),
        (500, &[]),
    ];
    let asked: [(Method, Lines<'_>); 4] = [
        (Method::GET, &[]),
        (Method::HEAD, &[]),
        (Method::GET, &[("if-none-match", "\"a\"")]),
        (Method::GET, &[("range", "bytes=0-0")]),
    ];
    for (status, sent) in answers {
        for (method, further) in &asked {
            for credentials in CREDENTIALS {
                // Fresh, stale while it may be refreshed, and only worth a validation.
                for age in [0, 61, 90] {
                    let app = App::new(move |request, number| {
                        if request.headers.contains_key(credentials.0) {
                            return response(status, sent, "own");
                        }
                        let stored = "max-age=60, stale-while-revalidate=20";
                        response(
                            200,
                            &[("cache-control", stored), ("etag", "\"a\"")],
                            number.to_string(),
                        )
                    });
                    app.get("/", &[]).await;
                    app.wait(age);
                    let lines = [&[credentials][..], *further].concat();
                    let calls = app.calls();
                    let own = app.send(method.clone(), "/", &lines).await;
                    let case = format!("{method} {lines:?} {status} {sent:?} after {age} s");
                    assert_eq!(own.status.as_u16(), status, "{case}");
                    assert!(!own.is_hit() && !own.is_stored(), "{case}: {}", own.cache());
                    assert_eq!(app.calls(), calls + 1, "no refresh: {case}");
                    // The handler gets the client's conditions, and none of the cache's.
                    let seen = app.last_call();
                    let condition = lines.iter().find(|(name, _)| *name == "if-none-match");
                    assert_eq!(
                        seen.get("if-none-match").is_some(),
                        condition.is_some(),
                        "{case}"
                    );
                    app.clock
                        .set(tower_response_cache::Timestamp::from_secs(2_000_000_000));
                    let anonymous = app.get("/", &[]).await;
                    assert!(anonymous.is_hit() && anonymous.text() == "0", "{case}");
                    assert_eq!(anonymous.field("etag"), "\"a\"", "{case}");
                }
            }
        }
    }
}

/// All ways of answering from what is stored, by what it permits.
#[tokio::test]
async fn no_way_of_answering_gets_around_the_rule() {
    let ways: [(&str, Method, Lines<'_>, u64, bool); 9] = [
        ("fresh", Method::GET, &[], 0, false),
        ("head", Method::HEAD, &[], 0, false),
        (
            "not modified",
            Method::GET,
            &[("if-none-match", "\"a\"")],
            0,
            false,
        ),
        ("part", Method::GET, &[("range", "bytes=0-0")], 0, false),
        ("beyond", Method::GET, &[("range", "bytes=9-")], 0, false),
        (
            "only if cached",
            Method::GET,
            &[("cache-control", "only-if-cached")],
            0,
            false,
        ),
        ("stale while refreshed", Method::GET, &[], 70, false),
        ("softly purged", Method::GET, &[], 0, true),
        ("stale on error", Method::GET, &[], 90, false),
    ];
    for (name, method, further, age, soft) in ways {
        for permits in [false, true] {
            for credentials in CREDENTIALS {
                let app = App::new(move |_, number| {
                    let control = "max-age=60, stale-while-revalidate=20, stale-if-error=60";
                    let control = if permits {
                        format!("public, {control}")
                    } else {
                        control.into()
                    };
                    let status = if number == 0 { 200 } else { 500 };
                    response(
                        status,
                        &[("cache-control", &control), ("etag", "\"a\"")],
                        "page",
                    )
                });
                app.get("/", &[]).await;
                app.wait(age);
                if soft {
                    app.cache.purge(Purge::everything().soft()).await.unwrap();
                }
                let lines = [&[credentials][..], further].concat();
                let answer = app.send(method.clone(), "/", &lines).await;
                let case = format!("{name}, {credentials:?}, {permits}: {}", answer.cache());
                assert_eq!(answer.is_hit(), permits, "{case}");
                let refused = if name == "only if cached" { 504 } else { 500 };
                assert!(permits || answer.status.as_u16() == refused, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn early_refresh_is_none_of_those_who_pass_by() {
    let policy = Policy::builder().early_refresh(10.0).build().unwrap();
    let app = App::sending_with(policy, &[FRESH]);
    app.get("/", &[]).await;
    for second in 0..59 {
        let answer = app.get("/", &[CREDENTIALS[1]]).await;
        assert_eq!(answer.text(), (second + 1).to_string());
        app.wait(1);
    }
}

#[tokio::test]
async fn cookies_count_as_the_policy_says() {
    let rules = [
        (CookieRule::AsCredentials, false, false),
        (CookieRule::WhenStoring, false, true),
        (CookieRule::Ignore, true, true),
    ];
    for (rule, stored, served) in rules {
        let policy = || Policy::builder().cookies(rule).build().unwrap();
        let app = App::sending_with(policy(), &[FRESH]);
        assert_eq!(
            app.get("/", &[CREDENTIALS[1]]).await.is_stored(),
            stored,
            "{rule:?}"
        );
        let app = App::sending_with(policy(), &[FRESH]);
        app.get("/", &[]).await;
        assert_eq!(
            app.get("/", &[CREDENTIALS[1]]).await.is_hit(),
            served,
            "{rule:?}"
        );
        assert!(!app.get("/", &CREDENTIALS[..1]).await.is_hit(), "{rule:?}");
    }
}

#[tokio::test]
async fn a_refusal_of_access_is_stored_only_if_the_policy_names_it() {
    let sent: Lines<'_> = &[("cache-control", "public, max-age=60")];
    for status in [401, 403, 407] {
        let refuses = move |request: &http::request::Parts, _| {
            if request.headers.contains_key("cookie") {
                response(200, sent, "page")
            } else {
                response(status, sent, "refused")
            }
        };
        let app = App::new(refuses);
        let answer = app.get("/", &[]).await;
        assert!(
            answer.cache().contains("detail=status"),
            "{}",
            answer.cache()
        );
        assert_eq!(
            app.get("/", &[CREDENTIALS[1]]).await.text(),
            "page",
            "{status}"
        );
        let named = StatusCode::from_u16(status).unwrap();
        let policy = Policy::builder().statuses([named]).build().unwrap();
        let app = App::with(policy, refuses);
        app.get("/", &[]).await;
        assert!(app.get("/", &[]).await.is_hit(), "{status}");
    }
}

#[tokio::test]
async fn clear_site_data_counts_as_set_cookie() {
    const CLEAR: (&str, &str) = ("clear-site-data", "\"cache\"");
    let app = App::sending(&[FRESH, CLEAR]);
    for _ in 0..2 {
        let answer = app.get("/", &[]).await;
        assert!(
            answer.cache().contains("detail=set-cookie"),
            "{}",
            answer.cache()
        );
    }
    let hidden = App::sending(&[FRESH, CLEAR, ("connection", "clear-site-data")]);
    hidden.get("/", &[]).await;
    assert!(!hidden.get("/", &[]).await.is_hit());
    let strip = |rule| Policy::builder().set_cookie(rule).build().unwrap();
    for (rule, replayed) in [
        (SetCookieRule::StoreAndStrip, ""),
        (SetCookieRule::StoreForEveryone, CLEAR.1),
    ] {
        let app = App::sending_with(strip(rule), &[FRESH, CLEAR]);
        assert_eq!(app.get("/", &[]).await.field(CLEAR.0), CLEAR.1);
        let hit = app.get("/", &[]).await;
        assert!(hit.is_hit());
        assert_eq!(hit.field(CLEAR.0), replayed);
    }
}

/// What a 304 or a HEAD tells one client's browser to forget is for that client.
#[tokio::test]
async fn the_clear_site_data_of_an_update_is_its_clients_alone() {
    let app = App::new(|_, number| match number {
        0 => response(200, &[FRESH, ("etag", "\"a\"")], "page"),
        _ => {
            let clear = ("clear-site-data", "\"cache\"");
            response(304, &[FRESH, ("etag", "\"a\""), clear], "")
        }
    });
    app.get("/", &[]).await;
    app.wait(61);
    let validated = app.get("/", &[]).await;
    assert_eq!(
        (validated.text(), validated.field("clear-site-data")),
        ("page", "\"cache\"")
    );
    let hit = app.get("/", &[]).await;
    assert!(hit.is_hit());
    assert_eq!(hit.field("clear-site-data"), "");
}

#[tokio::test]
async fn a_permission_with_an_argument_is_none() {
    let odd = [
        "public=\"x\"",
        "public=x",
        "public=",
        "public=\"\"",
        "public=1",
        "\"public\"",
        "'public'",
        "public x",
        "x public",
        "\"x, public, y\"",
        "x=\"public\"",
        "public;x",
        "publics",
    ];
    for permission in odd {
        let control = format!("max-age=60, {permission}");
        let app = App::sending(&[("cache-control", &control)]);
        let answer = app.get("/", &[CREDENTIALS[1]]).await;
        assert!(
            answer.cache().contains("detail=cookie-needs-public"),
            "{control}"
        );
    }
    for odd in [
        "must-revalidate=x",
        "must-revalidate=\"\"",
        "x must-revalidate",
        "'must-revalidate'",
    ] {
        let control = format!("max-age=60, stale-if-error=60, {odd}");
        let app = App::sending(&[("cache-control", &control)]);
        let answer = app.get("/", &[CREDENTIALS[0]]).await;
        assert!(
            answer.cache().contains("detail=authorization-needs-public"),
            "{control}"
        );
    }
}

/// `{}` stands for what forbids.
const ODD_PLACES: [&str; 28] = [
    "{}",
    "\"{}\"",
    "'{}'",
    "`{}`",
    " \"{}\" ",
    "\" {} \"",
    "\"max-age=60, {}\"",
    "\"{}; x\"",
    "max-age=60, \"{}\"",
    "max-age=60 \"{}\"",
    "max-age=60; {}",
    "max-age=60 {}",
    "{} max-age=60",
    "[{}]",
    "({})",
    "{{}}",
    "<{}>",
    "={}",
    "={}=",
    ",,{},,",
    "x, y z {} a",
    "x=\"a\"{}",
    "x=\"a\" \"{}\"",
    "\\{}",
    "\"\\\"{}\\\"\"",
    "{}=1",
    "{}=\"\"",
    "{}=TRUE",
];

#[tokio::test]
async fn a_prohibition_is_found_however_it_is_spelt() {
    let mut cases = 0;
    for name in [
        "private", "no-store", "Private", "NO-STORE", "no-cache", "nO-caChE",
    ] {
        for place in ODD_PLACES {
            let odd = place.replace("{}", name);
            let lines: [Lines<'_>; 5] = [
                &[FRESH, ("cache-control", &odd)],
                &[
                    ("cache-control", &odd),
                    ("cache-control", "public, s-maxage=60"),
                ],
                &[FRESH, ("cache-control", &odd), ("cache-control", &odd)],
                &[FRESH, ("cdn-cache-control", &odd)],
                &[
                    FRESH,
                    ("cdn-cache-control", "max-age=60"),
                    ("cdn-cache-control", &odd),
                ],
            ];
            for sent in lines {
                let app = App::sending(sent);
                app.get("/", &[]).await;
                assert!(!app.get("/", &[]).await.is_hit(), "{sent:?}");
                cases += 1;
            }
        }
    }
    assert!(cases >= 840, "{cases}");
}

/// What is no prohibition, near as it is.
#[tokio::test]
async fn what_only_looks_like_a_prohibition_is_none() {
    for control in [
        "max-age=60, x=\"private\"",
        "max-age=60, x=private",
        "max-age=60, privately",
        "max-age=60, no-store-x",
        "max-age=60, private=\"x-own\"",
        "max-age=60, x=\"no-store, private\"",
    ] {
        for name in ["cache-control", "cdn-cache-control"] {
            let app = App::sending(&[(name, control)]);
            app.get("/", &[]).await;
            assert!(app.get("/", &[]).await.is_hit(), "{name}: {control}");
        }
    }
}

#[tokio::test]
async fn only_an_upgrade_that_leads_away_from_http_passes_by() {
    let table: [(Version, Lines<'_>, bool); 16] = [
        (
            Version::HTTP_11,
            &[("connection", "upgrade"), ("upgrade", "websocket")],
            true,
        ),
        (
            Version::HTTP_11,
            &[("connection", "Upgrade"), ("upgrade", "WebSocket")],
            true,
        ),
        (
            Version::HTTP_11,
            &[("connection", "keep-alive, UPGRADE"), ("upgrade", "x/1")],
            true,
        ),
        (
            Version::HTTP_11,
            &[
                ("connection", "x"),
                ("connection", "upgrade"),
                ("upgrade", "x"),
            ],
            true,
        ),
        (
            Version::HTTP_11,
            &[("connection", "upgrade"), ("upgrade", "h2c, websocket")],
            true,
        ),
        (
            Version::HTTP_11,
            &[
                ("connection", "upgrade"),
                ("upgrade", "h2c"),
                ("upgrade", "x"),
            ],
            true,
        ),
        (
            Version::HTTP_11,
            &[
                ("connection", "upgrade, http2-settings"),
                ("upgrade", "h2c"),
            ],
            false,
        ),
        (
            Version::HTTP_11,
            &[("connection", "upgrade"), ("upgrade", "H2C")],
            false,
        ),
        (
            Version::HTTP_11,
            &[("connection", "upgrade"), ("upgrade", "TLS/1.0, HTTP/1.1")],
            false,
        ),
        (
            Version::HTTP_11,
            &[("connection", "upgrade"), ("upgrade", "HTTP/2.0")],
            false,
        ),
        (
            Version::HTTP_11,
            &[("connection", "upgrade"), ("upgrade", "")],
            false,
        ),
        (Version::HTTP_11, &[("connection", "upgrade")], false),
        (Version::HTTP_11, &[("upgrade", "websocket")], false),
        (
            Version::HTTP_11,
            &[("connection", "upgraded"), ("upgrade", "websocket")],
            false,
        ),
        (
            Version::HTTP_10,
            &[("connection", "upgrade"), ("upgrade", "websocket")],
            false,
        ),
        (
            Version::HTTP_2,
            &[("connection", "upgrade"), ("upgrade", "websocket")],
            false,
        ),
    ];
    for (version, lines, passes) in table {
        for method in [Method::GET, Method::HEAD] {
            let app = App::sending(&[FRESH]);
            app.get("/", &[]).await;
            let mut ask = request(method.clone(), "/", lines);
            *ask.version_mut() = version;
            let answer: Answer = app.ask(ask).await;
            let is_upgrade = answer
                .cache()
                .contains("fwd=bypass; fwd-status=200; detail=upgrade");
            assert_eq!(
                (is_upgrade, answer.is_hit()),
                (passes, !passes),
                "{version:?} {lines:?}"
            );
        }
    }
}
