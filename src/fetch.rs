//! Asking the handler: the call, and what its answer does to the cache.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, response};
use http_body::Body;
use tokio::time::timeout;
use tower::util::Oneshot;
use tower_service::Service;

use crate::answer::Asked;
use crate::body::ResponseBody;
use crate::cache::Cache;
use crate::clock::Timestamp;
use crate::entry::{Entry, Head, StoredHeaders, Verified};
use crate::fill::{Gathered, Landing, Plan, Recorded, gather};
use crate::flight::{Leader, Offer, Requester, Uncacheable};
use crate::flow::{Call, Flow, Stale};
use crate::future::passed;
use crate::key::Key;
use crate::layer::Settings;
use crate::policy::{
    self, Admitted, CacheOptions, Exchange, Freshened, HeadOutcome, LanguageRule, Lifetimes,
    MethodClass, Refusal, RequestFacts,
};
use crate::position::LogPosition;
use crate::status::{Forwarded, Outcome};
use crate::store::{Lookup, Stored};
use crate::task;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One call of the handler on behalf of a request that the cache could not answer.
pub(crate) struct Fetch {
    parts: Parts,
    visit: Visit,
}

/// What of the request is still needed when the handler has answered.
struct Visit {
    settings: Arc<Settings>,
    facts: RequestFacts,
    /// The client's own, before the cache made the request conditional.
    headers: HeaderMap,
    lookup: Lookup,
    stale: Stale,
    leader: Option<Leader>,
    /// How far the purge log had been read before the handler was called: a purge that comes
    /// while it works is later, and wins.
    position: LogPosition,
    request_time: Timestamp,
    response_time: Timestamp,
}

impl Fetch {
    pub(crate) fn new(flow: Flow, stale: Stale, leader: Option<Leader>) -> Self {
        let Flow {
            settings,
            mut parts,
            facts,
            lookup,
            ..
        } = flow;
        let headers = parts.headers.clone();
        match &stale {
            Stale::Refreshing(entry) => {
                policy::make_conditional(&mut parts.headers, entry.head.headers.ready());
            }
            stale => {
                if let Some(entry) = stale.validated() {
                    policy::make_conditional(&mut parts.headers, entry.head.headers.ready());
                }
            }
        }
        let now = settings.cache.now();
        Self {
            parts,
            visit: Visit {
                position: settings.cache.log().view().tail(),
                settings,
                facts,
                headers,
                lookup,
                stale,
                leader,
                request_time: now,
                response_time: now,
            },
        }
    }

    pub(crate) async fn run<S, B, R>(
        self,
        call: Call<S, B>,
    ) -> Result<Response<ResponseBody<R>>, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send + 'static,
        B: Body + Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError> + Send,
    {
        let Self {
            mut parts,
            mut visit,
        } = self;
        let Call { inner, body } = call;
        parts.extensions.insert(visit.cache().clone());
        let request = Request::from_parts(parts, body);
        let mut call = pin!(Oneshot::new(inner, request));
        if let Some(patience) = visit.patience() {
            let in_time = timeout(patience, call.as_mut()).await;
            match in_time {
                Ok(response) => return visit.ended(response).await,
                Err(_elapsed) => {
                    if let Some(stale) = visit.timed_out() {
                        return Ok(stale);
                    }
                }
            }
        }
        visit.ended(call.await).await
    }
}

/// The exchange of a `POST` whose response may be stored for `GET`.
pub(crate) struct Posted {
    pub(crate) settings: Arc<Settings>,
    /// The request's.
    pub(crate) headers: HeaderMap,
    pub(crate) target: Key,
    /// Keeps others from overlooking this exchange, under a key that nobody waits for.
    pub(crate) leader: Leader,
    /// How far the purge log had been read before the handler was called.
    pub(crate) position: LogPosition,
    pub(crate) request_time: Timestamp,
}

