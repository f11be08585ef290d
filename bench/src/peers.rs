//! The app behind other caches. Each is set up as its documentation says, with adapters for axum.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http_cache::prelude::{CacheLayer as HttpCacheLayer, InMemoryBackend};

use crate::apps::{Headers, plain};

pub fn axum_response_cache(size: usize) -> Router {
    plain(size, Headers::Answered).layer(axum_response_cache::CacheLayer::with_lifespan(HOUR))
}

/// The app behind tower-http-cache. That does not apply to a `Router`, since its error type is not
/// the service's and its body must be `Sync`. So it stands between the route and a handler that is
/// a service.
pub fn tower_http_cache(size: usize) -> Router {
    let layer = HttpCacheLayer::builder(InMemoryBackend::new(10_000))
        .ttl(HOUR)
        .build();
    let inner = plain(size, Headers::Answered);
    let inner = tower::service_fn(move |request: Request<Body>| {
        let inner = inner.clone();
        async move {
            let Ok(response) = inner.oneshot(request).await;
            let (parts, body) = response.into_parts();
            let body = Full::new(collected(body).await);
            Ok::<_, Infallible>(http::Response::from_parts(parts, body))
        }
    });
    of_service(ServiceBuilder::new().layer(layer).service(inner))
}

/// The app behind http-cache-tower-server, which does not apply to a `Router` either, because of
/// its error type.
pub fn http_cache_tower_server(size: usize) -> Router {
    let layer = http_cache_tower_server::ServerCacheLayer::new(http_cache::MokaManager::default());
    of_service(
        ServiceBuilder::new()
            .layer(layer)
            .service(plain(size, Headers::Answered)),
    )
}

/// The app behind hitbox-tower, with the faster of its formats: JSON, the default, takes 15 times
/// as long. It stores every response, by method and path.
pub fn hitbox(size: usize) -> Router {
    use hitbox_backend::format::BincodeFormat;
    use hitbox_http::extractors::{Method, path::PathExtractor};
    use hitbox_http::predicates::{NeutralRequestPredicate, NeutralResponsePredicate};
    let config = hitbox::Config::builder()
        .request_predicate(NeutralRequestPredicate::new())
        .response_predicate(NeutralResponsePredicate::new())
        .extractor(Method::new().path("/{path}"))
        .policy(hitbox::policy::PolicyConfig::builder().ttl(HOUR).build())
        .build();
    let backend = hitbox_moka::MokaBackend::builder()
        .max_entries(10_000)
        .value_format(BincodeFormat)
        .build();
    let layer = hitbox_tower::Cache::builder()
        .backend(backend)
        .config(config)
        .build();
    plain(size, Headers::Answered).layer(layer)
}

fn of_service<S, B>(service: S) -> Router
where
    S: Service<Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body_util::BodyExt<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let answer = move |request: Request<Body>| {
        let service = service.clone();
        async move {
            match service.oneshot(request).await {
                Ok(response) => response.map(Body::new),
                Err(_) => Response::default(),
            }
        }
    };
    Router::new().route("/thing", get(answer))
}

async fn collected(body: Body) -> Bytes {
    body.collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default()
}

const HOUR: Duration = Duration::from_secs(3600);
