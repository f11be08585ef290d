//! Clients: what they send, how they read, and when they leave.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http::header::{
    ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, COOKIE, HOST, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, ORIGIN, RANGE, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout_at};
use tower::ServiceExt;

use crate::body::{NoBody, SimError};
use crate::facts::Facts;
use crate::fields::path;
use crate::handler::{AUTHORITY, Origin};
use crate::step::{Asks, Change, ChangeAnswer, Cond, Get, Host, How, Method, Range, User};
use crate::trace::{Asked, BodyEnd, Exchange, Outcome, Recorder, Seen};
use crate::world::Service;

/// Sends a request and reads what comes, as its step says.
pub async fn exchange(
    service: Service,
    asked: Asked,
    origin: &Origin,
    recorder: Recorder,
    keyed: bool,
) {
    let mut headers = HeaderMap::new();
    let sent = match &asked {
        Asked::Get(get) => fields_of_get(get, origin, keyed, &mut headers),
        Asked::Change(change) => fields_of_change(change, &mut headers),
    };
    let facts = Facts::of(&headers, keyed);
    let credentials = has_credentials(&asked, &headers);
    let id = recorder.note(|trace, began| {
        trace.exchanges.push(Exchange {
            asked,
            began,
            head: None,
            ended: None,
            outcome: Outcome::Pending,
            sent,
            facts,
            credentials,
        });
        trace.exchanges.len() - 1
    });
    set(&mut headers, "x-exchange", &id.to_string());
    let (method, target, leave, slow) = match &asked {
        Asked::Get(get) => (
            if get.head { "HEAD" } else { "GET" },
            target(get.r, get.utm),
            get.leave,
            get.slow,
        ),
        Asked::Change(change) => (
            match change.method {
                Method::Put => "PUT",
                Method::Post => "POST",
                Method::Delete => "DELETE",
            },
            target(change.r, change.utm),
            change.leave,
            0,
        ),
    };
    let mut request = Request::new(NoBody::new());
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = target.parse().unwrap();
    *request.headers_mut() = headers;
    if has_session(&asked) {
        request.extensions_mut().insert(Session);
    }
    let reading = Reading {
        id,
        recorder: recorder.clone(),
        slow,
    };
    let leaves = (leave > 0).then(|| Instant::now() + Duration::from_millis(leave.into()));
    // In a task of its own, so that a panic of the handler ends nothing else.
    #[allow(clippy::disallowed_methods, reason = "a client is a task of its own")]
    let task = tokio::spawn(until(leaves, reading.run(service, request)));
    match task.await {
        Ok(true) => {}
        Ok(false) => recorder.note(|trace, now| leave_at(&mut trace.exchanges[id], now)),
        Err(_panicked) => recorder.note(|trace, now| {
            let exchange = &mut trace.exchanges[id];
            exchange.outcome = Outcome::Panicked;
            exchange.ended = Some(now);
        }),
    }
}

/// What middleware outside the cache knows of who asks.
#[derive(Clone, Copy, Debug)]
pub struct Session;

fn has_session(asked: &Asked) -> bool {
    matches!(asked, Asked::Get(get) if get.session)
}

/// Whether the request says who asks: a cookie that the policy ignores does not.
fn has_credentials(asked: &Asked, headers: &HeaderMap) -> bool {
    let cookie = headers.get(COOKIE).is_some_and(|it| it != THEME);
    cookie || headers.contains_key(AUTHORIZATION) || has_session(asked)
}

/// A cookie that says nothing of who asks.
const THEME: &str = "theme=dark";

fn leave_at(exchange: &mut Exchange, now: crate::trace::Moment) {
    exchange.ended = Some(now);
    match &mut exchange.outcome {
        Outcome::Response(seen) => seen.end = BodyEnd::Left,
        outcome => *outcome = Outcome::Left,
    }
}

/// Whether it came to its end before the client left.
async fn until(leaves: Option<Instant>, work: impl Future<Output = ()>) -> bool {
    match leaves {
        None => {
            work.await;
            true
        }
        Some(leaves) => timeout_at(leaves, work).await.is_ok(),
    }
}

struct Reading {
    id: usize,
    recorder: Recorder,
    slow: u32,
}

impl Reading {
    async fn run(self, service: Service, request: Request<NoBody>) {
        let Self { id, recorder, .. } = &self;
        match service.oneshot(request).await {
            Err(SimError(call)) => recorder.note(|trace, now| {
                let exchange = &mut trace.exchanges[*id];
                exchange.head = Some(now);
                exchange.ended = Some(now);
                exchange.outcome = Outcome::Error(call);
            }),
            Ok(response) => self.read(response).await,
        }
    }

