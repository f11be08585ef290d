//! The way of a request that memory cannot answer, top to bottom.
//!
//! ```text
//! run ─ look in the store ─ judge ─┬─ Serve            answer
//!                                  ├─ ServeAndRefresh  answer, and fetch in the background
//!                                  └─ Revalidate, None ─ board ─┬─ Lead   fetch, others wait
//!                                                               ├─ Follow wait, answer or fetch
//!                                                               └─ Alone  fetch
//! ```

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::answer::Asked;
use crate::body::{Followed, ResponseBody};
use crate::cache::Cache;
use crate::clock::Timestamp;
use crate::entry::{Entry, Head};
use crate::fetch::Fetch;
use crate::flight::{Boarding, Follower, Leader, Offer, Requester, Stage};
use crate::future::Awaited;
use crate::layer::Settings;
use crate::policy::{self, Flags, MethodClass, RequestFacts, Reuse};
use crate::purge::Validity;
use crate::recording::Recording;
use crate::status::{Forwarded, Outcome};
use crate::store::Lookup;
use crate::task;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is to be done about a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Serve it.
    Serve(Outcome),
    /// Serve it stale, and fetch it anew in the background (RFC 5861 3).
    ServeAndRefresh(Outcome),
    /// Not without asking the handler; it may be validated.
    Revalidate(Forwarded, &'static str),
    /// As if it were not there.
    Useless(&'static str),
}

impl Settings {
    /// Judges a stored response by the purges, its lifetimes and the request.
    pub(crate) fn judge(&self, head: &Head, facts: &RequestFacts, now: Timestamp) -> Verdict {
        // A stored part answers its range only, and HEAD has none.
        if head.status == StatusCode::PARTIAL_CONTENT && !facts.range {
            return Verdict::Useless("partial");
        }
        let soft = match self.cache.validity(head, now) {
            Validity::Valid => false,
            Validity::Soft => true,
            Validity::Purged => return Verdict::Useless("purged"),
            Validity::Unknown => return Verdict::Useless("purges-unknown"),
        };
        let ttl = head.lifetimes.remaining(now);
        match policy::reuse(facts, &head.lifetimes, &self.policy.rules, now) {
            Reuse::Fresh if soft => soft_purged(head),
            Reuse::Fresh => Verdict::Serve(Outcome::hit(ttl)),
            Reuse::StaleAllowed => Verdict::Serve(Outcome::stale(ttl, "max-stale")),
            Reuse::StaleWhileRevalidate => {
                Verdict::ServeAndRefresh(Outcome::stale(ttl, "stale-while-revalidate"))
            }
            Reuse::Revalidate(why) if why.is_of_request() => {
                Verdict::Revalidate(Forwarded::Request, why.as_str())
            }
            Reuse::Revalidate(why) => Verdict::Revalidate(Forwarded::Stale, why.as_str()),
            Reuse::Dead => Verdict::Useless("expired"),
        }
    }
}

/// A soft purge makes stale: what may be served stale is, and what may not is validated.
fn soft_purged(head: &Head) -> Verdict {
    if head.lifetimes.flags.contains(Flags::MUST_REVALIDATE) {
        Verdict::Revalidate(Forwarded::Stale, "soft-purged")
    } else {
        Verdict::ServeAndRefresh(Outcome::stale(0, "soft-purged"))
    }
}

/// How to ask the handler. Kept apart, since neither part need be `Sync`.
pub(crate) struct Call<S, B> {
    pub(crate) inner: S,
    pub(crate) body: B,
}

/// A GET or HEAD request that memory could not answer.
pub(crate) struct Flow {
    pub(crate) settings: Arc<Settings>,
    pub(crate) parts: Parts,
    pub(crate) facts: RequestFacts,
    pub(crate) now: Timestamp,
    pub(crate) lookup: Lookup,
    pub(crate) awaited: Awaited,
}

impl Flow {
    pub(crate) async fn run<S, B, R>(
        mut self,
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
        self.cache().follow_log();
        let stale = match self.find().await {
            (Some(entry), Verdict::Serve(outcome)) => return Ok(self.answer(&entry, outcome)),
            (Some(entry), Verdict::ServeAndRefresh(outcome)) => {
                let response = self.answer(&entry, outcome);
                self.refresh(call, entry);
                return Ok(response);
            }
            (entry, verdict) => Stale::of(entry, verdict, &self.lookup),
        };
        if self.facts.directives.only_if_cached {
            return Ok(self.not_cached());
        }
        if let Some(entry) = self.resting(&stale) {
            return Ok(self.answer(
                entry,
                Outcome::stale(entry.head.lifetimes.remaining(self.now), "stale-if-error"),
            ));
        }
        let leader = match self.coordinate(&stale).await {
            Turn::Answered(response) => return Ok(response),
            Turn::Fetch(leader) => leader,
        };
        Fetch::new(self, stale, leader).run(call).await
    }

    /// Looks further, in the shared store, unless what memory has may be served.
    async fn find(&mut self) -> (Option<Arc<Entry>>, Verdict) {
        if let Some(entry) = self.lookup.entry.clone() {
            let verdict = self.judge(&entry.head);
            if matches!(verdict, Verdict::Serve(_) | Verdict::ServeAndRefresh(_)) {
                return (Some(entry), verdict);
            }
        }
        let cache = self.settings.cache.clone();
        let deadline = cache.deadline();
        cache
            .tiers()
            .look_in_store(&mut self.lookup, &self.parts.headers, self.now, deadline)
            .await;
        match self.lookup.entry.clone() {
            Some(entry) => {
                if cache.log().is_starting() {
                    cache.log().first_read(deadline).await;
                }
                let verdict = self.judge(&entry.head);
                (Some(entry), verdict)
            }
            None => (None, Verdict::Useless("not-found")),
        }
    }

    /// Finds out whether to fetch, and for whom; or gets the response from one who does.
    async fn coordinate<R>(&self, stale: &Stale) -> Turn<R> {
        if !self.can_fly(stale) {
            return Turn::Fetch(None);
        }
        let cache = self.cache();
        let give_up = Instant::now() + cache.config().follower_wait;
        for _ in 0..MAX_FLIGHTS_JOINED {
            let version = cache.log().view().version();
            let key = self.lookup.key();
            match cache
                .flights()
                .board(key, self.requester(), version, cache.now())
            {
                Boarding::Alone => break,
                Boarding::Lead(leader) => {
                    self.awaited.set();
                    return Turn::Fetch(Some(leader));
                }
                Boarding::Follow(follower) => match self.follow(&follower, stale, give_up).await {
                    Wait::Answered(response) => return Turn::Answered(response),
                    Wait::OnOwn => break,
                    Wait::Again => {}
                },
            }
        }
        Turn::Fetch(None)
    }

    /// Whether the response to this request may be anybody else's too. A part, or a 304 to the
    /// client's own validator, is not; with a stored response those are asked for by the cache.
    fn can_fly(&self, stale: &Stale) -> bool {
        let specific = self.facts.range || self.facts.conditional;
        self.facts.method == MethodClass::Get
            && !self.facts.directives.no_store
            && (!specific || stale.validated().is_some())
    }

    async fn follow<R>(&self, follower: &Follower, stale: &Stale, give_up: Instant) -> Wait<R> {
        let Ok(stage) = timeout_at(give_up, follower.wait()).await else {
            return Wait::OnOwn;
        };
        let answered = match stage {
            Stage::Waiting | Stage::Failed => return Wait::Again,
            Stage::Released => None,
            Stage::Landed(offer, body) => self.answer_offer(&offer, &body, stale),
            Stage::Shared(offer, recording) => {
                self.answer_fill(&offer, recording, stale, give_up).await
            }
        };
        answered.map_or(Wait::OnOwn, Wait::Answered)
    }

    /// The answer from another's complete response, if it is this request's to have.
    fn answer_offer<R>(
        &self,
        offer: &Offer,
        body: &Bytes,
        stale: &Stale,
    ) -> Option<Response<ResponseBody<R>>> {
        let outcome = self.collapsed(offer, stale)?;
        Some(self.asked().answer(&offer.head, body, outcome))
    }

    /// As [`Flow::answer_offer`], of a response whose body is still coming.
    async fn answer_fill<R>(
        &self,
        offer: &Offer,
        recording: Arc<Recording>,
        stale: &Stale,
        give_up: Instant,
    ) -> Option<Response<ResponseBody<R>>> {
        let outcome = self.collapsed(offer, stale)?;
        let asked = self.asked();
        if asked.is_not_modified(&offer.head) {
            return Some(asked.not_modified(&offer.head, outcome));
        }
        match recording.declared() {
            Some(length) if !self.facts.range => {
                let body = Followed::new(recording, length);
                Some(asked.answer_growing(&offer.head, body, outcome))
            }
            _ => {
                let whole = timeout_at(give_up, recording.whole()).await.ok()?;
                Some(asked.answer(&offer.head, &whole.ok()?, outcome))
            }
        }
    }

    /// Whether another's response may answer this request: of the same variant, not purged since,
    /// and fresh; or stale, where that stands in for a failure.
    fn collapsed(&self, offer: &Offer, stale: &Stale) -> Option<Outcome> {
        let same = if offer.fields.is_empty() {
            offer.head.key == self.lookup.base
        } else {
            let mine = self.lookup.base.variant(&offer.fields, &self.parts.headers);
            offer.head.key == mine
        };
        if !same {
            return None;
        }
        let now = self.cache().now();
        match self.settings.judge(&offer.head, &self.facts, now) {
            Verdict::Serve(_) => Some(stale.outcome().collapsed()),
            Verdict::Useless(_) => None,
            Verdict::ServeAndRefresh(_) | Verdict::Revalidate(..) => self
                .may_stand_in(&offer.head, now)
                .then(|| Outcome::stale(offer.head.lifetimes.remaining(now), "stale-if-error")),
        }
    }

    fn may_stand_in(&self, head: &Head, now: Timestamp) -> bool {
        let rules = &self.settings.policy.rules;
        policy::may_serve_on_error(&self.facts, &head.lifetimes, rules, now)
    }

    /// The stale entry to serve while its handler, which failed a moment ago, is let rest.
    fn resting<'a>(&self, stale: &'a Stale) -> Option<&'a Arc<Entry>> {
        let entry = stale.entry()?;
        let rests = self.cache().flights().rests(self.lookup.key(), self.now);
        (rests && self.may_stand_in(&entry.head, self.now)).then_some(entry)
    }

    /// Fetches anew in the background, unless someone does or it failed a moment ago.
    fn refresh<S, B, R>(self, call: Call<S, B>, entry: Arc<Entry>)
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send + 'static,
        B: Body + Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError> + Send,
    {
        let cache = self.cache().clone();
        if self.facts.method != MethodClass::Get
            || cache.flights().rests(self.lookup.key(), self.now)
        {
            return;
        }
        let version = cache.log().view().version();
        let Some(leader) = cache.flights().lead_if_idle(self.lookup.key(), version) else {
            return;
        };
        let deadline = cache.config().fill_deadline;
        let _dropped_without_a_runtime = task::spawn(async move {
            let stale = Stale::Refreshing(entry);
            let fetch = Fetch::new(self, stale, Some(leader)).run(call);
            // The response is for the cache alone: its body goes on being recorded.
            let _response = tokio::time::timeout(deadline, fetch).await;
        });
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.settings.cache
    }

    fn judge(&self, head: &Head) -> Verdict {
        self.settings.judge(head, &self.facts, self.now)
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            facts: &self.facts,
            headers: &self.parts.headers,
            now: self.cache().now(),
            name: self.cache().name(),
        }
    }

    fn answer<R>(&self, entry: &Entry, outcome: Outcome) -> Response<ResponseBody<R>> {
        self.asked().answer(&entry.head, &entry.body, outcome)
    }

    fn requester(&self) -> Requester {
        if self.facts.authorization || self.facts.cookie {
            Requester::Credentialed
        } else {
            Requester::Anonymous
        }
    }

    /// RFC 9111 5.2.1.7: only-if-cached "SHOULD … respond with a 504 (Gateway Timeout) status code".
    fn not_cached<R>(&self) -> Response<ResponseBody<R>> {
        let mut response = Response::new(ResponseBody::stored(Bytes::new()));
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        let mut headers = HeaderMap::new();
        let outcome = Outcome::Generated {
            detail: "only-if-cached",
        };
        outcome.append_to(&mut headers, self.cache().name());
        *response.headers_mut() = headers;
        response
    }
}

