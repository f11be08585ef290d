//! The handler behind every instance: its resources change, and answer as the steps say.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
    SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tokio::time::{sleep, timeout};
use tower_response_cache::BoxFuture;

use crate::body::{Frames, NoBody, SimBody, SimError};
use crate::content::content;
use crate::facts::Facts;
use crate::fields::{RESOURCES, directives, etag, modified, path, resource_of, size, tag, vary};
use crate::step::{By, ChangeAnswer, Check, Extra, Length, Mode, OnMatch, Status};
use crate::trace::{Answered, Call, Recorder};

/// All resources, whichever instance asks.
#[derive(Debug)]
pub struct Origin {
    resources: Mutex<Vec<Resource>>,
    recorder: Recorder,
    /// Whether the policy keys by the cookie that says who asks.
    keyed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Resource {
    version: u32,
    mode: Mode,
    answers: u32,
}

impl Origin {
    pub fn new(recorder: Recorder, keyed: bool) -> Arc<Self> {
        let resource = Resource {
            version: 1,
            ..Resource::default()
        };
        Arc::new(Self {
            resources: Mutex::new(vec![resource; RESOURCES.into()]),
            recorder,
            keyed,
        })
    }

    pub fn set_mode(&self, mode: Mode) {
        self.with(mode.r, |resource| resource.mode = mode);
        self.recorder
            .note(|trace, now| trace.modes.push((now, mode)));
    }

    pub fn touch(&self, r: u8) {
        self.with(r, |resource| resource.version += 1);
        self.recorder
            .note(|trace, now| trace.touches.push((now, r)));
    }

    pub fn version(&self, r: u8) -> u32 {
        self.with(r, |resource| resource.version)
    }

    /// The validators of a resource as they are now, for a requester, or as they were `back`
    /// versions ago.
    pub fn validators(&self, r: u8, facts: &Facts, back: u32) -> (String, String) {
        let Resource { version, mode, .. } = self.with(r, |resource| *resource);
        let version = version.saturating_sub(back);
        (etag(r, version, &mode, facts), modified(&mode, version))
    }

    fn with<T>(&self, r: u8, change: impl FnOnce(&mut Resource) -> T) -> T {
        let mut resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut resources[usize::from(r % RESOURCES)])
    }

    fn bump(&self, r: u8) -> (u8, u32) {
        let r = r % RESOURCES;
        self.with(r, |resource| {
            resource.version += 1;
            (r, resource.version)
        })
    }

    async fn answer(
        self: Arc<Self>,
        instance: u8,
        request: Request<NoBody>,
    ) -> Result<Response<SimBody>, SimError> {
        let headers = request.headers();
        let number =
            |name: &str| -> Option<usize> { headers.get(name)?.to_str().ok()?.parse().ok() };
        let r = resource_of(request.uri().path());
        let Resource { version, mode, .. } = self.with(r, |resource| {
            resource.answers += 1;
            *resource
        });
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let wrote = match is_safe {
            true => Vec::new(),
            false => self.write(r, number("x-answer")),
        };
        let call = Call {
            at: instance,
            via: headers.contains_key("x-via"),
            exchange: number("x-exchange").unwrap_or(usize::MAX),
            r,
            is_head: request.method() == Method::HEAD,
            facts: Facts::of(headers, self.keyed),
            mode,
            version: wrote.first().map_or(version, |(_, version)| *version),
            wrote,
            began: self.recorder.note(|_, now| now),
            answered: None,
        };
        let n = self.recorder.note(|trace, _| {
            trace.calls.push(call.clone());
            trace.calls.len() - 1
        });
        let work = async {
            match is_safe {
                true => self.read(n, &call, request.headers()).await,
                false => change(n, &call, number("x-answer"), number("x-before")).await,
            }
        };
        let cut = number("x-cut").filter(|cut| *cut > 0);
        let answer = match cut {
            None => work.await,
            Some(cut) => match timeout(Duration::from_millis(cut as u64), work).await {
                Ok(answer) => answer,
                Err(_elapsed) => {
                    let mut response = Response::new(SimBody::empty());
                    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
                    response
                        .headers_mut()
                        .insert("x-call", HeaderValue::from(n));
                    self.answered(n, Answered::Cut);
                    return Ok(response);
                }
            },
        };
        self.answered(
            n,
            match &answer {
                Ok(response) => Answered::Status(response.status().as_u16()),
                Err(_) => Answered::Error,
            },
        );
        answer
    }

