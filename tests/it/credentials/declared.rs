//! Credentials that the cache cannot see, cookies that are none, and requests that are none of its.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, HeaderValue, Method};
use tower::ServiceExt;
use tower_response_cache::{
    ANALYTICS_COOKIES, CacheBypass, CacheConfig, CacheLayer, Policy, PolicyBuilder,
};

use super::FRESH;
use crate::support::app::{App, request, response};

fn ignoring(names: &[&str]) -> Policy {
    let names = names.iter().copied();
    Policy::builder().ignore_cookies(names).build().unwrap()
}

/// A handler that answers with the cookies that it got.
fn echo(policy: Policy) -> App {
    App::with(policy, |request, _| {
        let lines = request.headers.get_all("cookie").iter();
        let lines: Vec<_> = lines.map(|line| line.to_str().unwrap()).collect();
        response(200, &[FRESH, ("vary", "cookie")], lines.join(" + "))
    })
}

#[tokio::test]
async fn ignored_cookies_neither_count_nor_reach_the_handler() {
    let app = echo(ignoring(&ANALYTICS_COOKIES));
    for cookies in [
        "_ga=GA1.2.3",
        "_ga=GA1.4.5; _ga_X=6",
        "_fbp=fb.1.2;_pk_id.1.a=b",
    ] {
        let answer = app.get("/", &[("cookie", cookies)]).await;
        assert_eq!(answer.text(), "", "{cookies}");
    }
    assert!(app.get("/", &[]).await.is_hit());
    assert_eq!(app.calls(), 1);
    let mixed = app.get("/", &[("cookie", "_ga=1; sid=alice")]).await;
    assert_eq!(mixed.text(), "sid=alice");
    assert!(!mixed.is_stored() && app.get("/", &[]).await.is_hit());
}

/// Whatever the crate `cookie` finds in what is left, the cache has counted; and nothing that it
/// found and that is not named is gone.
#[tokio::test]
async fn what_is_taken_for_no_credential_is_what_the_handler_does_not_find() {
    let pieces = [
        "_ga=1",
        "_ga =1",
        " _ga=1",
        "_ga",
        "_ga=",
        "=_ga",
        "%5Fga=1",
        "_ga=\"a",
        "b\"",
        "sid=a",
        "",
        "_ga_x=1; ",
        "_gax=1",
        "x=_ga=1",
        "_ga=1\t",
        "_GA=1",
    ];
    let mut cases = 0;
    for one in pieces {
        for other in pieces {
            for third in ["", "sid=b", "_ga=2"] {
                let sent = [one, other, third].join(";");
                let app = echo(ignoring(&["_ga", "_ga_*"]));
                let answer = app.get("/", &[("cookie", &sent)]).await;
                let found = |text: &str| -> Vec<String> {
                    let cookies = cookie::Cookie::split_parse_encoded(text.to_owned());
                    let cookies = cookies.filter_map(Result::ok);
                    cookies.map(|it| it.stripped().to_string()).collect()
                };
                let (before, after) = (found(&sent), found(answer.text()));
                let is_named = |it: &&String| it.starts_with("_ga=") || it.starts_with("_ga_");
                let (named, others): (Vec<_>, Vec<_>) = before.iter().partition(is_named);
                assert!(
                    others.iter().all(|it| after.contains(it)),
                    "{sent}: {after:?}"
                );
                assert!(
                    after.iter().all(|it| before.contains(it)),
                    "{sent}: {after:?}"
                );
                // What is stored for everybody was made for a request without any cookie.
                assert_eq!(answer.is_stored(), answer.text().is_empty(), "{sent}");
                assert!(named.len() + others.len() == before.len());
                cases += 1;
            }
        }
    }
    assert!(cases >= 700, "{cases}");
}

#[test]
fn names_that_cannot_be_cookies_or_belong_to_the_key_are_refused() {
    let build = |builder: PolicyBuilder| builder.build().map_err(|error| error.to_string());
    for bad in ["", "*", "a*b", "a=b", "a;b", "a b"] {
        let error = build(Policy::builder().ignore_cookies([bad])).unwrap_err();
        assert!(error.contains("ignore_cookies"), "{error}");
    }
    for (keyed, ignored, is_fine) in [
        ("sid", "sid", false),
        ("sid", "s*", false),
        ("sid", "x", true),
    ] {
        let builder = Policy::builder()
            .key_cookies([keyed])
            .ignore_cookies([ignored]);
        assert_eq!(build(builder).is_ok(), is_fine, "{keyed} {ignored}");
    }
}

