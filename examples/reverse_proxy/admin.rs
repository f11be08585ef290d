//! Routes for operators, on an address of their own.
//!
//! - `GET /livez`: whether the process runs
//! - `GET /readyz`: whether it takes requests, and the state of the cache
//! - `GET /metrics`: figures of the cache, in the text format of Prometheus
//! - `POST /purge?url=…`, `?tag=…`, `?path=…` or `?all`, each also with `&soft`: purges stored
//!   responses, or with `soft` makes them stale

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use tokio::net::TcpListener;
use tower_response_cache::{Cache, Purge, PurgeError};

/// Answers on `listener` as long as the process runs.
pub(crate) async fn serve(listener: TcpListener, cache: Cache, metrics: PrometheusHandle) {
    let figures = cache.clone();
    let rendered = move || async move {
        figures.record_metrics();
        metrics.run_upkeep();
        metrics.render()
    };
    let routes = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route_service("/readyz", cache.readiness_service())
        .route("/metrics", get(rendered))
        .route("/purge", post(purge))
        .with_state(cache);
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
    soft: Option<String>,
}

async fn purge(
    State(cache): State<Cache>,
    Query(selection): Query<Selection>,
) -> Result<StatusCode, (StatusCode, String)> {
    let purge = selection
        .purge()
        .map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    match cache.purge(purge).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))),
    }
}

impl Selection {
    fn purge(self) -> Result<Purge, String> {
        let Self {
            url,
            tag,
            path,
            all,
            soft,
        } = self;
        let purge = match (url, tag, path, all) {
            (Some(url), None, None, None) => {
                let uri = url
                    .parse()
                    .map_err(|_invalid| "url: not a URI\n".to_owned())?;
                Purge::uri(&uri).map_err(|error: PurgeError| format!("url: {error}\n"))?
            }
            (None, Some(tag), None, None) => Purge::tag(tag),
            (None, None, Some(path), None) => Purge::path(path),
            (None, None, None, Some(_)) => Purge::everything(),
            _ => return Err("expected one of url, tag, path, all\n".to_owned()),
        };
        Ok(if soft.is_some() { purge.soft() } else { purge })
    }
}
