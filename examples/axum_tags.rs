//! Pages that show the content of other pages, and are purged when that content changes.
//!
//! ```sh
//! cargo run --release --example axum_tags
//! ```
//!
//! An article's page carries its own tag. A category's page carries the tags of all articles that
//! it lists. A change of an article purges its page, and makes the lists that show it stale: they
//! are served once more while they are made anew.
#![allow(
    clippy::disallowed_methods,
    reason = "a program reads its own environment"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tower_response_cache::{Cache, CacheConfig, CacheLayer, CacheOptions, Policy, Purge};

/// The articles: name to category and text.
type Articles = Arc<RwLock<BTreeMap<String, (String, String)>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cache = Cache::new(CacheConfig::from_env()?);
    // Every page of these routes carries this tag too, so `Purge::tag("site")` purges them all.
    let policy = Policy::builder().tag("site").build()?;
    let app = Router::new()
        .route("/articles/{name}", get(article).put(write))
        .route("/categories/{category}", get(category))
        .with_state(articles())
        .layer(CacheLayer::new(cache).policy(policy));

    let port = std::env::var("PORT").unwrap_or_else(|_unset| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}; try, some of them twice:");
    println!("  curl -i http://{address}/categories/birds");
    println!("  curl -i http://{address}/articles/wren");
    println!("  curl -i -X PUT -d 'It sings.' http://{address}/articles/wren");
    Ok(axum::serve(listener, app).await?)
}

/// One article, for an hour or until it is written anew.
async fn article(State(articles): State<Articles>, Path(name): Path<String>) -> impl IntoResponse {
    let articles = articles.read().unwrap_or_else(PoisonError::into_inner);
    let (_, text) = articles.get(&name).ok_or(StatusCode::NOT_FOUND)?;
    let options = CacheOptions::new()
        .max_age(3600)
        .tag(format!("article:{name}"));
    Ok::<_, StatusCode>((options, text.clone()))
}

/// A list of articles, with the tags of all of them.
async fn category(
    State(articles): State<Articles>,
    Path(category): Path<String>,
) -> impl IntoResponse {
    let articles = articles.read().unwrap_or_else(PoisonError::into_inner);
    let listed: BTreeMap<_, _> = articles
        .iter()
        .filter(|(_, (of, _))| *of == category)
        .map(|(name, (_, text))| (name.clone(), text.clone()))
        .collect();
    let options = listed.keys().fold(
        CacheOptions::new()
            .max_age(3600)
            .tag(format!("category:{category}")),
        |options, name| options.tag(format!("shows:{name}")),
    );
    (options, Json(listed))
}

/// Writes an article. Its own page is gone from every instance when this returns.
async fn write(
    State(articles): State<Articles>,
    Path(name): Path<String>,
    cache: Cache,
    text: String,
) -> StatusCode {
    {
        let mut articles = articles.write().unwrap_or_else(PoisonError::into_inner);
        let Some((_, old)) = articles.get_mut(&name) else {
            return StatusCode::NOT_FOUND;
        };
        *old = text;
    }
    let page = cache.purge(Purge::tag(format!("article:{name}"))).await;
    let lists = cache
        .purge(Purge::tag(format!("shows:{name}")).soft())
        .await;
    match page.and(lists) {
        Ok(()) => StatusCode::NO_CONTENT,
        // The article is written, but old pages may stay for a while. The client may try again.
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn articles() -> Articles {
    let birds = ["wren", "robin", "heron"].map(|name| {
        let text = format!("The {name} is a bird.\n");
        (name.to_owned(), ("birds".to_owned(), text))
    });
    Arc::new(RwLock::new(birds.into()))
}
