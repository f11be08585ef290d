//! A shop: sign-in for its reports, sessions for its carts, and everything else from the cache.
//!
//! A layer of `axum` wraps what stands before it. So the last one is the outermost, and a route that
//! is added after a layer is not inside of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_extra::extract::CookieJar;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_response_cache::{
    Cache, CacheLayer, CacheOptions, ConfigError, CookieRule, Policy, Purge,
};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

/// The shop.
pub fn app(cache: Cache) -> Result<Router, ConfigError> {
    let cached = |policy| CacheLayer::new(cache.clone()).policy(policy);
    let pages = Policy::builder()
        .stale_while_revalidate(Duration::from_secs(30))
        .build()?;
    // Nothing here depends on who asks, so cookies do not matter.
    let assets = Policy::builder()
        .default_ttl(Duration::from_secs(3600))
        .cookies(CookieRule::Ignore)
        .build()?;
    // Of all cookies the handler reads this one alone.
    let prices = Policy::builder()
        .key_cookies(["currency"])
        .cookies(CookieRule::Ignore)
        .build()?;

    // Reports are the same for all who may see them. Who that is, is decided outside.
    let reports = Router::new()
        .route("/reports/sales", get(sales))
        .layer(cached(pages.clone()))
        .layer(middleware::from_fn(signed_in));

    let shop = Router::new()
        .route("/products/{id}", get(product).put(change_product))
        .route("/prices", get(price_list).layer(cached(prices)))
        .route("/assets/{name}", get(asset).layer(cached(assets)))
        .route("/cart", get(cart))
        .route("/cart/{id}", post(put_into_cart))
        // Inside: a hit needs none of these.
        .layer(RequestBodyLimitLayer::new(64 * 1024))
        .layer(GlobalConcurrencyLimitLayer::new(64))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            Duration::from_secs(5),
        ))
        .layer(CatchPanicLayer::new())
        // Inside: each variant is compressed once, and stored.
        .layer(CompressionLayer::new())
        // Inside: the cache has to see which responses set a cookie.
        .layer(SessionManagerLayer::new(MemoryStore::default()).with_secure(false))
        .layer(cached(pages));

    Ok(shop
        .merge(reports)
        .with_state(Shop::default())
        // Outside: these are about each request, hit or not.
        .layer(cors())
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid)))
}

/// How often handlers were called.
#[derive(Clone, Default)]
struct Shop(Arc<AtomicU64>);

impl Shop {
    /// The number of this call, as a field of its response.
    fn call(&self) -> [(&'static str, String); 1] {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        [("x-call", number.to_string())]
    }
}

/// A page that is the same for all says so: only then do browsers with a cookie get it from the
/// cache.
fn for_all(seconds: u64) -> CacheOptions {
    CacheOptions::new().max_age(seconds).public()
}

async fn product(State(shop): State<Shop>, Path(id): Path<u64>) -> impl IntoResponse {
    let options = for_all(60).tag(format!("product:{id}"));
    let text = format!("product {id}, ").repeat(100);
    (shop.call(), options, text)
}

/// A successful PUT purges its own URL by itself. The list of prices is another.
async fn change_product(cache: Cache) -> Result<StatusCode, StatusCode> {
    let purge = cache.purge(Purge::tag("prices")).await;
    purge.map_err(|_not_now| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn price_list(State(shop): State<Shop>, cookies: CookieJar) -> impl IntoResponse {
    let currency = cookies
        .get("currency")
        .map_or("EUR", |it| it.value())
        .to_owned();
    (shop.call(), for_all(60).tag("prices"), Json([currency]))
}

async fn asset(State(shop): State<Shop>, Path(name): Path<String>) -> impl IntoResponse {
    (shop.call(), format!("contents of {name}"))
}

async fn sales(State(shop): State<Shop>) -> impl IntoResponse {
    (shop.call(), [(CACHE_CONTROL, "s-maxage=60")], "a million")
}

async fn cart(session: Session) -> Result<Json<Vec<u64>>, StatusCode> {
    Ok(Json(contents(&session).await?))
}

async fn put_into_cart(session: Session, Path(id): Path<u64>) -> Result<StatusCode, StatusCode> {
    let mut products = contents(&session).await?;
    products.push(id);
    let stored = session.insert("cart", products).await;
    stored.map_err(|_lost| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn contents(session: &Session) -> Result<Vec<u64>, StatusCode> {
    let stored = session.get("cart").await;
    let stored = stored.map_err(|_lost| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(stored.unwrap_or_default())
}

/// Lets those pass who may see the reports. A real shop looks the token up.
async fn signed_in(request: Request, next: Next) -> Response {
    let token = request.headers().get(AUTHORIZATION);
    match token.is_some_and(|token| token == "Bearer let-me-in") {
        true => next.run(request).await,
        false => StatusCode::UNAUTHORIZED.into_response(),
    }
}

fn cors() -> CorsLayer {
    let ours = |origin: &axum::http::HeaderValue| origin.as_bytes().ends_with(b".shop.example");
    CorsLayer::new()
        .allow_methods([Method::GET])
        .allow_origin(AllowOrigin::predicate(move |origin, _request| ours(origin)))
}