impl Posted {
    /// Stores the response if it says that it is what `GET` of `uri` would get.
    pub(crate) async fn keep<R>(self, uri: &Uri, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError> + Send,
    {
        let Self {
            settings,
            headers,
            target,
            leader,
            position,
            request_time,
        } = self;
        let response_time = settings.cache.now();
        let visit = Visit {
            facts: RequestFacts {
                // The request's content is answered, not stored under.
                body: false,
                ..RequestFacts::read(&Method::GET, &headers)
            },
            settings,
            headers,
            lookup: Lookup {
                base: target,
                marker: None,
                variant: None,
                entry: None,
            },
            stale: Stale::Nothing(Forwarded::Method, "method"),
            leader: Some(leader),
            position,
            request_time,
            response_time,
        };
        let (head, body) = response.into_parts();
        let rules = &visit.settings.policy.rules;
        match policy::admit_posted(&visit.exchange(&head), uri, rules) {
            Ok(admitted) => visit.record(head, body, admitted).await,
            Err(_refusal) => {
                let response = Response::from_parts(head, body);
                passed(response, visit.stale.outcome(), visit.cache())
            }
        }
    }
}

impl Visit {
    /// The call of the handler has come to its end.
    async fn ended<R, E>(
        mut self,
        response: Result<Response<R>, E>,
    ) -> Result<Response<ResponseBody<R>>, E>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError> + Send,
    {
        self.response_time = self.cache().now();
        match response {
            Err(error) => self.failed().ok_or(error),
            Ok(response) if policy::is_failure(response.status()) => {
                Ok(self.server_error(response).await)
            }
            Ok(response) => Ok(self.answered(response).await),
        }
    }