/// What there is that cannot be served as it is.
pub(crate) enum Stale {
    /// Nothing.
    Nothing(Forwarded, &'static str),
    /// A response that may be validated, or stand in for a failure.
    Entry(Arc<Entry>, Forwarded, &'static str),
    /// One that was served stale already: this fetch is in the background.
    Refreshing(Arc<Entry>),
}

impl Stale {
    fn of(entry: Option<Arc<Entry>>, verdict: Verdict, lookup: &Lookup) -> Self {
        match (entry, verdict) {
            (Some(entry), Verdict::Revalidate(why, detail)) => Self::Entry(entry, why, detail),
            (None, Verdict::Useless(detail)) if lookup.marker.is_some() => {
                Self::Nothing(Forwarded::VaryMiss, detail)
            }
            (_, Verdict::Useless(detail)) => Self::Nothing(Forwarded::UriMiss, detail),
            (_, _) => Self::Nothing(Forwarded::UriMiss, "not-found"),
        }
    }

    /// The stored response whose validators are sent.
    pub(crate) fn validated(&self) -> Option<&Arc<Entry>> {
        self.entry()
            .filter(|entry| entry.head.lifetimes.flags.contains(Flags::VALIDATOR))
    }

    pub(crate) fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Nothing(..) => None,
            Self::Entry(entry, ..) | Self::Refreshing(entry) => Some(entry),
        }
    }

    /// Why the request goes forward.
    pub(crate) const fn outcome(&self) -> Outcome {
        match self {
            Self::Nothing(why, detail) | Self::Entry(_, why, detail) => {
                Outcome::forward(*why, Some(detail))
            }
            Self::Refreshing(_) => Outcome::forward(Forwarded::Stale, Some("refresh")),
        }
    }
}

/// What a request has come to.
enum Turn<R> {
    Answered(Response<ResponseBody<R>>),
    /// It calls the handler, with others waiting or without.
    Fetch(Option<Leader>),
}

enum Wait<R> {
    Answered(Response<ResponseBody<R>>),
    /// The response was not this one's to have.
    OnOwn,
    /// The leader failed: compete for its place.
    Again,
}

/// A request whose leaders keep failing calls the handler itself.
const MAX_FLIGHTS_JOINED: usize = 3;
