//! What a layer's policy adds to RFC 9111.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::{ETAG, IF_NONE_MATCH};
use http::{Request, StatusCode};
use tower::ServiceExt;
use tower_response_cache::{CacheConfig, CacheLayer, Policy, PolicyBuilder};

async fn page() -> impl IntoResponse {
    ([("cache-control", "max-age=60"), ("x-draft", "1")], "page")
}

async fn missing() -> impl IntoResponse {
    (
        StatusCode::NOT_FOUND,
        [("cache-control", "max-age=60")],
        "no",
    )
}

/// The second request's `Cache-Status`.
async fn second(policy: PolicyBuilder, path: &str) -> String {
    let app = app(policy);
    let mut status = String::new();
    for _ in 0..2 {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        status = response.headers()["cache-status"]
            .to_str()
            .unwrap()
            .to_owned();
    }
    status
}

fn app(policy: PolicyBuilder) -> Router {
    let layer = CacheLayer::new(CacheConfig::default()).policy(policy.build().unwrap());
    Router::new()
        .route("/page", get(page))
        .route("/missing", get(missing))
        .layer(layer)
}

#[tokio::test]
async fn a_policy_narrows_what_is_stored() {
    let new = Policy::builder;
    let table = [
        ("by default", new(), "/page", "hit"),
        ("by default", new(), "/missing", "hit"),
        ("statuses", new().statuses([StatusCode::OK]), "/page", "hit"),
        (
            "statuses",
            new().statuses([StatusCode::OK]),
            "/missing",
            "detail=status",
        ),
        ("a cap that it keeps", new().max_body(4), "/page", "hit"),
        (
            "a cap that it breaks",
            new().max_body(3),
            "/page",
            "detail=too-large",
        ),
        (
            "a predicate that says no",
            new().store_if(|_, response| !response.headers.contains_key("x-draft")),
            "/page",
            "detail=policy",
        ),
        (
            "a predicate that says yes",
            new().store_if(|request, _| !request.contains_key("x-preview")),
            "/page",
            "hit",
        ),
        (
            "a bypass",
            new().bypass_if(|request| request.uri.path() == "/page"),
            "/page",
            "fwd=bypass",
        ),
    ];
    for (name, policy, path, expected) in table {
        let status = second(policy, path).await;
        assert!(status.contains(expected), "{name}: {status}");
    }
}

#[tokio::test]
async fn a_tag_of_the_content_lets_clients_validate() {
    let app = app(Policy::builder().auto_etag(true));
    let ask = async |known: Option<&str>| {
        let request = Request::get("/page").header(IF_NONE_MATCH, known.unwrap_or("\"none\""));
        app.clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    };
    let first = Request::get("/page").body(Body::empty()).unwrap();
    let first = app.clone().oneshot(first).await.unwrap();
    assert!(
        !first.headers().contains_key(ETAG),
        "the first passes unchanged"
    );
    let whole = ask(None).await;
    let etag = whole.headers()[ETAG].to_str().unwrap().to_owned();
    assert_eq!(etag.len(), 34, "{etag}");
    assert_eq!(to_bytes(whole.into_body(), 100).await.unwrap(), "page");
    let validated = ask(Some(&etag)).await;
    assert_eq!(validated.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(validated.headers()[ETAG], etag);
}
