//! What becomes of twelve usual layers inside of the cache and outside of it.
//!
//! The table in `docs/layers.md` is what this test prints:
//!
//! ```text
//! cargo test --manifest-path layers/Cargo.toml --test table -- --nocapture
//! ```
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::http::header::{CACHE_CONTROL, HeaderName, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_response_cache::{CacheConfig, CacheLayer, TokioClock};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Inside,
    Outside,
}

#[tokio::test(start_paused = true)]
async fn the_docs_show_what_each_layer_does_inside_and_outside() {
    let mut table = String::from(
        "| layer | belongs | inside of the cache | outside of it |\n|---|---|---|---|\n",
    );
    macro_rules! row {
        ($name:literal, $belongs:literal, $seen:ident) => {
            let (inside, outside) = ($seen(Place::Inside).await, $seen(Place::Outside).await);
            writeln!(table, "| {} | {} | {inside} | {outside} |", $name, $belongs).unwrap();
        };
    }
    row!("authentication", "outside", authentication);
    row!("`SessionManagerLayer`", "inside", sessions);
    row!("form tokens in a cookie", "inside", tokens);
    row!("`CompressionLayer`", "inside", compression);
    row!("`GlobalConcurrencyLimitLayer`", "inside", concurrency);
    row!("`TimeoutLayer`", "either", timeouts);
    row!("`CatchPanicLayer`", "inside", panics);
    row!("`CorsLayer`", "outside", cors);
    row!("`SetRequestIdLayer`", "outside", request_ids);
    row!("`TraceLayer`", "outside", traces);
    row!("`SetResponseHeaderLayer`", "either", headers);
    row!("`RequestBodyLimitLayer`", "either", body_limit);
    println!("{table}");
    let docs = include_str!("../../docs/layers.md");
    assert!(docs.contains(&table), "docs/layers.md has another table");
}

#[tokio::test(start_paused = true)]
async fn the_docs_show_what_the_second_visitor_gets() {
    let inside = second_visitor(Place::Inside).await.bytes();
    let outside = second_visitor(Place::Outside).await.bytes();
    println!("{inside}\n{outside}");
    let docs = include_str!("../../docs/layers.md");
    assert!(docs.contains(&inside) && docs.contains(&outside));
}

/// The page is for those with a token, and the second client has none.
async fn authentication(place: Place) -> String {
    async fn guard(request: Request, next: Next) -> Response {
        match request.headers().contains_key("x-token") {
            true => next.run(request).await,
            false => StatusCode::UNAUTHORIZED.into_response(),
        }
    }
    let app = around(place, page("max-age=60"), middleware::from_fn(guard));
    ask(&app, &[("x-token", "1")]).await;
    format!("without a token: {}", ask(&app, &[]).await.say())
}

/// Each visitor's session begins with the first page.
async fn second_visitor(place: Place) -> Answer {
    let visitors = Arc::<AtomicU64>::default();
    let handler = move |session: Session| {
        let number = visitors.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            session.insert("visitor", number).await.unwrap();
            ([(CACHE_CONTROL, "max-age=60")], format!("visitor {number}"))
        }
    };
    let routes = Router::new().route("/", get(handler));
    let layer = SessionManagerLayer::new(MemoryStore::default());
    let app = around(place, routes, layer);
    ask(&app, &[]).await;
    ask(&app, &[]).await
}

async fn sessions(place: Place) -> String {
    let second = second_visitor(place).await;
    format!(
        "the second visitor: {}, a session: {}",
        second.say(),
        second.has("set-cookie")
    )
}

