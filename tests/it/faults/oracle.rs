//! Checks every response, whatever the store does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, VARY};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower_response_cache::ResponseBody;

use super::report::WITHIN;

/// A request, which has one right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    kind: Kind,
    number: u32,
    owner: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// The same for everyone.
    Public,
    /// One for each user: `Vary`.
    Varying,
    /// A request with credentials, whose response must never be stored.
    Private,
    /// The same for everyone, and easy to compress.
    Text,
}

impl Question {
    /// One of some hundred questions, at random.
    pub(crate) fn random(dice: &mut fastrand::Rng) -> Self {
        let (kind, owners) = match dice.u8(..10) {
            0..=6 => (Kind::Public, 1),
            7..=8 => (Kind::Varying, 3),
            _ => (Kind::Private, 3),
        };
        Self {
            kind,
            number: dice.u32(..150),
            owner: dice.u32(..owners),
        }
    }

    /// A question whose answer may be stored for everyone.
    pub(crate) fn public(number: u32) -> Self {
        Self {
            kind: Kind::Public,
            number,
            owner: 0,
        }
    }

    /// As [`Question::public`], with an answer that compresses to next to nothing.
    #[cfg(feature = "zstd")]
    pub(crate) fn text(number: u32) -> Self {
        Self {
            kind: Kind::Text,
            ..Self::public(number)
        }
    }

    pub(crate) fn request(self) -> Request<Body> {
        let request = Request::get(self.target()).header("x-owner", self.owner.to_string());
        let request = match self.kind {
            Kind::Private => request.header(AUTHORIZATION, format!("Bearer {}", self.owner)),
            Kind::Public | Kind::Varying | Kind::Text => request,
        };
        request.body(Body::empty()).unwrap()
    }

    fn target(self) -> String {
        let kind = match self.kind {
            Kind::Public => "public",
            Kind::Varying => "varying",
            Kind::Private => "private",
            Kind::Text => "text",
        };
        format!("http://test/{kind}/{}", self.number)
    }

    fn status(self) -> StatusCode {
        match self.number % 50 {
            17 => StatusCode::NOT_FOUND,
            23 => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::OK,
        }
    }

    /// The body, from 100 bytes to some 16 KiB. No two are alike.
    fn body(self) -> Bytes {
        static BODIES: LazyLock<Mutex<HashMap<Question, Bytes>>> = LazyLock::new(Mutex::default);
        let mut bodies = BODIES.lock().unwrap();
        bodies
            .entry(self)
            .or_insert_with(|| self.make_body())
            .clone()
    }

    fn make_body(self) -> Bytes {
        let mut body = format!("{}|{}|", self.target(), self.owner).into_bytes();
        let seed = u64::from(self.number) << 32 | u64::from(self.owner);
        let mut dice = fastrand::Rng::with_seed(seed);
        let length = 100 + (self.number as usize * 37 % 160) * 100;
        match self.kind {
            Kind::Text => body.extend(body.clone().into_iter().cycle().take(length)),
            _ => body.extend(std::iter::repeat_with(|| dice.u8(..)).take(length)),
        }
        body.into()
    }

    fn answer(self) -> Response<Body> {
        let body = self.body();
        let response = Response::builder()
            .status(self.status())
            .header("x-target", self.target())
            .header("x-owner", self.owner.to_string())
            .header(CONTENT_LENGTH, body.len());
        let response = match self.kind {
            Kind::Public | Kind::Private | Kind::Text => {
                response.header(CACHE_CONTROL, "max-age=600")
            }
            Kind::Varying => response
                .header(CACHE_CONTROL, "max-age=600")
                .header(VARY, "x-owner"),
        };
        response.body(Body::from(body)).unwrap()
    }

    fn of(request: &Request<Body>) -> Self {
        let mut path = request.uri().path().split('/').skip(1);
        let kind = match path.next() {
            Some("varying") => Kind::Varying,
            Some("private") => Kind::Private,
            Some("text") => Kind::Text,
            _ => Kind::Public,
        };
        let owner = request.headers()["x-owner"].to_str().unwrap();
        Self {
            kind,
            number: path.next().unwrap().parse().unwrap(),
            owner: owner.parse().unwrap(),
        }
    }
}

/// The handler. Its response is right by definition, and comes at once.
pub(crate) async fn handle(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    tokio::task::yield_now().await;
    Ok(Question::of(&request).answer())
}

/// The results of the checks.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) checked: AtomicU64,
    pub(crate) hits: AtomicU64,
    /// Responses of another owner, target, length or content, or with another status than the
    /// handler's.
    pub(crate) wrong: AtomicU64,
    /// 5xx that no handler sent, and bodies that broke.
    pub(crate) errors: AtomicU64,
    /// Responses that took longer than [`WITHIN`], with the time of the handler.
    pub(crate) late: AtomicU64,
}

impl Tally {
    /// Reads a response to its end, and compares it with the right answer.
    pub(crate) async fn check(
        self: &Arc<Self>,
        question: Question,
        response: Response<ResponseBody<Body>>,
        took: Duration,
    ) {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let expected = question.answer();
        let text = |headers: &http::HeaderMap, name: &str| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let status = text(&head.headers, "cache-status").unwrap_or_default();
        let hit = status.contains("; hit");
        let same = |name: &str| text(&head.headers, name) == text(expected.headers(), name);
        let right = head.status == expected.status()
            && same("x-target")
            && same("x-owner")
            && same("content-length")
            && body.as_ref().is_ok_and(|body| *body == question.body())
            && !(hit && question.kind == Kind::Private);
        self.checked.fetch_add(1, Ordering::Relaxed);
        if took > WITHIN {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        if hit {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        if head.status.is_server_error() && !expected.status().is_server_error() || body.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        } else if !right {
            self.wrong.fetch_add(1, Ordering::Relaxed);
            eprintln!("wrong: {question:?} got {head:?}");
        }
    }
}
