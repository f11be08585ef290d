//! The layer around real services.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, header::CACHE_CONTROL};
use tower::ServiceExt;
use tower_response_cache::{CacheConfig, CacheLayer};

#[tokio::test]
async fn the_second_request_is_a_hit() {
    let app = Router::new()
        .route(
            "/",
            get(|| async { ([(CACHE_CONTROL, "max-age=60")], "hello") }),
        )
        .layer(CacheLayer::new(CacheConfig::default()));
    for expected in ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl="] {
        let response = app
            .clone()
            .oneshot(Request::get("/").body(Body::empty()).unwrap())
            .await
            .unwrap();
        let status = response.headers()["cache-status"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(status.contains(expected), "{status}");
    }
}