    fn answered(&self, n: usize, answer: Answered) {
        self.recorder
            .note(|trace, now| trace.calls[n].answered = Some((now, answer)));
    }

    /// What an unsafe request changes, before its handler waits for anything.
    fn write(&self, r: u8, answer: Option<usize>) -> Vec<(u8, u32)> {
        match answer.map(change_answer) {
            Some(ChangeAnswer::Refused | ChangeAnswer::Failed) => Vec::new(),
            Some(ChangeAnswer::Created) => vec![self.bump(r), self.bump(r + 1)],
            _ => vec![self.bump(r)],
        }
    }

    async fn read(
        &self,
        n: usize,
        call: &Call,
        headers: &HeaderMap,
    ) -> Result<Response<SimBody>, SimError> {
        let mode = &call.mode;
        if mode.delay > 0 {
            sleep(Duration::from_millis(mode.delay.into())).await;
        }
        let status = match mode.status {
            Status::Ok => StatusCode::OK,
            Status::NotFound => StatusCode::NOT_FOUND,
            Status::Guarded if call.facts.user == "-" => StatusCode::UNAUTHORIZED,
            Status::Guarded => StatusCode::OK,
            Status::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Status::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Status::Error => return Err(SimError(n)),
            Status::Panic => std::panic::panic_any(PANIC),
        };
        if status == StatusCode::OK && mode.on_match != OnMatch::Whole && matches(call, headers) {
            return Ok(self.not_modified(n, call));
        }
        let size = size(mode);
        let mut response = Response::new(SimBody::empty());
        *response.status_mut() = status;
        self.describe(n, call, response.headers_mut());
        let text = format!(
            "text/{}",
            if status == StatusCode::OK {
                "page"
            } else {
                "notice"
            }
        );
        insert(response.headers_mut(), CONTENT_TYPE, &text);
        if mode.length == Length::Declared && mode.end != crate::step::End::Trailers {
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(size));
        }
        if call.is_head && mode.on_match == OnMatch::Narrow {
            insert(response.headers_mut(), VARY, "accept-encoding");
        }
        match mode.extra {
            Extra::Nothing => {}
            Extra::SetCookie => insert(response.headers_mut(), SET_COOKIE, &format!("for={n}")),
            Extra::ClearSiteData => {
                let name = HeaderName::from_static("clear-site-data");
                insert(response.headers_mut(), name, "\"cache\"");
            }
        }
        if !call.is_head {
            let fact = call.facts.fact(mode.depends_on());
            let body = content(n, fact, size);
            *response.body_mut() = SimBody::new(Frames::of(body, n, mode));
        }
        Ok(response)
    }

    fn not_modified(&self, n: usize, call: &Call) -> Response<SimBody> {
        let mut response = Response::new(SimBody::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        let headers = response.headers_mut();
        self.describe(n, call, headers);
        match call.mode.on_match {
            OnMatch::Narrow => insert(headers, VARY, "accept-encoding"),
            OnMatch::Typed => insert(headers, CONTENT_TYPE, "text/nothing"),
            OnMatch::OtherTag => insert(headers, ETAG, "\"another\""),
            OnMatch::Draft => insert(headers, HeaderName::from_static("x-draft"), "yes"),
            OnMatch::NotModified | OnMatch::Whole => {}
        }
        response
    }

    /// The fields that every response has.
    fn describe(&self, n: usize, call: &Call, headers: &mut HeaderMap) {
        let mode = &call.mode;
        headers.insert("x-call", HeaderValue::from(n));
        insert(headers, HeaderName::from_static("cache-tag"), &tag(call.r));
        for (name, value) in directives(mode.cc) {
            insert(headers, HeaderName::from_static(name), value);
        }
        if let Some(names) = vary(mode, self.keyed, &call.facts, n) {
            insert(headers, VARY, &names);
        }
        if call.mode.depends_on() == By::Origin && call.facts.origin != "-" {
            let name = HeaderName::from_static("access-control-allow-origin");
            insert(headers, name, &call.facts.origin);
        }
        match mode.check {
            Check::Strong | Check::Weak => {
                insert(
                    headers,
                    ETAG,
                    &etag(call.r, call.version, mode, &call.facts),
                );
            }
            Check::Date | Check::Coarse => {
                insert(headers, LAST_MODIFIED, &modified(mode, call.version));
            }
            Check::None => {}
        }
    }
}

