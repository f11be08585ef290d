//! The services that the layer can wrap.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::response::error::BoxError;

/// A service whose clones each answer one request.
pub(crate) trait Handler<B, R>:
    Service<Request<B>, Response = Response<R>, Future: Send, Error: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S, B, R> Handler<B, R> for S where
    S: Service<Request<B>, Response = Response<R>, Future: Send, Error: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// A response body that can be recorded. It need be neither `Sync` nor `Unpin`.
pub(crate) trait Content:
    Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static
{
}

impl<R> Content for R where R: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static {}

/// The handler for one request, and the request's body. They stand apart from [`Miss`], which is
/// shared across `await`s, since neither need be `Sync`.
///
/// [`Miss`]: crate::request::miss::Miss
pub(crate) struct Inner<S, B> {
    pub(crate) service: S,
    pub(crate) body: B,
}
