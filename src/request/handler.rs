//! What the layer can be put around.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

/// Any error, as the ecosystem boxes it.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

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

/// The body of a response that can be recorded: not `Sync`, nor `Unpin`.
pub(crate) trait Content:
    Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static
{
}

impl<R> Content for R where R: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static {}
