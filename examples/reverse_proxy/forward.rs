//! The side of the origin.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tower::Service;

use crate::fields;
use crate::interim::Interim;
use crate::serve::{MAX_FIELDS, MAX_HEAD};

type BoxError = Box<dyn Error + Send + Sync>;

/// A service that forwards each request once to one origin, over pooled connections.
#[derive(Debug)]
pub(crate) struct Origin<B> {
    client: Client<HttpConnector, B>,
    authority: Authority,
    timeout: Option<Duration>,
    via: bool,
}

impl<B> Origin<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// `timeout` is how long the head of a response may take.
    pub(crate) fn new(authority: Authority, timeout: Option<Duration>, via: bool) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .retry_canceled_requests(false)
            .http1_preserve_header_case(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_max_headers(MAX_FIELDS)
            .http1_max_buf_size(MAX_HEAD)
            .build(connector);
        Self {
            client,
            authority,
            timeout,
            via,
        }
    }

    async fn forward(self, mut request: Request<B>) -> Result<Response<Incoming>, ForwardError> {
        let upgrade = fields::upgrade(request.version(), request.headers());
        let tunnel = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let request = self.outgoing(request, upgrade)?;
        let response = self.client.request(request);
        let response = match self.timeout {
            Some(limit) => tokio::time::timeout(limit, response)
                .await
                .map_err(|_elapsed| ForwardError::Late)?,
            None => response.await,
        };
        self.incoming(response.map_err(ForwardError::from_client)?, tunnel)
    }

    /// The request as it goes to the origin.
    fn outgoing(
        &self,
        mut request: Request<B>,
        upgrade: Option<HeaderValue>,
    ) -> Result<Request<B>, ForwardError> {
        let host = request.uri().authority().map(host).transpose()?;
        let version = std::mem::replace(request.version_mut(), Version::HTTP_11);
        *request.uri_mut() = self.target(request.uri())?;
        if let Some(interim) = request.extensions_mut().remove::<Interim>() {
            hyper::ext::on_informational(&mut request, move |response| {
                // hyper's server sends its own 100.
                if response.status() != StatusCode::CONTINUE {
                    let mut headers = response.headers().clone();
                    fields::strip_hop_by_hop(&mut headers);
                    interim.send(response.status(), &headers);
                }
            });
        }
        fields::count_down(&request.method().clone(), request.headers_mut());
        let unsized_body =
            !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
        let headers = request.headers_mut();
        let trailers = fields::accepts_trailers(headers);
        fields::strip_hop_by_hop(headers);
        fields::join_cookies(headers);
        if let Some(host) = host {
            // RFC 9112, 3.2.2: a server that receives the absolute-form MUST ignore the
            // received Host header field and instead use the host of the request-target.
            headers.insert(header::HOST, host);
        }
        if unsized_body && !headers.contains_key(header::CONTENT_LENGTH) {
            // hyper would send a GET without its body.
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let options = match (trailers, upgrade.is_some()) {
            (true, true) => Some("te, upgrade"),
            (true, false) => Some("te"),
            (false, true) => Some("upgrade"),
            (false, false) => None,
        };
        if let Some(options) = options {
            headers.insert(header::CONNECTION, HeaderValue::from_static(options));
        }
        if let Some(protocols) = upgrade {
            headers.insert(header::UPGRADE, protocols);
        }
        if self.via {
            fields::add_via(version, headers);
        }
        Ok(request)
    }

    /// The response as it goes to the client.
    fn incoming(
        &self,
        mut response: Response<Incoming>,
        tunnel: Option<OnUpgrade>,
    ) -> Result<Response<Incoming>, ForwardError> {
        let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if fields::compressed(response.headers()) || (switching && tunnel.is_none()) {
            return Err(ForwardError::Failed("not asked for by the request".into()));
        }
        let protocols = response.headers().get(header::UPGRADE).cloned();
        fields::strip_hop_by_hop(response.headers_mut());
        if let (true, Some(client)) = (switching, tunnel) {
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.extend(protocols.map(|protocols| (header::UPGRADE, protocols)));
            tokio::spawn(carry(client, hyper::upgrade::on(&mut response)));
        }
        if self.via {
            fields::add_via(version, response.headers_mut());
        }
        Ok(response)
    }

    /// The same target at the origin, byte for byte.
    fn target(&self, uri: &Uri) -> Result<Uri, ForwardError> {
        let path = uri.path_and_query().cloned();
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
            .build()
            .map_err(|invalid| ForwardError::Failed(invalid.into()))
    }
}

// By hand, as a derived one would ask for `B: Clone`.
impl<B> Clone for Origin<B> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            authority: self.authority.clone(),
            timeout: self.timeout,
            via: self.via,
        }
    }
}

impl<B> Service<Request<B>> for Origin<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<Incoming>;
    type Error = ForwardError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.clone().forward(request))
    }
}

/// Why there is no response of the origin.
#[derive(Debug)]
pub(crate) enum ForwardError {
    /// The response did not come in time.
    Late,
    /// There was no connection, or it broke, or the response was not HTTP.
    Failed(BoxError),
}

impl ForwardError {
    /// The status that the client gets.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed(_) => StatusCode::BAD_GATEWAY,
        }
    }

    fn from_client(error: hyper_util::client::legacy::Error) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            match error.downcast_ref::<io::Error>() {
                Some(error) if error.kind() == io::ErrorKind::TimedOut => return Self::Late,
                _ => cause = error.source(),
            }
        }
        Self::Failed(error.into())
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => formatter.write_str("the origin did not answer in time"),
            Self::Failed(error) => write!(formatter, "the origin did not answer: {error}"),
        }
    }
}

impl Error for ForwardError {}

/// Carries bytes both ways until both sides have ended.
async fn carry(client: OnUpgrade, origin: OnUpgrade) {
    if let (Ok(client), Ok(origin)) = tokio::join!(client, origin) {
        let (mut client, mut origin) = (TokioIo::new(client), TokioIo::new(origin));
        let _ = tokio::io::copy_bidirectional(&mut client, &mut origin).await;
    }
}

/// An authority as the value of `Host`, which has no user information.
fn host(authority: &Authority) -> Result<HeaderValue, ForwardError> {
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    HeaderValue::from_str(host).map_err(|invalid| ForwardError::Failed(invalid.into()))
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be idle. Many origins close theirs after five seconds, and a request
/// on a closing connection fails, since it is not sent again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