/// A token stands in a cookie, and in the form of the page.
async fn tokens(place: Place) -> String {
    #[derive(Clone)]
    struct Token(u64);
    let count = Arc::<AtomicU64>::default();
    let give = move |mut request: Request, next: Next| {
        let token = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            request.extensions_mut().insert(Token(token));
            let mut response = next.run(request).await;
            let cookie = format!("token={token}").parse().unwrap();
            response.headers_mut().append(SET_COOKIE, cookie);
            response
        }
    };
    let form = |Extension(Token(token)): Extension<Token>| async move {
        ([(CACHE_CONTROL, "max-age=60")], format!("token {token}"))
    };
    let routes = Router::new().route("/", get(form));
    let app = around(place, routes, middleware::from_fn(give));
    ask(&app, &[]).await;
    let second = ask(&app, &[]).await;
    format!(
        "the second client's form: {}, cookie: {}",
        second.say(),
        second.field("set-cookie")
    )
}

async fn compression(place: Place) -> String {
    let long = || async { ([(CACHE_CONTROL, "max-age=60")], "page ".repeat(1000)) };
    let app = around(
        place,
        Router::new().route("/", get(long)),
        CompressionLayer::new(),
    );
    let gzip = [("accept-encoding", "gzip")];
    ask(&app, &gzip).await;
    let hit = ask(&app, &gzip).await;
    let stored = match hit.has("content-length") {
        "yes" => "stored compressed",
        _ => "compressed at each hit",
    };
    format!("{}, {stored}", hit.field("content-encoding"))
}

/// A hit while the only permit is taken by a page that takes a second.
async fn concurrency(place: Place) -> String {
    let routes = page("max-age=60").route("/slow", get(|| sleep(Duration::from_secs(1))));
    let app = around(place, routes, GlobalConcurrencyLimitLayer::new(1));
    ask(&app, &[]).await;
    let slow = app.clone();
    let slow = tokio::spawn(async move { send(&slow, Method::GET, "/slow", &[], "").await });
    tokio::task::yield_now().await;
    let began = Instant::now();
    ask(&app, &[]).await;
    let waited = began.elapsed().as_millis();
    slow.await.unwrap();
    format!("a hit beside a slow page waits {waited} ms")
}

/// A page that takes a second, and a client that gets 100 ms.
async fn timeouts(place: Place) -> String {
    let slow = || async {
        sleep(Duration::from_secs(1)).await;
        ([(CACHE_CONTROL, "max-age=60")], "page")
    };
    let routes = Router::new().route("/", get(slow));
    let limit = Duration::from_millis(100);
    let layer = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limit);
    let app = around(place, routes, layer);
    let first = ask(&app, &[]).await;
    sleep(Duration::from_secs(2)).await;
    format!("{}; 2 s later {}", first.say(), ask(&app, &[]).await.say())
}

/// The handler panics when the stored page is stale.
async fn panics(place: Place) -> String {
    let calls = Arc::<AtomicU64>::default();
    let handler = move || {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            assert_eq!(call, 0, "the handler panics, as it is meant to");
            ([(CACHE_CONTROL, "max-age=1, stale-if-error=60")], "page")
        }
    };
    let app = around(
        place,
        Router::new().route("/", get(handler)),
        CatchPanicLayer::new(),
    );
    ask(&app, &[]).await;
    sleep(Duration::from_secs(5)).await;
    format!("with `stale-if-error`: {}", ask(&app, &[]).await.say())
}

async fn cors(place: Place) -> String {
    let layer = CorsLayer::new().allow_origin([
        HeaderValue::from_static("https://a.example"),
        HeaderValue::from_static("https://b.example"),
    ]);
    let app = around(place, page("max-age=60"), layer);
    ask(&app, &[("origin", "https://a.example")]).await;
    let second = ask(&app, &[("origin", "https://b.example")]).await;
    format!(
        "the second origin: {}, allowed {}",
        second.say(),
        second.field("access-control-allow-origin")
    )
}

async fn request_ids(place: Place) -> String {
    #[derive(Clone, Default)]
    struct Numbers(Arc<AtomicU64>);
    impl MakeRequestId for Numbers {
        fn make_request_id<B>(&mut self, _request: &axum::http::Request<B>) -> Option<RequestId> {
            let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            Some(RequestId::new(HeaderValue::from(number)))
        }
    }
    let layer = (
        SetRequestIdLayer::x_request_id(Numbers::default()),
        PropagateRequestIdLayer::x_request_id(),
    );
    let app = around(place, page("max-age=60"), layer);
    ask(&app, &[]).await;
    format!(
        "the second request: id {}",
        ask(&app, &[]).await.field("x-request-id")
    )
}