    /// The handler answered, whatever it was.
    async fn answered<R>(mut self, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError> + Send,
    {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::NOT_MODIFIED
            && let Some(entry) = self.stale.validated().cloned()
        {
            return self.validated(&entry, &head);
        }
        if self.facts.method == MethodClass::Head {
            self.head_updates(&head);
        }
        let admission = self.admit(&head);
        if self.settings.policy.rules.strip_tags {
            policy::strip_tags(&mut head.headers);
        }
        match admission {
            Ok(admitted) => self.record(head, body, admitted).await,
            Err(refusal) => {
                match head.status.is_server_error() {
                    // A failure says nothing of what the next response will be like.
                    true => self.release_once(),
                    false => self.release(refusal),
                }
                let outcome = self.stale.outcome().because(refusal.as_str());
                passed(Response::from_parts(head, body), outcome, self.cache())
            }
        }
    }

    /// RFC 5861 4: an error is "any situation that would result in a 500, 502, 503, or 504 HTTP
    /// response status code being returned": of the inner service, or as its response.
    async fn server_error<R>(mut self, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError> + Send,
    {
        match self.stand_in() {
            Some(stale) => stale,
            None => self.answered(response).await,
        }
    }

    /// How long the handler may take where a stale response may be served in its stead.
    fn patience(&self) -> Option<Duration> {
        let entry = self.stale.entry()?;
        let replaceable = self.may_stand_in(&entry.head, self.request_time);
        replaceable.then_some(self.cache().config().fill_deadline)
    }

    fn timed_out<R>(&mut self) -> Option<Response<ResponseBody<R>>> {
        self.response_time = self.cache().now();
        self.stand_in()
    }

    fn may_stand_in(&self, head: &Head, now: Timestamp) -> bool {
        let rules = &self.settings.policy.rules;
        policy::may_serve_on_error(&self.facts, &head.lifetimes, rules, now)
    }

    /// The inner service failed.
    fn failed<R>(mut self) -> Option<Response<ResponseBody<R>>> {
        self.stand_in()
    }

    /// The stale response that may be served for a failed fetch, to this request and to those that
    /// wait; the key is let rest for a moment.
    fn stand_in<R>(&mut self) -> Option<Response<ResponseBody<R>>> {
        let entry = self.stale.entry().cloned()?;
        let now = self.response_time;
        self.cache().flights().rest(self.lookup.key(), now);
        if !self.may_stand_in(&entry.head, now) {
            return None;
        }
        if let Some(leader) = self.leader.take() {
            let offer = Offer {
                head: Arc::clone(&entry.head),
                fields: self.lookup.fields().to_vec(),
            };
            leader.land(Arc::new(offer), entry.body.clone());
        }
        let outcome = Outcome::stale(entry.head.lifetimes.remaining(now), "stale-if-error");
        Some(self.asked().answer(&entry.head, &entry.body, outcome))
    }

    /// RFC 9111 4.3.3: a 304 to the cache's own validators "indicates that the stored response can
    /// be updated and reused".
    fn validated<R>(
        &mut self,
        entry: &Arc<Entry>,
        head: &response::Parts,
    ) -> Response<ResponseBody<R>> {
        let exchange = self.exchange(head);
        let rules = &self.settings.policy.rules;
        let outcome = self.stale.outcome().with_status(head.status);
        let stored = &entry.head;
        match policy::freshen(stored.status, &stored.headers.to_stored(), &exchange, rules) {
            Freshened::Updated(admitted) => {
                let offer = self.offer(stored.status, *admitted, &stored.tags);
                let (updated, stored) = self.landing(offer).commit(entry.body.clone());
                let outcome = self.kept(outcome, stored);
                self.revalidated(&updated, outcome, head)
            }
            Freshened::Refused { refusal, headers } => {
                self.release(refusal);
                if !refusal.is_about_requester() {
                    self.forget();
                }
                let once = Entry {
                    head: Arc::new(stored.with_headers(headers)),
                    body: entry.body.clone(),
                };
                self.revalidated(&once, outcome.because(refusal.as_str()), head)
            }
            Freshened::Mismatch => self.mismatched(entry, outcome),
        }
    }

    /// The validated response, with what the 304 says to this client alone.
    fn revalidated<R>(
        &self,
        entry: &Entry,
        outcome: Outcome,
        head: &response::Parts,
    ) -> Response<ResponseBody<R>> {
        let mut response = self.asked().answer(&entry.head, &entry.body, outcome);
        for cookie in head.headers.get_all(SET_COOKIE) {
            response.headers_mut().append(SET_COOKIE, cookie.clone());
        }
        response
    }

    /// RFC 9111 4.3.4: a 304 whose strong validator is not the stored one's is about another
    /// response. It cannot be asked for again, since the request is spent: the stored one goes,
    /// and is served this once if it may stand in for a failure, which this is. RFC 9111 4.2.4:
    /// a cache "MUST NOT generate a stale response unless it is disconnected or doing so is
    /// explicitly permitted".
    fn mismatched<R>(&mut self, entry: &Arc<Entry>, outcome: Outcome) -> Response<ResponseBody<R>> {
        self.forget();
        let outcome = outcome.because("validator-mismatch");
        let lifetimes = &entry.head.lifetimes;
        let rules = &self.settings.policy.rules;
        if !policy::may_serve_on_error(&self.facts, lifetimes, rules, self.response_time) {
            let mut response = Response::new(ResponseBody::stored(Bytes::new()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            outcome.append_to(response.headers_mut(), self.cache().name());
            return response;
        }
        self.asked().answer(&entry.head, &entry.body, outcome)
    }

    /// RFC 9111 4.3.5: what a HEAD response says of the stored GET response.
    fn head_updates(&mut self, head: &response::Parts) {
        let Some(entry) = self.lookup.entry.clone() else {
            return;
        };
        let stored = &entry.head;
        let exchange = self.exchange(head);
        let rules = &self.settings.policy.rules;
        let length = entry.body.len() as u64;
        match policy::head_updates(
            stored.status,
            &stored.headers.to_stored(),
            length,
            &exchange,
            rules,
        ) {
            HeadOutcome::Freshened(admitted) => {
                let offer = self.offer(stored.status, *admitted, &stored.tags);
                let _stored = self.landing(offer).commit(entry.body.clone());
            }
            HeadOutcome::Invalidate => self.forget(),
            HeadOutcome::Nothing => {}
        }
    }

    /// The response may be stored: at once if its body is there, else while it streams.
    async fn record<R>(
        mut self,
        head: response::Parts,
        body: R,
        admitted: Admitted,
    ) -> Response<ResponseBody<R>>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError> + Send,
    {
        let outcome = self.stale.outcome().with_status(head.status);
        let declared = match self.room(&head, &body) {
            Ok(declared) => declared,
            Err(reason) => {
                self.release_and_mark(Uncacheable::ForAll);
                let response = Response::from_parts(head, body);
                return passed(response, outcome.because(reason), self.cache());
            }
        };
        let offer = self.offer(head.status, admitted, &[]);
        if self.settings.policy.rules.language == LanguageRule::PreferredLanguage {
            let tiers = self.cache().tiers();
            tiers.note_language(
                &self.lookup.base,
                &offer.fields,
                &self.headers,
                &head.headers,
                &offer.head.key,
            );
        }
        self.release_unless_reusable(&offer);
        let max_body = self.max_body();
        match gather(body).await {
            Gathered::Whole(bytes)
                if declared.is_none_or(|length| length == bytes.len() as u64)
                    && bytes.len() as u64 <= max_body =>
            {
                let (entry, stored) = self.landing(offer).commit(bytes);
                let outcome = self.kept(outcome, stored);
                if self.has_own_question() {
                    return self.revalidated(&entry, outcome, &head);
                }
                self.first(head, ResponseBody::stored(entry.body.clone()), outcome)
            }
            // Whatever the client makes of it, it is not stored.
            Gathered::Whole(bytes) => {
                self.release_and_mark(Uncacheable::ForAll);
                let reason = match declared {
                    Some(length) if length != bytes.len() as u64 => "length-mismatch",
                    _ => "too-large",
                };
                let outcome = outcome.because(reason);
                self.first(head, ResponseBody::stored(bytes), outcome)
            }
            Gathered::Begun(body, frames) => {
                let plan = Plan {
                    landing: self.landing(offer),
                    declared,
                    max_body,
                    deadline: self.cache().config().fill_deadline,
                };
                let (led, recorded) = plan.start(body, frames);
                let outcome = match recorded {
                    Recorded::Yes => outcome.and_stored(),
                    Recorded::No(reason) => outcome.because(reason),
                };
                self.first(head, ResponseBody::led(led), outcome)
            }
        }
    }

    /// The handler's own response: no field changed, this cache's line added.
    fn first<R>(
        &self,
        head: response::Parts,
        body: ResponseBody<R>,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        let mut response = Response::from_parts(head, body);
        outcome.append_to(response.headers_mut(), self.cache().name());
        response
    }

    /// The length that the response declares; or why it is not recorded.
    fn room<R: Body>(&self, head: &response::Parts, body: &R) -> Result<Option<u64>, &'static str> {
        let most = self.max_body();
        let exact = body.size_hint().exact();
        let declared = match declared_length(&head.headers)? {
            Some(length) if exact.is_some_and(|exact| exact != length) => {
                return Err("length-mismatch");
            }
            Some(length) => Some(length),
            None => exact,
        };
        if declared.unwrap_or(body.size_hint().lower()) > most {
            return Err("too-large");
        }
        Ok(declared)
    }

    /// The longest body that is stored.
    fn max_body(&self) -> u64 {
        let most = self.cache().config().max_body;
        self.settings
            .policy
            .max_body
            .map_or(most, |own| own.min(most))
    }

    /// What RFC 9111 lets be stored, if the policy does too.
    fn admit(&self, head: &response::Parts) -> Result<Admitted, Refusal> {
        let policy = &self.settings.policy;
        let admitted = policy::admit(&self.exchange(head), &policy.rules)?;
        if !policy.statuses.is_empty() && !policy.statuses.contains(&head.status) {
            return Err(Refusal::Status);
        }
        match &policy.store_if {
            Some(predicate) if !predicate.holds(&self.headers, head) => Err(Refusal::Policy),
            _ => Ok(admitted),
        }
    }

    /// What does not answer anybody else, though it may be stored to be validated.
    fn release_unless_reusable(&mut self, offer: &Offer) {
        let lifetimes = &offer.head.lifetimes;
        let reusable = self.response_time < lifetimes.fresh_until
            && !lifetimes.flags.contains(policy::Flags::NO_CACHE);
        if !reusable {
            self.release_and_mark(Uncacheable::ForAll);
        }
    }

    /// Lets the followers go, and remembers why for those to come if it was no accident.
    fn release(&mut self, refusal: Refusal) {
        match refusal {
            // The status may be another's next time, and so may the method.
            Refusal::Status | Refusal::Partial | Refusal::Method => self.release_once(),
            _ if refusal.is_about_requester() => {
                self.release_and_mark(Uncacheable::ForCredentialed);
            }
            _ => self.release_and_mark(Uncacheable::ForAll),
        }
    }

    /// Lets the followers go, this time.
    fn release_once(&mut self) {
        if let Some(leader) = self.leader.take() {
            leader.release();
        }
    }

    fn release_and_mark(&mut self, whom: Uncacheable) {
        if let Some(leader) = self.leader.take() {
            leader.release_and_mark(whom, self.response_time);
        }
    }

    /// Takes the stored response away, in both tiers.
    fn forget(&self) {
        let cache = self.cache().clone();
        let key = self.lookup.key().clone();
        cache.tiers().memory().remove(&key);
        let _dropped_without_a_runtime = task::spawn(async move {
            let deadline = cache.deadline();
            if let Err(error) = cache.tiers().remove(&key, deadline).await {
                tracing::debug!(%error, "an outdated response stays in the shared store");
            }
        });
    }

    fn offer(&self, status: StatusCode, admitted: Admitted, tags: &[Box<str>]) -> Arc<Offer> {
        let Admitted {
            mut lifetimes,
            headers,
            vary,
            tags: own,
            groups,
        } = admitted;
        let base = &self.lookup.base;
        let key = if vary.is_empty() {
            base.clone()
        } else {
            base.variant(&vary, &self.headers)
        };
        if lifetimes.flags.contains(policy::Flags::ASSIGNED) {
            jitter(&mut lifetimes);
        }
        if self.settings.policy.early_refresh.is_some() {
            let cost = self.response_time.since(self.request_time);
            self.cache().flights().note_cost(&key, cost);
        }
        let target = base.target();
        let groups = groups.iter().filter_map(|group| {
            let target = target.as_ref()?;
            let authority = target.authority.as_deref().unwrap_or_default();
            Some(policy::group_tag(target.scheme, authority, group))
        });
        let own = own.into_iter().chain(groups).map(Into::into);
        let mut tags: Vec<Box<str>> = tags.iter().cloned().chain(own).collect();
        tags.sort_unstable();
        tags.dedup();
        let head = Head {
            key,
            status,
            headers: StoredHeaders::new(headers),
            lifetimes,
            position: self.position,
            tags: tags.into(),
            verified: Verified::never(),
        };
        Arc::new(Offer {
            head: Arc::new(head),
            fields: vary,
        })
    }

    fn landing(&mut self, offer: Arc<Offer>) -> Landing {
        Landing {
            cache: self.cache().clone(),
            base: self.lookup.base.clone(),
            requester: Requester::of(&self.facts),
            offer,
            leader: self.leader.take(),
            auto_etag: self.settings.policy.auto_etag,
        }
    }

    fn kept(&self, outcome: Outcome, stored: Stored) -> Outcome {
        match stored {
            Stored::Yes => outcome.and_stored(),
            Stored::TooManyVariants => outcome.because("too-many-variants"),
            Stored::Purged => outcome.because("purged"),
        }
    }

    /// Whether the client asked something that the handler was not, since the cache asked for itself.
    fn has_own_question(&self) -> bool {
        (self.facts.conditional || self.facts.range)
            && (self.stale.validated().is_some() || matches!(self.stale, Stale::Refreshing(_)))
    }

    fn exchange<'a>(&'a self, head: &'a response::Parts) -> Exchange<'a> {
        Exchange {
            facts: &self.facts,
            request_headers: &self.headers,
            status: head.status,
            headers: &head.headers,
            options: head.extensions.get::<CacheOptions>(),
            request_time: self.request_time,
            response_time: self.response_time,
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            facts: &self.facts,
            headers: &self.headers,
            now: self.response_time,
            name: self.cache().name(),
        }
    }

    fn cache(&self) -> &Cache {
        &self.settings.cache
    }
}

/// Up to a tenth shorter, so that what was stored together does not expire together. A lifetime
/// that the response names is not touched.
fn jitter(lifetimes: &mut Lifetimes) {
    let left = lifetimes.fresh_until.since(lifetimes.stored);
    let cut = left.mul_f32(fastrand::f32() / 10.0);
    let Lifetimes {
        fresh_until,
        swr_until,
        sie_until,
        kept_until,
        ..
    } = lifetimes;
    for end in [fresh_until, swr_until, sie_until, kept_until] {
        *end = end.saturating_sub(cut);
    }
}

/// `Content-Length`, if there is one and it is one number.
fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    let length = HeaderValue::to_str(line)
        .ok()
        .and_then(|text| text.parse().ok());
    match (length, lines.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err("content-length"),
    }
}
