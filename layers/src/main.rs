//! A shop with the layers that applications usually have, each where it belongs.
//!
//! ```text
//! cargo run --manifest-path layers/Cargo.toml
//! curl -i http://127.0.0.1:3000/products/7
//! ```

use tower_response_cache::{Cache, CacheConfig};
use tower_response_cache_layers::app;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    let cache = Cache::new(CacheConfig::from_env()?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app(cache)?).await?)
}
