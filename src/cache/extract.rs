//! For axum: [`Cache`] as an extractor, and [`CacheOptions`] as response parts.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use http::StatusCode;
use http::request::Parts;

use crate::cache::Cache;
use crate::semantics::CacheOptions;

/// Extracts the cache of the [`CacheLayer`](crate::CacheLayer) around the handler.
///
/// ```
/// use axum::{Router, routing::post};
/// use http::StatusCode;
/// use tower_response_cache::{Cache, CacheConfig, CacheLayer, Purge};
///
/// async fn refresh(cache: Cache) -> StatusCode {
///     match cache.purge(Purge::tag("catalogue")).await {
///         Ok(()) => StatusCode::NO_CONTENT,
///         Err(_) => StatusCode::SERVICE_UNAVAILABLE,
///     }
/// }
///
/// let app: Router = Router::new()
///     .route("/refresh", post(refresh))
///     .layer(CacheLayer::new(CacheConfig::default()));
/// ```
impl<S: Sync> FromRequestParts<S> for Cache {
    type Rejection = NoCacheLayer;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, NoCacheLayer> {
        parts.extensions.get().cloned().ok_or(NoCacheLayer)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Cache {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

/// The rejection of the extractor [`Cache`]: there is no [`CacheLayer`](crate::CacheLayer) around
/// the handler. The response is a 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoCacheLayer;

impl IntoResponse for NoCacheLayer {
    fn into_response(self) -> Response {
        let reason = "the handler needs a Cache, and no CacheLayer is around it";
        (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
    }
}

/// Attaches the options to the response.
///
/// ```
/// use axum::{Json, response::IntoResponse};
/// use tower_response_cache::CacheOptions;
///
/// async fn product() -> impl IntoResponse {
///     (CacheOptions::new().max_age(60).tag("product:7"), Json("a product"))
/// }
/// ```
impl IntoResponseParts for CacheOptions {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}
