//! Whose response is whose: what is in the key beside the target.

use std::slice::from_ref;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use axum_extra::extract::CookieJar;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tower_response_cache::{
    CacheConfig, CacheKey, CacheLayer, FIELDS_OF_ONE_REQUEST, Policy, Purge,
};

use crate::support::app::{Answer, App, Lines, headers, request};
use crate::support::wire;

const PUBLIC: (&str, &str) = ("cache-control", "public, max-age=60");
const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn answer(body: impl Into<Body>, lines: Lines<'_>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.headers_mut() = headers(lines);
    response
}

/// Who asks, as axum-extra's jar says.
fn sid(headers: &HeaderMap) -> String {
    let jar = CookieJar::from_headers(headers);
    jar.get("sid")
        .map_or_else(String::new, |cookie| cookie.value().to_owned())
}

#[tokio::test]
async fn however_a_keyed_cookie_is_spelt_everybody_gets_their_own_page() {
    let policy = Policy::builder().key_cookies(["sid"]).build().unwrap();
    let app = App::with(policy, |request, _| {
        answer(sid(&request.headers), &[PUBLIC])
    });
    let spellings: [fn(&str) -> String; 9] = [
        |user| format!("sid={user}"),
        |user| format!("sid=deleted; sid={user}"),
        |user| format!("sid={user}; sid=deleted"),
        |user| format!("sid ={user}"),
        |user| format!("sid= {user}"),
        |user| format!("s%69d={user}"),
        |user| format!("sid={user}; s%69d=deleted"),
        |user| format!("sid=\"{user}\""),
        |user| format!("other=1; sid={user}; more=2"),
    ];
    for spelt in spellings {
        for user in ["alice", "bob"] {
            for line in [spelt(user), format!("theme=dark; {}", spelt(user))] {
                let lines = [("cookie", &*line)];
                let own = sid(&headers(&lines));
                for _ in 0..2 {
                    assert_eq!(app.get("/", &lines).await.text(), own, "{line}");
                }
            }
        }
        assert_eq!(app.get("/", &[]).await.text(), "");
    }
}

#[tokio::test]
async fn a_redirect_made_of_the_host_goes_to_those_who_spell_it_so() {
    let app = App::new(|request, _| {
        let host = request
            .headers
            .get("host")
            .map(|host| host.to_str().unwrap());
        let location = format!("https://{}/login", host.unwrap_or("nobody"));
        let mut response = answer("", &[FRESH, ("location", &location)]);
        *response.status_mut() = StatusCode::FOUND;
        response
    });
    let spellings = [
        "example.org",
        "example.org:80",
        "EXAMPLE.org",
        "example.org:",
    ];
    for is_hit in [false, true] {
        for host in spellings {
            let answer = app.get("/", &[("host", host)]).await;
            assert_eq!(answer.field("location"), format!("https://{host}/login"));
            assert_eq!(answer.is_hit(), is_hit, "{host}");
        }
    }
    // A purge names the target, and so reaches all of them.
    let uri = "http://example.org/".parse().unwrap();
    app.cache.purge(Purge::uri(&uri).unwrap()).await.unwrap();
    for host in spellings {
        assert!(!app.get("/", &[("host", host)]).await.is_hit(), "{host}");
    }
}

#[tokio::test]
async fn a_client_of_http_2_that_splits_its_cookies_shares_and_gets_its_own_page() {
    /// Some look at all lines, and some at the first one only.
    async fn page(headers: HeaderMap) -> ([(&'static str, &'static str); 1], String) {
        let first = headers.get("cookie").and_then(|line| line.to_str().ok());
        let of_first = first.is_some_and(|line| line.contains("sid="));
        ([PUBLIC], format!("{} {of_first}", sid(&headers)))
    }
    let policy = Policy::builder().key_cookies(["sid"]).build().unwrap();
    let layer = CacheLayer::new(CacheConfig::default()).policy(policy);
    let server = wire::serve(Router::new().route("/", get(page)).layer(layer)).await;
    let ask = async |cookies: &[&str]| {
        let mut request = Request::get(format!("http://{server}/"));
        for cookie in cookies {
            request = request.header("cookie", *cookie);
        }
        let response = wire::http2(server, request).await;
        let status = response.headers()["cache-status"].to_str().unwrap();
        let is_hit = status.contains("; hit");
        (String::from_utf8(response.body().to_vec()).unwrap(), is_hit)
    };
    let table: [(&[&str], &str, bool); 8] = [
        (
            &["theme=dark", "sid=alice", "visits=1"],
            "alice false",
            false,
        ),
        (
            &["theme=light", "sid=alice", "visits=2"],
            "alice false",
            true,
        ),
        (&["theme=light", "sid=bob", "visits=2"], "bob false", false),
        (&["theme=dark; sid=alice; visits=3"], "alice true", false),
        (&["sid=alice; visits=4"], "alice true", true),
        (&["sid=alice", "sid=bob"], "bob true", false),
        (&["sid=bob", "sid=alice"], "alice true", false),
        (&["theme=dark", "visits=5"], " false", false),
    ];
    for (cookies, body, is_hit) in table {
        assert_eq!(ask(cookies).await, (body.to_owned(), is_hit), "{cookies:?}");
    }
}

