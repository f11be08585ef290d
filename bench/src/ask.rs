//! The requests to an app.

use axum::Router;
use axum::body::Body;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use tower::Service;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Get,
    Head,
    /// A GET with the entity tag of the stored response.
    IfNoneMatch,
    Post,
    Options,
    /// A GET of a URL whose response may not be stored.
    NoStore,
    /// A GET of a URL that was never requested before.
    Unique,
}

impl Ask {
    #[must_use]
    pub fn request(self, number: usize) -> Request<Body> {
        match self {
            Self::Get => at(Method::GET, "/thing"),
            Self::Head => at(Method::HEAD, "/thing"),
            Self::Post => at(Method::POST, "/thing"),
            Self::Options => at(Method::OPTIONS, "/thing"),
            Self::NoStore => at(Method::GET, "/secret"),
            Self::Unique => at(Method::GET, &format!("/thing?{number}")),
            Self::IfNoneMatch => {
                let mut request = at(Method::GET, "/thing");
                let tag = http::HeaderValue::from_static("\"v1\"");
                request.headers_mut().insert(header::IF_NONE_MATCH, tag);
                request
            }
        }
    }
}

/// A request with the fields that every client sends.
#[must_use]
pub fn at(method: Method, uri: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header(header::HOST, "bench.example")
        .header(header::USER_AGENT, "bench")
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_ENCODING, "gzip, br")
        .body(Body::empty())
        .expect("a request")
}

/// The app as `axum::serve` serves it: without this, each call would make all routes anew.
pub fn served(app: Router) -> Router {
    app.with_state(())
}

/// One exchange, its body read to the end; its length.
pub async fn exchange(app: &mut Router, request: Request<Body>) -> usize {
    let Ok(response) = Service::<Request<Body>>::call(app, request).await;
    let body = response.into_body().collect().await;
    body.map_or(0, |body| body.to_bytes().len())
}
