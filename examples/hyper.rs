//! The cache around a plain hyper service, over HTTP/1.1 and HTTP/2 on one port.
//!
//! ```sh
//! cargo run --release --example hyper
//! curl -i http://127.0.0.1:3000/
//! curl -i --http2-prior-knowledge http://127.0.0.1:3000/
//! ```
#![allow(clippy::disallowed_methods, reason = "a program starts its own tasks")]

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_response_cache::{CacheConfig, CacheLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = ServiceBuilder::new()
        .layer(CacheLayer::new(CacheConfig::from_env()?))
        .service_fn(answer);

    let port = std::env::var("PORT").unwrap_or_else(|_unset| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _peer) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let mut server = Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new());
            server.http2().timer(TokioTimer::new());
            let connection = server.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("{error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from(format!("this is {}\n", request.uri().path())));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    Ok(response)
}
