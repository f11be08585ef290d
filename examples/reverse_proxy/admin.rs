//! What operators ask for, on an address of its own.
//!
//! - `GET /livez`: the process runs
//! - `GET /readyz`: it may be sent requests
//! - `POST /purge?url=…`, `?tag=…`, `?path=…` or `?all`, each with `&soft`: what is stored
//!   is forgotten, or with `soft` is stale from now on

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::net::TcpListener;

/// Answers on `listener` as long as the process runs.
pub(crate) async fn serve(listener: TcpListener) {
    let routes = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(|| async { "ready\n" }))
        .route("/purge", post(purge));
    if let Err(error) = axum::serve(listener, routes).await {
        eprintln!("admin: {error}");
    }
}

#[derive(Debug, Deserialize)]
struct Selection {
    url: Option<String>,
    tag: Option<String>,
    path: Option<String>,
    all: Option<String>,
    #[expect(dead_code, reason = "read when there is a cache to purge")]
    soft: Option<String>,
}

async fn purge(Query(selection): Query<Selection>) -> StatusCode {
    let Selection {
        url,
        tag,
        path,
        all,
        soft: _,
    } = selection;
    match (url, tag, path, all) {
        (Some(_), None, None, None)
        | (None, Some(_), None, None)
        | (None, None, Some(_), None)
        | (None, None, None, Some(_)) => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::BAD_REQUEST,
    }
}