async fn change(
    n: usize,
    call: &Call,
    answer: Option<usize>,
    before: Option<usize>,
) -> Result<Response<SimBody>, SimError> {
    if let Some(before) = before.filter(|before| *before > 0) {
        sleep(Duration::from_millis(before as u64)).await;
    }
    let mut response = Response::new(SimBody::empty());
    response
        .headers_mut()
        .insert("x-call", HeaderValue::from(n));
    let location = format!("http://{AUTHORITY}{}", path(call.r + 1));
    *response.status_mut() = match answer.map_or(ChangeAnswer::NoContent, change_answer) {
        ChangeAnswer::NoContent => StatusCode::NO_CONTENT,
        ChangeAnswer::Ok => StatusCode::OK,
        ChangeAnswer::Created => {
            insert(response.headers_mut(), LOCATION, &location);
            StatusCode::CREATED
        }
        ChangeAnswer::SeeOther => {
            insert(response.headers_mut(), LOCATION, &location);
            StatusCode::SEE_OTHER
        }
        ChangeAnswer::Refused => StatusCode::CONFLICT,
        ChangeAnswer::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        ChangeAnswer::Error => return Err(SimError(n)),
        ChangeAnswer::Panic => std::panic::panic_any(PANIC),
    };
    Ok(response)
}

/// How unsafe requests carry to the handler what it is to answer.
pub fn change_answer(number: usize) -> ChangeAnswer {
    ChangeAnswer::ALL.get(number).copied().unwrap_or_default()
}

/// Whether the request's precondition says that the client has it already.
fn matches(call: &Call, headers: &HeaderMap) -> bool {
    let sent = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match call.mode.check {
        Check::Strong | Check::Weak => {
            let own = etag(call.r, call.version, &call.mode, &call.facts);
            let weak = own.trim_start_matches("W/");
            sent(IF_NONE_MATCH).is_some_and(|tag| tag.trim_start_matches("W/") == weak)
        }
        Check::Date | Check::Coarse => {
            !headers.contains_key(IF_NONE_MATCH)
                && sent(IF_MODIFIED_SINCE)
                    .is_some_and(|it| it == modified(&call.mode, call.version))
        }
        Check::None => false,
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The handler as one instance calls it.
#[derive(Clone, Debug)]
pub struct Handler {
    pub origin: Arc<Origin>,
    pub instance: u8,
}

impl tower_service::Service<Request<NoBody>> for Handler {
    type Response = Response<SimBody>;
    type Error = SimError;
    type Future = BoxFuture<'static, Result<Response<SimBody>, SimError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), SimError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<NoBody>) -> Self::Future {
        Box::pin(Arc::clone(&self.origin).answer(self.instance, request))
    }
}

/// What the clients' URLs have for an authority.
pub const AUTHORITY: &str = "h.org";

/// What the handler's panics say.
pub const PANIC: &str = "simulated";