/// A request by which a middleware outside says these keys.
async fn keyed(app: &App, keys: &[CacheKey], lines: Lines<'_>) -> Answer {
    let mut request = request(Method::GET, "/", lines);
    for key in keys {
        key.clone().add_to(request.extensions_mut());
    }
    app.ask(request).await
}

/// A handler that answers by the authorization, with these fields.
fn personal(lines: Lines<'static>) -> App {
    App::new(move |request, _| {
        let user = request.headers.get("authorization");
        let user = user.map_or(b"-".to_vec(), |user| user.as_bytes().to_vec());
        answer(user, lines)
    })
}

#[tokio::test]
async fn a_page_of_a_requester_in_the_key_is_stored_for_that_requester() {
    let app = personal(&[FRESH]);
    for user in ["alice", "bob"] {
        let key = [CacheKey::of_requester(user)];
        let lines = [("authorization", user), ("cookie", "session=1")];
        for is_hit in [false, true, true] {
            let answer = keyed(&app, &key, &lines).await;
            assert_eq!((answer.text(), answer.is_hit()), (user, is_hit));
        }
    }
    // Without the key nothing of it is seen, with or without credentials.
    for lines in [&[("authorization", "alice")][..], &[]] {
        assert!(!app.get("/", lines).await.is_hit());
    }
    assert_eq!(app.calls(), 4);
}