async fn traces(place: Place) -> String {
    let seen = Arc::<AtomicU64>::default();
    let count = Arc::clone(&seen);
    let layer = TraceLayer::new_for_http().on_request(
        move |_: &axum::http::Request<Body>, _: &tracing::Span| {
            count.fetch_add(1, Ordering::SeqCst);
        },
    );
    let app = around(place, page("max-age=60"), layer);
    for _ in 0..3 {
        ask(&app, &[]).await;
    }
    format!("sees {} of 3 requests", seen.load(Ordering::SeqCst))
}

async fn headers(place: Place) -> String {
    let name = HeaderName::from_static("x-frame-options");
    let layer = SetResponseHeaderLayer::overriding(name, HeaderValue::from_static("DENY"));
    let app = around(place, page("max-age=60"), layer);
    ask(&app, &[]).await;
    let hit = ask(&app, &[]).await;
    format!("{}, `{}`", hit.say(), hit.field("x-frame-options"))
}

async fn body_limit(place: Place) -> String {
    let routes = Router::new().route("/", any(|body: String| async move { body }));
    let app = around(place, routes, RequestBodyLimitLayer::new(4));
    let refused = send(&app, Method::POST, "/", &[], "too long").await;
    format!("a POST that is too long: {}", refused.status.as_u16())
}

/// A page, with the number of the call that made it.
fn page(cache_control: &'static str) -> Router {
    let calls = Arc::<AtomicU64>::default();
    let handler = move || {
        let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
        async move { ([(CACHE_CONTROL, cache_control)], format!("page {call}")) }
    };
    Router::new().route("/", get(handler))
}

/// The routes behind a cache and another layer, which is inside of it or outside.
fn around<L>(place: Place, routes: Router, layer: L) -> Router
where
    L: Layer<axum::routing::Route> + Clone + Send + Sync + 'static,
    L::Service: Service<Request, Error = std::convert::Infallible> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request>>::Response: IntoResponse + 'static,
    <L::Service as Service<Request>>::Future: Send + 'static,
{
    let config = CacheConfig::builder().clock(TokioClock::default()).build();
    let cache = CacheLayer::new(config.unwrap());
    match place {
        Place::Inside => routes.layer(layer).layer(cache),
        Place::Outside => routes.layer(cache).layer(layer),
    }
}

async fn ask(app: &Router, fields: &[(&str, &str)]) -> Answer {
    send(app, Method::GET, "/", fields, "").await
}

async fn send(
    app: &Router,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    content: &'static str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(content)).unwrap();
    let (head, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let content = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        headers: head.headers,
        content: String::from_utf8_lossy(&content).into_owned(),
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    content: String,
}

impl Answer {
    /// The status or the content, and whether the cache had it.
    fn say(&self) -> String {
        let status = self.status.as_u16().to_string();
        let what = if status == "200" {
            &self.content
        } else {
            &status
        };
        match self.field("cache-status").contains("; hit") {
            true => format!("“{what}”, a hit"),
            false => format!("“{what}”"),
        }
    }

    /// The response as it goes over the wire, without what differs from run to run.
    fn bytes(&self) -> String {
        let mut bytes = format!("HTTP/1.1 {}\n", self.status);
        for (name, value) in &self.headers {
            let value = value.to_str().unwrap();
            match name.as_str() {
                "date" => continue,
                "set-cookie" => writeln!(bytes, "{name}: {}=…", value.split('=').next().unwrap()),
                _ => writeln!(bytes, "{name}: {value}"),
            }
            .unwrap();
        }
        bytes + "\n" + &self.content + "\n"
    }

    fn field(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("none", |value| value.to_str().unwrap())
    }

    fn has(&self, name: &str) -> &'static str {
        if self.headers.contains_key(name) {
            "yes"
        } else {
            "no"
        }
    }
}
