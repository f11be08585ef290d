//! The side of the clients.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

use crate::fields;
use crate::forward::ForwardError;
use crate::interim::{self, Line};

type BoxError = Box<dyn Error + Send + Sync>;

/// Answers the connections of `listener` until `stop` completes. Responses that are under way then
/// have ten seconds.
pub(crate) async fn serve<S, B>(listener: TcpListener, service: S, stop: impl Future)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = ForwardError>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let server = server();
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _peer)) = accepted else {
            // The process is most likely out of file descriptors, so wait for some to be closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (stream, line) = interim::connection(stream);
        let service = service.clone();
        let answer = service_fn(move |request| answer(service.clone(), line.clone(), request));
        let connection = server
            .serve_connection_with_upgrades(TokioIo::new(stream), answer)
            .into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // An error here means that the client has broken off, or that the proxy has reset it.
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, connections.shutdown()).await;
}

fn server() -> Builder<TokioExecutor> {
    let mut server = Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .preserve_header_case(true)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD as u32);
    server
}

/// Answers one request. A failure becomes a response, never a closed connection.
async fn answer<S, B>(
    service: S,
    line: Line,
    mut request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = ForwardError>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    if let Some(status) = own_answer(&request) {
        return Ok(plain(status));
    }
    let version = request.version();
    if version == Version::HTTP_11 {
        request.extensions_mut().insert(line.open());
    }
    let answer = service.oneshot(request).await;
    line.close();
    Ok(match answer {
        Ok(response) => response.map(|body| {
            body.map_err(move |error| {
                // The end of a body for HTTP/1.0 is the end of the connection: only a reset
                // tells that this one was cut short.
                if version == Version::HTTP_10 {
                    line.reset_at_end();
                }
                error.into()
            })
            .boxed_unsync()
        }),
        Err(error) => plain(error.status()),
    })
}

/// The status of requests that do not go on to the origin.
fn own_answer<B>(request: &Request<B>) -> Option<StatusCode> {
    if request.method() == Method::CONNECT || !fields::only_chunked(request.headers()) {
        // RFC 9112, 6.1: a server that receives a transfer coding that it does not
        // understand SHOULD respond with 501.
        return Some(StatusCode::NOT_IMPLEMENTED);
    }
    // RFC 9110, 7.6.2: if the received value is zero, the intermediary MUST NOT forward
    // the request; instead, it MUST respond as the final recipient.
    match (request.method(), fields::max_forwards(request.headers())) {
        (&Method::OPTIONS, Some(0)) => Some(StatusCode::OK),
        (&Method::TRACE, Some(0)) => Some(StatusCode::METHOD_NOT_ALLOWED),
        _ => None,
    }
}

fn plain(status: StatusCode) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
    let text = status.canonical_reason().unwrap_or_default();
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

/// The largest head of a message, in bytes; hyper's own limits are nearer to what one
/// application needs than to what all of them together might.
pub(crate) const MAX_HEAD: usize = 1024 * 1024;
/// The most field lines of a message; hyper's default is 100.
pub(crate) const MAX_FIELDS: usize = 4096;
const GRACE: Duration = Duration::from_secs(10);
