//! The way of a request that memory cannot answer, top to bottom.
//!
//! ```text
//! run ─ look in the store ─ judge ─┬─ Serve            answer
//!                                  ├─ ServeAndRefresh  answer, and fetch in the background
//!                                  └─ Revalidate, None ─ board ─┬─ Lead   fetch, others wait
//!                                                               ├─ Follow wait, answer or fetch
//!                                                               └─ Alone  fetch
//! ```

mod coalesce;
pub(crate) mod decision;
mod fetch;
mod fill;
pub(crate) mod handler;
#[cfg(all(test, shuttle))]
mod model;
pub(crate) mod unsafe_method;

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use crate::base::clock::Timestamp;
use crate::base::task;
use crate::cache::Cache;
use crate::entry::{Entry, Head};
use crate::flight::{Leader, Role};
use crate::request::coalesce::Coordination;
use crate::request::decision::{Decision, Freshness};
use crate::request::fetch::Fetch;
use crate::request::handler::{Content, Handler};
use crate::response::body::ResponseBody;
use crate::response::from_entry::{self, ResponseBuilder};
use crate::semantics::{Flags, MethodClass, RequestFacts};
use crate::service::future::{Awaited, ResponseFuture, Running};
use crate::service::layer::Settings;
use crate::status::{Forwarded, Outcome, Reason};
use crate::store::Lookup;

const NOT_FOUND: Decision = Decision::Useless(Reason::NotFound);

/// How to ask the handler. Kept apart, since neither part need be `Sync`.
pub(crate) struct Inner<S, B> {
    pub(crate) inner: S,
    pub(crate) body: B,
}

/// A GET or HEAD request that memory could not answer.
pub(crate) struct Miss {
    pub(crate) settings: Arc<Settings>,
    pub(crate) parts: Parts,
    pub(crate) facts: RequestFacts,
    pub(crate) now: Timestamp,
    pub(crate) lookup: Lookup,
    pub(crate) freshness: Freshness,
    /// Until when the shared store is asked on its behalf, once it has been.
    pub(crate) budget: Option<Instant>,
    pub(crate) awaited: Awaited,
}

