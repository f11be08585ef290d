//! Handlers whose responses a test controls step by step, and clients that read them.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use tokio::time::Sleep;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};
use tower_response_cache::{CacheLayer, ResponseBody};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type Ask = Request<Empty<Bytes>>;

/// The response that the layer's clients get.
pub(crate) type Answer = Response<ResponseBody<Script>>;

/// A cached service, with its error.
pub(crate) type App = BoxCloneSyncService<Ask, Answer, BoxError>;

/// One step of a body.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Data(Bytes),
    Wait(Duration),
    Trailers,
    Fail,
    Panic,
    Hang,
}

/// A body that runs one step after the other.
#[derive(Debug)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    known: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            known: false,
            sleep: None,
        }
    }

    /// Gives the body a size hint.
    pub(crate) fn of_known_length(mut self) -> Self {
        self.known = true;
        self
    }

    /// A body of one frame.
    pub(crate) fn whole(data: impl Into<Bytes>) -> Self {
        Self::new([Step::Data(data.into())]).of_known_length()
    }

    fn left(&self) -> u64 {
        let data = self.steps.iter().map(|step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        });
        data.sum()
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Step::Wait(time)) => self.sleep = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Trailers) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-checksum", "1".parse().unwrap());
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Some(Step::Fail) => return Poll::Ready(Some(Err("the body failed".into()))),
                Some(Step::Panic) => panic!("the body panicked, as it was told"),
                Some(Step::Hang) => {
                    self.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.known && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.known {
            true => SizeHint::with_exact(self.left()),
            false => SizeHint::default(),
        }
    }
}

/// A handler behind a layer, and how often it was called.
#[derive(Clone)]
pub(crate) struct Cached {
    pub(crate) app: App,
    calls: Arc<AtomicUsize>,
}

impl Cached {
    /// The handler gets the number of calls before.
    pub(crate) fn new<F, T>(layer: &CacheLayer, handler: F) -> Self
    where
        F: Fn(usize, Ask) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = Result<Response<Script>, BoxError>> + Send + 'static,
    {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let service = tower::service_fn(move |request: Ask| {
            handler(count.fetch_add(1, Ordering::SeqCst), request)
        });
        Self {
            app: BoxCloneSyncService::new(layer.layer(service)),
            calls,
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, BoxError> {
        self.send(get(path)).await
    }

    pub(crate) async fn send(&self, request: Ask) -> Result<Answer, BoxError> {
        self.app.clone().oneshot(request).await
    }

    /// The content and `Cache-Status` of a response.
    pub(crate) async fn text(&self, path: &str) -> (String, String) {
        let answer = self.get(path).await.unwrap();
        let status = status(&answer);
        (content(answer).await.unwrap(), status)
    }
}

pub(crate) fn get(path: &str) -> Ask {
    let uri = format!("http://example.com{path}");
    Request::get(uri).body(Empty::new()).unwrap()
}

pub(crate) fn get_with(path: &str, name: &'static str, value: &str) -> Ask {
    let mut request = get(path);
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

/// A response that may be stored for a minute.
pub(crate) fn fresh(body: Script) -> Response<Script> {
    with("max-age=60", body)
}

/// A response with this `Cache-Control`.
pub(crate) fn with(directives: &str, body: Script) -> Response<Script> {
    Response::builder()
        .header("cache-control", directives)
        .body(body)
        .unwrap()
}

pub(crate) fn status(answer: &Answer) -> String {
    let status = answer.headers().get("cache-status");
    status.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

pub(crate) async fn content(answer: Answer) -> Result<String, BoxError> {
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}
