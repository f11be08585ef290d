//! Memory hits and nothing else, for an instruction count: `hit N` makes N exchanges.
//! The difference between two counts, over the difference in N, is the cost of one.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::BodyExt;
use tower::Service;
use tower_response_cache::{CacheConfig, CacheLayer};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let calls: usize = arguments.next().and_then(|calls| calls.parse().ok()).unwrap_or(1000);
    let is_plain = arguments.next().is_some_and(|word| word == "plain");
    let cached = move || {
        let headers = headers(is_plain);
        let body = bytes::Bytes::from(vec![b'x'; 1024]);
        move || {
            let answer = (headers.clone(), body.clone());
            async move { answer }
        }
    };
    let mut app: Router = Router::new().route("/thing", get(cached()));
    if !is_plain {
        app = app.layer(CacheLayer::new(CacheConfig::default()));
    }
    for _ in 0..calls {
        let request = Request::get("/thing")
            .header(header::HOST, "bench.example")
            .header(header::USER_AGENT, "bench")
            .header(header::ACCEPT, "*/*")
            .header(header::ACCEPT_ENCODING, "gzip, br");
        let Ok(response) = app.call(request.body(Body::empty()).unwrap_or_default()).await;
        let _ = response.into_body().collect().await;
    }
}

fn headers(answered: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value| headers.insert(name, HeaderValue::from_static(value));
    set("content-type", "text/plain; charset=utf-8");
    set("cache-control", "max-age=3600");
    set("vary", "accept-encoding");
    set("etag", "\"v1\"");
    set("surrogate-key", "one two three");
    if answered {
        set("date", "Sun, 22 Nov 2026 12:00:00 GMT");
        set("age", "12");
        set("cache-status", "tower-response-cache; hit; ttl=3588");
    }
    headers
}