/// What a session middleware leaves in a request, its own cookie aside.
#[derive(Clone)]
struct Session(&'static str);

async fn with_session(mut request: Request, next: Next) -> Response {
    let visitor = ["first", "second"][usize::from(request.headers().contains_key("x-second"))];
    request.extensions_mut().insert(Session(visitor));
    let mut response = next.run(request).await;
    // The cache, which is inside, cannot see it.
    let cookie = HeaderValue::from_str(&format!("sid={visitor}")).unwrap();
    response.headers_mut().insert("set-cookie", cookie);
    response
}

async fn form(
    axum::Extension(session): axum::Extension<Session>,
) -> ([(&'static str, &'static str); 1], String) {
    ([FRESH], format!("token of {}", session.0))
}

async fn tokens(policy: Policy) -> [String; 2] {
    let app = Router::new()
        .route("/form", get(form))
        .layer(CacheLayer::new(CacheConfig::default()).policy(policy))
        .layer(from_fn(with_session));
    let mut tokens = Vec::new();
    for second in [false, true] {
        let mut ask = http::Request::get("/form").body(Body::empty()).unwrap();
        if second {
            ask.headers_mut()
                .insert("x-second", HeaderValue::from_static("1"));
        }
        let answer = app.clone().oneshot(ask).await.unwrap();
        let body = to_bytes(answer.into_body(), 100).await.unwrap();
        tokens.push(String::from_utf8(body.to_vec()).unwrap());
    }
    tokens.try_into().unwrap()
}

#[tokio::test]
async fn sessions_outside_are_credentials_once_they_are_declared() {
    let undeclared = tokens(Policy::default()).await;
    assert_eq!(
        undeclared,
        ["token of first", "token of first"],
        "what the cache cannot see"
    );
    let declared = Policy::builder()
        .credentials_in::<Session>()
        .build()
        .unwrap();
    assert_eq!(
        tokens(declared).await,
        ["token of first", "token of second"]
    );
}

#[tokio::test]
async fn declared_credentials_are_answered_from_what_permits_sharing() {
    for (control, is_shared) in [
        ("max-age=60", false),
        ("max-age=60, must-revalidate", false),
        ("public, max-age=60", true),
    ] {
        for first_has in [false, true] {
            let policy = Policy::builder()
                .credentials_in::<Session>()
                .build()
                .unwrap();
            let app = App::sending_with(policy, &[("cache-control", control)]);
            for (number, has) in [first_has, !first_has].into_iter().enumerate() {
                let mut ask = request(Method::GET, "/", &[]);
                if has {
                    ask.extensions_mut().insert(Session("x"));
                }
                let answer = app.ask(ask).await;
                assert_eq!(
                    answer.is_hit(),
                    is_shared && number > 0,
                    "{control} {first_has}"
                );
                if has && !is_shared {
                    assert!(answer.cache().contains("detail=credentials-need-public"));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_outer_middleware_has_pass_by_is_none_of_the_caches() {
    let app = App::sending(&[FRESH]);
    let by_passing = |method| {
        let mut ask = request(method, "/", &[]);
        ask.extensions_mut().insert(CacheBypass);
        ask
    };
    app.ask(by_passing(Method::GET)).await;
    assert_eq!(app.get("/", &[]).await.text(), "1");
    for (number, method) in [(2, Method::GET), (3, Method::HEAD)] {
        let answer = app.ask(by_passing(method)).await;
        assert!(
            answer
                .cache()
                .contains("fwd=bypass; fwd-status=200; detail=cache-bypass")
        );
        assert_eq!(app.calls(), number + 1);
        assert_eq!(app.get("/", &[]).await.text(), "1");
    }
    app.ask(by_passing(Method::PUT)).await;
    assert!(
        !app.get("/", &[]).await.is_hit(),
        "a change is announced all the same"
    );
}

/// README's first program, in a browser that has cookies.
#[allow(dead_code, reason = "its main function")]
mod first {
    include!("first_program.rs");

    pub(super) fn program() -> Router {
        app(CacheConfig::default())
    }
}

#[tokio::test]
async fn readmes_first_program_hits_in_a_browser_that_has_cookies() {
    let app = first::program();
    let mut status = Vec::new();
    for cookie in ["sid=alice; _ga=1", "sid=alice; _ga=1", "sid=bob", ""] {
        let mut ask = http::Request::get("/products/7")
            .body(Body::empty())
            .unwrap();
        if !cookie.is_empty() {
            ask.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        let answer = app.clone().oneshot(ask).await.unwrap();
        status.push(field(answer.headers(), "cache-status"));
        assert_eq!(to_bytes(answer.into_body(), 9).await.unwrap(), "7");
    }
    assert!(status[0].contains("; stored"), "{status:?}");
    assert!(
        status[1..].iter().all(|it| it.contains("; hit")),
        "{status:?}"
    );
}

#[test]
fn readme_has_that_program_as_it_is() {
    let readme = include_str!("../../../README.md");
    let program = include_str!("first_program.rs");
    let start = program.find("use ").expect("after its comment");
    assert!(readme.contains(&program[start..]), "README's first program");
}

fn field(headers: &HeaderMap, name: &str) -> String {
    headers[name].to_str().unwrap().to_owned()
}