    async fn read<B>(&self, response: Response<B>)
    where
        B: Body<Data = bytes::Bytes>,
    {
        let (head, body) = response.into_parts();
        let Self { id, recorder, slow } = self;
        recorder.note(|trace, now| {
            let exchange = &mut trace.exchanges[*id];
            exchange.head = Some(now);
            exchange.outcome = Outcome::Response(Seen {
                status: head.status.as_u16(),
                headers: head.headers,
                body: Vec::new(),
                end: BodyEnd::Pending,
            });
        });
        let mut body = pin!(body);
        let end = loop {
            if *slow > 0 {
                sleep(Duration::from_millis((*slow).into())).await;
            }
            match body.frame().await {
                None => break BodyEnd::Clean,
                Some(Err(_)) => break BodyEnd::Broken,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.with_seen(|seen| seen.body.extend_from_slice(&data));
                    }
                }
            }
        };
        self.with_seen(|seen| seen.end = end);
        recorder.note(|trace, now| trace.exchanges[*id].ended = Some(now));
    }

    fn with_seen(&self, change: impl FnOnce(&mut Seen)) {
        self.recorder.note(|trace, _| {
            if let Outcome::Response(seen) = &mut trace.exchanges[self.id].outcome {
                change(seen);
            }
        });
    }
}

fn target(r: u8, utm: bool) -> String {
    let path = path(r);
    match (utm, path.contains('?')) {
        (false, _) => path,
        (true, false) => format!("{path}?utm_source=x"),
        (true, true) => format!("{path}&utm_source=x"),
    }
}

/// What the client sent for a validator, if it did.
fn fields_of_get(
    get: &Get,
    origin: &Origin,
    keyed: bool,
    headers: &mut HeaderMap,
) -> Option<String> {
    let host = match get.host {
        Host::Plain => AUTHORITY.to_owned(),
        Host::Port => format!("{AUTHORITY}:80"),
        Host::Capitals => AUTHORITY.to_uppercase(),
    };
    set(headers, HOST, &host);
    identify(get, headers);
    if get.lang > 0 {
        set(headers, ACCEPT_LANGUAGE, &format!("l{}", get.lang));
    }
    if get.origin > 0 {
        set(headers, ORIGIN, &format!("o{}", get.origin));
    }
    if get.proxied {
        set(headers, "x-forwarded-host", "front.org");
    }
    if get.upgrade {
        set(headers, CONNECTION, "upgrade, http2-settings");
        set(headers, UPGRADE, "h2c");
    }
    if get.via {
        set(headers, "x-via", "yes");
    }
    match get.range {
        Range::None => {}
        Range::First => set(headers, RANGE, "bytes=0-79"),
        Range::Last => set(headers, RANGE, "bytes=-80"),
        Range::Beyond => set(headers, RANGE, "bytes=1000000-"),
    }
    match get.asks {
        Asks::Nothing => {}
        Asks::NoStore => set(headers, CACHE_CONTROL, "no-store"),
        Asks::OnlyIfCached => set(headers, CACHE_CONTROL, "only-if-cached"),
    }
    let facts = Facts::of(headers, keyed);
    let (name, sent) = match get.cond {
        Cond::None => return None,
        Cond::Current => (IF_NONE_MATCH, origin.validators(get.r, &facts, 0).0),
        Cond::Old => (IF_NONE_MATCH, origin.validators(get.r, &facts, 1).0),
        Cond::Other => (IF_NONE_MATCH, "\"other\"".to_owned()),
        Cond::Since => (IF_MODIFIED_SINCE, origin.validators(get.r, &facts, 0).1),
    };
    set(headers, name, &sent);
    Some(sent)
}

fn identify(get: &Get, headers: &mut HeaderMap) {
    let user = match get.user {
        User::Nobody => None,
        User::Alice => Some("alice"),
        User::Bob => Some("bob"),
    };
    let beside = get.how == How::Beside;
    let cookie = match (user, get.how) {
        (None, How::Beside) => THEME.to_owned(),
        (None, _) => return,
        (Some(user), How::Authorization) => {
            set(headers, AUTHORIZATION, &format!("Bearer {user}"));
            return;
        }
        (Some(user), How::Twice) => format!("sid=deleted; sid={user}"),
        (Some(user), How::Spaced) => format!("sid ={user}"),
        (Some(user), How::Escaped) => format!("s%69d={user}"),
        (Some(user), _) if beside => format!("theme=dark; sid={user}"),
        (Some(user), _) => format!("sid={user}"),
    };
    set(headers, COOKIE, &cookie);
}

fn fields_of_change(change: &Change, headers: &mut HeaderMap) -> Option<String> {
    set(headers, HOST, AUTHORITY);
    let answer = ChangeAnswer::ALL.iter().position(|it| *it == change.answer);
    set(headers, "x-answer", &answer.unwrap_or_default().to_string());
    set(headers, "x-before", &change.before.to_string());
    set(headers, "x-cut", &change.cut.to_string());
    if change.via {
        set(headers, "x-via", "yes");
    }
    None
}

fn set(
    headers: &mut HeaderMap,
    name: impl TryInto<HeaderName, Error: std::fmt::Debug>,
    value: &str,
) {
    headers.insert(
        name.try_into().unwrap(),
        HeaderValue::from_str(value).unwrap(),
    );
}
