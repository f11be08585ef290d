// The program that README begins with.

use axum::{Json, Router, extract::Path, response::IntoResponse, routing::get};
use tower_response_cache::{CacheConfig, CacheLayer, CacheOptions};

async fn product(Path(id): Path<u64>) -> impl IntoResponse {
    let options = CacheOptions::new().max_age(60).tag(format!("product:{id}"));
    (options.public(), Json(id)) // the same for all, for a minute, or until it is purged by its tag
}

fn app(config: CacheConfig) -> Router {
    Router::new()
        .route("/products/{id}", get(product))
        .layer(CacheLayer::new(config))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = CacheConfig::from_env()?; // CACHE_URL=valkey://…; unset: in this process only
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app(config)).await?)
}