#[tokio::test]
async fn private_is_not_stored_for_a_requester_unless_a_targeted_field_permits_it() {
    let key = [CacheKey::of_requester("alice")];
    let private = ("cache-control", "private, max-age=60");
    let targeted = ("cdn-cache-control", "max-age=60");
    let cases: [(Lines<'static>, bool); 3] = [
        (Box::leak(Box::new([private])), false),
        (Box::leak(Box::new([private, targeted])), true),
        (Box::leak(Box::new([FRESH, ("set-cookie", "a=b")])), false),
    ];
    for (lines, is_stored) in cases {
        let app = personal(lines);
        for _ in 0..2 {
            keyed(&app, &key, &[("authorization", "alice")]).await;
        }
        assert_eq!(app.calls() == 1, is_stored, "{lines:?}");
    }
}

#[tokio::test]
async fn a_key_that_names_nobody_lifts_nothing() {
    let app = personal(&[FRESH]);
    for key in [CacheKey::new("experiment:b"), CacheKey::of_requester("")] {
        for _ in 0..2 {
            let answer = keyed(&app, from_ref(&key), &[("authorization", "alice")]).await;
            assert!(
                !answer.is_hit() && !answer.is_stored(),
                "{}",
                answer.cache()
            );
        }
    }
    // It keeps what anybody may have apart all the same, beside a requester or alone.
    let (a, b) = (CacheKey::new("experiment:a"), CacheKey::new("experiment:b"));
    let alice = CacheKey::of_requester("alice");
    let combinations: [&[CacheKey]; 6] = [
        &[],
        from_ref(&a),
        from_ref(&b),
        from_ref(&alice),
        &[a.clone(), alice.clone()],
        &[alice.clone(), a.clone(), b.clone()],
    ];
    for is_hit in [false, true] {
        for keys in combinations {
            assert_eq!(keyed(&app, keys, &[]).await.is_hit(), is_hit, "{keys:?}");
        }
    }
}

#[tokio::test]
async fn a_policy_makes_a_key_of_the_request() {
    #[derive(Clone)]
    struct Tenant(&'static str);
    let policy = Policy::builder().key_with(|request| {
        let Tenant(name) = request.extensions.get()?;
        Some(CacheKey::of_requester(format!("tenant:{name}")))
    });
    let app = App::with(policy.build().unwrap(), |request, _| {
        let tenant = request.extensions.get::<Tenant>();
        answer(tenant.map_or("-", |tenant| tenant.0), &[FRESH])
    });
    for is_hit in [false, true] {
        for tenant in [Some("red"), Some("blue"), None] {
            let mut request = request(Method::GET, "/", &[]);
            if let Some(tenant) = tenant {
                request.extensions_mut().insert(Tenant(tenant));
                let token = "Bearer x".parse().unwrap();
                request.headers_mut().insert("authorization", token);
            }
            let answer = app.ask(request).await;
            assert_eq!(answer.text(), tenant.unwrap_or("-"));
            assert_eq!(answer.is_hit(), is_hit, "{tenant:?}");
        }
    }
}

#[tokio::test]
async fn purges_and_changes_reach_what_is_stored_under_a_key_of_one_s_own() {
    let app = App::sending(&[FRESH, ("cache-tag", "orders")]);
    let keys = [
        CacheKey::of_requester("alice"),
        CacheKey::new("experiment:a"),
    ];
    let uri = "http://localhost/".parse().unwrap();
    let purges = [
        Some(Purge::tag("orders")),
        Some(Purge::path("/")),
        Some(Purge::everything()),
        None,
    ];
    for purge in purges {
        for key in &keys {
            keyed(&app, from_ref(key), &[("host", "localhost")]).await;
            let again = keyed(&app, from_ref(key), &[("host", "localhost")]).await;
            assert!(again.is_hit());
        }
        match &purge {
            Some(purge) => app.cache.purge(purge.clone()).await.unwrap(),
            None => {
                app.send(Method::PUT, "/", &[("host", "localhost")]).await;
            }
        }
        for key in &keys {
            let purged = keyed(&app, from_ref(key), &[("host", "localhost")]).await;
            assert!(!purged.is_hit(), "{purge:?}");
        }
    }
    app.cache.purge(Purge::uri(&uri).unwrap()).await.unwrap();
    for key in &keys {
        let purged = keyed(&app, from_ref(key), &[("host", "localhost")]).await;
        assert!(!purged.is_hit());
    }
}

#[test]
fn no_text_shows_what_a_key_of_one_s_own_stands_for() {
    let key = CacheKey::of_requester("alice").and(CacheKey::new("experiment:b"));
    let text = format!("{key:?}");
    assert_eq!(text, "CacheKey { parts: 2, names_requester: true }");
}

#[tokio::test]
async fn a_field_of_one_request_is_shown_to_its_client_and_not_stored() {
    let policy = Policy::builder().unstored_fields(FIELDS_OF_ONE_REQUEST);
    let app = App::with(policy.build().unwrap(), |request, number| {
        let number = number.to_string();
        let lines = [
            FRESH,
            ("etag", "\"a\""),
            ("x-request-id", &*number),
            ("server-timing", "db;dur=1"),
            ("server-timing", "app;dur=2"),
            ("x-kept", "kept"),
        ];
        let mut response = answer("page", &lines);
        if request.headers.contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
        }
        response
    });
    let has = |answer: &Answer, number: &str, text: &str| {
        let timings = answer.headers.get_all("server-timing").iter().count();
        let fields = (
            answer.field("x-request-id"),
            timings,
            answer.field("x-kept"),
        );
        let expected = if number.is_empty() { 0 } else { 2 };
        assert_eq!(fields, (number, expected, "kept"), "{text} {answer:?}");
    };
    has(&app.get("/", &[]).await, "0", "a miss");
    has(&app.get("/", &[]).await, "", "a hit");
    has(
        &app.send(Method::HEAD, "/", &[]).await,
        "",
        "a HEAD that hits",
    );
    app.wait(61);
    has(&app.get("/", &[]).await, "1", "a 304 of the handler");
    has(&app.get("/", &[]).await, "", "a hit of what was updated");
    app.wait(61);
    let known = app.get("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);
    assert_eq!(known.field("x-request-id"), "2");
    app.wait(61);
    has(
        &app.send(Method::HEAD, "/", &[]).await,
        "3",
        "a HEAD of the handler",
    );
    has(&app.get("/", &[]).await, "", "what a HEAD has updated");
    // By default RFC 9111, section 3.1, is obeyed.
    let app = App::sending(&[FRESH, ("x-request-id", "7")]);
    for _ in 0..2 {
        assert_eq!(app.get("/", &[]).await.field("x-request-id"), "7");
    }
}

#[test]
fn fields_that_tell_what_a_response_means_are_stored() {
    for name in ["vary", "content-type", "cache-control", "etag"] {
        let name: http::HeaderName = name.parse().unwrap();
        let error = Policy::builder()
            .unstored_fields([name])
            .build()
            .unwrap_err();
        assert!(error.to_string().contains("unstored_fields"), "{error}");
    }
}
