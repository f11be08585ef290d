//! A small product catalogue behind the cache.
//!
//! ```sh
//! cargo run --release --example server
//! CACHE_URL=valkey://127.0.0.1 PORT=3001 cargo run --release --example server
//! ```
//!
//! Its pages take half a second to make, so that you see when the handler was called. The header
//! `x-handler-calls` counts its calls. `PORT=0` takes a free port.
#![allow(
    clippy::disallowed_methods,
    reason = "a program reads its own environment and clock"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_response_cache::{Cache, CacheConfig, CacheLayer, CacheOptions, Purge};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Shows a line for each change of the store's state, among others.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let config = CacheConfig::from_env()?;
    let store = config.store();
    let cache = Cache::new(config);
    let app = app(&cache);

    let port = std::env::var("PORT").unwrap_or_else(|_unset| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");
    println!("storing responses in {store}");
    println!("try:");
    println!("  curl -i http://{address}/products/7     # twice: slow, then at once");
    println!("  curl -i -X PUT -d 4200 http://{address}/products/7/price     # purges that page");
    println!("  curl -i http://{address}/me     # private: never stored");

    // Sends small answers at once, and not with the next ones or after the client's delayed
    // acknowledgement.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "small answers may be late");
        }
    });
    axum::serve(listener, app)
        .with_graceful_shutdown(stop())
        .await?;
    Ok(())
}

fn app(cache: &Cache) -> Router {
    let catalogue = Arc::new(Catalogue::default());
    Router::new()
        .route("/products", get(list))
        .route("/products/{id}", get(show))
        .route("/products/{id}/price", axum::routing::put(reprice))
        .route("/me", get(me))
        .layer(CacheLayer::new(cache.clone()))
        // This route is added after the layer, so it is outside the layer.
        .route("/livez", get(|| async { "alive\n" }))
        .route_service("/readyz", cache.readiness_service())
        .with_state(catalogue)
}

/// All products: stored for half a minute, and until any product changes.
async fn list(State(catalogue): State<Arc<Catalogue>>) -> impl IntoResponse {
    let call = catalogue.work().await;
    (
        [(CACHE_CONTROL, "max-age=30, stale-while-revalidate=30")],
        CacheOptions::new().public().tag("products"),
        [(HANDLER_CALLS, call)],
        Json(catalogue.all()),
    )
}

/// One product: stored for a minute, and until it changes. With its `ETag` it is validated
/// rather than made anew, by the cache as well as by browsers.
async fn show(
    State(catalogue): State<Arc<Catalogue>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Response {
    let Some(product) = catalogue.product(id) else {
        return (StatusCode::NOT_FOUND, "no such product\n").into_response();
    };
    let etag = product.etag();
    let about = (
        [
            (CACHE_CONTROL, "max-age=60".to_owned()),
            (ETAG, etag.clone()),
        ],
        CacheOptions::new().public().tag(format!("product:{id}")),
    );
    if headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| *known == etag)
    {
        return (StatusCode::NOT_MODIFIED, about, ()).into_response();
    }
    let call = catalogue.work().await;
    (about, [(HANDLER_CALLS, call)], Json(product)).into_response()
}

/// Changes a price, and purges the pages that show it in every instance.
async fn reprice(
    State(catalogue): State<Arc<Catalogue>>,
    cache: Cache,
    Path(id): Path<u64>,
    cents: String,
) -> Response {
    let Ok(cents) = cents.trim().parse() else {
        return (StatusCode::BAD_REQUEST, "expected a price in cents\n").into_response();
    };
    if !catalogue.reprice(id, cents) {
        return (StatusCode::NOT_FOUND, "no such product\n").into_response();
    }
    let purge = Purge::tag(format!("product:{id}")).and_tag("products");
    match cache.purge(purge).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        // The price has changed, but pages with the old one may stay. The client has to know.
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// A page that depends on the user and says `private`, so it is not stored.
async fn me(headers: HeaderMap) -> impl IntoResponse {
    let who = match headers.contains_key(AUTHORIZATION) {
        true => "hello, whoever you are\n",
        false => "hello, stranger\n",
    };
    ([(CACHE_CONTROL, "private, max-age=60")], who)
}

/// Completes when the process is asked to end.
async fn stop() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        eprintln!("{error}");
        std::future::pending().await
    }
}

/// The data, which a real application has in a database.
struct Catalogue {
    products: RwLock<BTreeMap<u64, Product>>,
    calls: AtomicU64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
    cents: u64,
}

impl Product {
    fn etag(&self) -> String {
        format!("\"{}-{}\"", self.id, self.cents)
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        let names = [
            "pen", "ink", "paper", "folder", "ruler", "stapler", "lamp", "desk",
        ];
        let product = |(id, name): (u64, &str)| {
            let product = Product {
                id,
                name: name.to_owned(),
                cents: 100 + 50 * id,
            };
            (id, product)
        };
        Self {
            products: RwLock::new((1..).zip(names).map(product).collect()),
            calls: AtomicU64::new(0),
        }
    }
}

impl Catalogue {
    /// Takes as long as a page takes to make; returns how many were made.
    async fn work(&self) -> String {
        tokio::time::sleep(EFFORT).await;
        (self.calls.fetch_add(1, Ordering::Relaxed) + 1).to_string()
    }

    fn product(&self, id: u64) -> Option<Product> {
        let products = self.products.read().unwrap_or_else(PoisonError::into_inner);
        products.get(&id).cloned()
    }

    fn all(&self) -> Vec<Product> {
        let products = self.products.read().unwrap_or_else(PoisonError::into_inner);
        products.values().cloned().collect()
    }

    /// Whether there is such a product.
    fn reprice(&self, id: u64, cents: u64) -> bool {
        let mut products = self
            .products
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let product = products.get_mut(&id);
        product.map(|product| product.cents = cents).is_some()
    }
}

const EFFORT: Duration = Duration::from_millis(500);

const HANDLER_CALLS: HeaderName = HeaderName::from_static("x-handler-calls");