impl Miss {
    /// Sets out. Most often, without a shared store in reach, there is nothing to wait for but the
    /// handler.
    pub(crate) fn begin<S, B, R>(mut self, call: Inner<S, B>) -> ResponseFuture<S, B, R>
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        let deadline = self.cache().config().fill_deadline;
        if self.knows_all_there_is() {
            self.cache().follow_log();
            let stale = Fallback::of(None, NOT_FOUND, &self.lookup);
            match self.take_turn(&stale) {
                Some(Coordination::Answered(response)) => return ResponseFuture::ready(response),
                Some(Coordination::Fetch(leader)) => {
                    let awaited = Awaited::known(leader.is_some());
                    let fetch = Box::pin(Fetch::new(self, stale, leader, call));
                    return ResponseFuture::flowing(Running::new(fetch, awaited, deadline));
                }
                None => {}
            }
        }
        let awaited = Awaited::told_later();
        self.awaited = awaited.clone();
        let flow = Box::pin(Box::new(self).run(call));
        ResponseFuture::flowing(Running::new(flow, awaited, deadline))
    }

    /// Whether memory has nothing and there is no asking further.
    fn knows_all_there_is(&self) -> bool {
        self.lookup.entry.is_none()
            && !self.facts.directives.only_if_cached
            && self.cache().tiers().looks_in_memory_only()
    }

    async fn run<S, B, R>(
        mut self: Box<Self>,
        call: Inner<S, B>,
    ) -> Result<Response<ResponseBody<R>>, S::Error>
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        self.cache().follow_log();
        let stale = match self.find().await {
            (Some(entry), Decision::Serve(outcome)) => {
                self.lookup.entry = None;
                return Ok(self.asked().answer_once(entry, outcome));
            }
            (Some(entry), Decision::ServeAndRefresh(outcome)) => {
                let response = self.answer(&entry, outcome);
                self.refresh(call, entry);
                return Ok(response);
            }
            (entry, verdict) => Fallback::of(entry, verdict, &self.lookup),
        };
        self.miss(call, stale).await
    }

    /// There is nothing that can be served as it is.
    async fn miss<S, B, R>(
        mut self: Box<Self>,
        call: Inner<S, B>,
        stale: Fallback,
    ) -> Result<Response<ResponseBody<R>>, S::Error>
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        if self.facts.directives.only_if_cached {
            return Ok(from_entry::not_cached(self.cache().status_name()));
        }
        if let Some(entry) = self.resting(&stale) {
            return Ok(self.answer(
                entry,
                Outcome::stale(
                    entry.head.lifetimes.remaining(self.now),
                    Reason::StaleIfError,
                ),
            ));
        }
        let leader = match self.coordinate(&stale).await {
            Coordination::Answered(response) => return Ok(response),
            Coordination::Fetch(leader) => leader,
        };
        self.now = self.cache().now();
        Box::pin(Fetch::new(*self, stale, leader, call)).await
    }

    /// Looks further, in the shared store, unless what memory has may be served.
    async fn find(&mut self) -> (Option<Arc<Entry>>, Decision) {
        if let Some(entry) = self.lookup.entry.clone() {
            let verdict = self.judge(&entry.head);
            match verdict {
                Decision::Serve(outcome) if self.freshness == Freshness::RunningOut => {
                    return (Some(entry), Decision::ServeAndRefresh(outcome));
                }
                Decision::Serve(_) | Decision::ServeAndRefresh(_) => return (Some(entry), verdict),
                Decision::Revalidate(..) | Decision::Useless(_) => {}
            }
        }
        let cache = self.settings.cache.clone();
        let deadline = self.budget();
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
            None => (None, NOT_FOUND),
        }
    }

    /// The stale entry to serve while its handler, which failed a moment ago, is let rest.
    fn resting<'a>(&self, stale: &'a Fallback) -> Option<&'a Arc<Entry>> {
        let entry = stale.entry()?;
        let rests = self.cache().flights().rests(self.lookup.key(), self.now);
        (rests && self.may_stand_in(&entry.head, self.now)).then_some(entry)
    }

    /// Fetches anew in the background, unless someone does or it failed a moment ago.
    fn refresh<S, B, R>(mut self: Box<Self>, call: Inner<S, B>, entry: Arc<Entry>)
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        if self.facts.method != MethodClass::Get || self.facts.directives.no_store {
            return;
        }
        let cache = self.cache().clone();
        let join_request = self.join_request(Role::Any);
        let Some(mut leader) = cache
            .flights()
            .lead_if_idle(self.lookup.key(), &join_request)
        else {
            return;
        };
        let until = Instant::now() + cache.config().fill_deadline;
        let refresh = async move {
            if self.is_refreshed(&entry, &mut leader).await {
                return;
            }
            let stale = Fallback::Refreshing(entry);
            self.now = self.cache().now();
            if let Ok(response) = Fetch::new(*self, stale, Some(leader), call).await {
                // The response is for the cache alone: its body goes on being recorded.
                response.into_body().leave(until);
            }
        };
        let _dropped_without_a_runtime = task::spawn(async move {
            let _rests_if_too_late = timeout_at(until, refresh).await;
        });
    }

    /// Whether another instance has refreshed an entry already, which memory then has as well.
    async fn is_refreshed(&mut self, entry: &Entry, leader: &mut Leader) -> bool {
        let give_up = Instant::now() + self.cache().config().follower_wait;
        let served = entry.head.lifetimes.stored;
        let newer = |found: &Entry| found.head.lifetimes.stored > served;
        // Nobody waits for this one.
        self.budget = None;
        let deadline = self.budget();
        match self.look_again(&newer, deadline).await {
            Some(_) => {}
            None if !self.cache().config().lease => return false,
            None => {
                let found = self.win_lease(leader, give_up, &newer).await;
                if found.is_none() {
                    return false;
                }
            }
        }
        if let Some(found) = &self.lookup.entry {
            leader.land(Arc::clone(found), self.lookup.fields());
        }
        true
    }

    /// Until when all that the store is asked for this request is to be answered, together.
    pub(crate) fn budget(&mut self) -> Instant {
        let cache = &self.settings.cache;
        *self.budget.get_or_insert_with(|| cache.deadline())
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.settings.cache
    }

    pub(crate) fn judge(&self, head: &Head) -> Decision {
        self.settings.judge(head, &self.facts, self.now)
    }

    pub(crate) fn asked(&self) -> ResponseBuilder<'_> {
        ResponseBuilder {
            facts: &self.facts,
            headers: &self.parts.headers,
            now: self.cache().now(),
            status_name: self.cache().status_name(),
        }
    }

    pub(crate) fn answer<R>(&self, entry: &Entry, outcome: Outcome) -> Response<ResponseBody<R>> {
        self.asked().answer(&entry.head, &entry.body, outcome)
    }
}

/// What there is that cannot be served as it is.
pub(crate) enum Fallback {
    /// Nothing.
    Nothing(Forwarded, Reason),
    /// A response that may be validated, or stand in for a failure.
    Entry(Arc<Entry>, Forwarded, Reason),
    /// One that was served stale already: this fetch is in the background.
    Refreshing(Arc<Entry>),
}

impl Fallback {
    fn of(entry: Option<Arc<Entry>>, verdict: Decision, lookup: &Lookup) -> Self {
        match (entry, verdict) {
            (Some(entry), Decision::Revalidate(why, detail)) => Self::Entry(entry, why, detail),
            (None, Decision::Useless(detail)) if lookup.marker.is_some() => {
                Self::Nothing(Forwarded::VaryMiss, detail)
            }
            (_, Decision::Useless(detail)) => Self::Nothing(Forwarded::UriMiss, detail),
            (_, _) => Self::Nothing(Forwarded::UriMiss, Reason::NotFound),
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
                Outcome::forward(*why, Some(*detail))
            }
            Self::Refreshing(_) => Outcome::forward(Forwarded::Stale, Some(Reason::Refresh)),
        }
    }
}
