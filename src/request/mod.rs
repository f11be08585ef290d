//! The way of a request that memory cannot answer, top to bottom.
//!
//! ```text
//! begin ─┬─ run ─ find ─ judge ─┬─ Serve            answer
//!        │                      ├─ ServeAndRefresh  answer, and fetch in the background
//!        │                      ├─ PassBy           call the handler, and leave all as it is
//!        │                      └─ Revalidate, Useless ─┐
//!        │                                              │
//!        └─ nothing is stored ──────────────────────────┴─ join ─┬─ Lead    fetch, others wait
//!                                                                ├─ Follow  wait, answer or fetch
//!                                                                └─ Alone   fetch
//! ```

mod coalesce;
pub(crate) mod decision;
pub(crate) mod detached;
mod fallback;
mod fetch;
mod fill;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub(crate) mod handler;
pub(crate) mod miss;
#[cfg(all(test, shuttle))]
mod model;
pub(crate) mod nesting;
mod refresh;
pub(crate) mod settings;
pub(crate) mod unsafe_method;

use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use tower::util::Oneshot;

use crate::entry::Entry;
use crate::flight::Joined;
use crate::request::coalesce::Coordination;
use crate::request::decision::{Decision, EarlyRefresh};
use crate::request::detached::{Answer, Detachable, KeepAlive};
use crate::request::fallback::Fallback;
use crate::request::fetch::Fetch;
use crate::request::handler::{Content, Handler, Inner};
use crate::request::miss::Miss;
use crate::request::nesting::Passage;
use crate::response::body::ResponseBody;
use crate::response::from_entry;
use crate::status::{Outcome, Reason};

impl Miss {
    /// Begins to answer the request. Most often there is nothing to wait for but the handler; then
    /// the handler is called without a future around the call.
    pub(crate) fn begin<S, B, R>(mut self, inner: Inner<S, B>) -> Answer<R, S::Error>
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        let deadline = self.cache().config().fill_deadline;
        if !self.is_handled_inside() && !self.only_handler_can_answer() {
            let keep_alive = self.set_keep_alive();
            let future = Box::pin(Box::new(self).run(inner));
            return Answer::Pending(Detachable::new(future, keep_alive, deadline));
        }
        self.cache().follow_log();
        let fallback = Fallback::of(None, NOT_FOUND, &self.lookup);
        let leader = match self.join(&fallback) {
            Joined::Alone => None,
            Joined::Lead(leader) => match self.look_in_memory_again() {
                Some(found) => return Answer::Ready(self.finish(leader, found)),
                None => Some(leader),
            },
            joined @ Joined::Follow(_) => {
                let keep_alive = self.set_keep_alive();
                let future = Box::new(self).coordinate_and_fetch(inner, fallback, Some(joined));
                return Answer::Pending(Detachable::new(Box::pin(future), keep_alive, deadline));
            }
        };
        let keep_alive = KeepAlive::Fixed(leader.is_some());
        let fetch = Box::pin(Fetch::new(self, fallback, leader, inner));
        Answer::Pending(Detachable::new(fetch, keep_alive, deadline))
    }

    /// Whether memory has no entry, no shared store is in reach, and the client allows that the
    /// handler is called.
    fn only_handler_can_answer(&self) -> bool {
        self.lookup.entry.is_none()
            && !self.facts.directives.only_if_cached
            && self.cache().tiers().looks_in_memory_only()
    }

    /// Whether this layer has nothing for the request, and one of the same cache inside it may.
    fn is_handled_inside(&self) -> bool {
        let flights = self.cache().flights();
        self.lookup.entry.is_none()
            && flights.is_handled_inside(self.lookup.key(), self.credentials(), self.now)
    }

    fn set_keep_alive(&mut self) -> KeepAlive {
        self.keep_alive = KeepAlive::flag();
        self.keep_alive.clone()
    }

    async fn run<S, B, R>(
        mut self: Box<Self>,
        inner: Inner<S, B>,
    ) -> Result<Response<ResponseBody<R>>, S::Error>
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        self.cache().follow_log();
        let fallback = match self.find().await {
            (Some(entry), Decision::Serve(outcome)) => {
                self.lookup.entry = None;
                return Ok(self.response_builder().answer_once(entry, outcome));
            }
            (Some(entry), Decision::ServeAndRefresh(outcome)) => {
                let response = self.answer(&entry, outcome);
                self.refresh(inner, entry);
                return Ok(response);
            }
            (Some(_), Decision::PassBy(why)) if !self.facts.directives.only_if_cached => {
                return self.pass(inner, why).await;
            }
            (entry, decision) => Fallback::of(entry, decision, &self.lookup),
        };
        if self.facts.directives.only_if_cached {
            return Ok(from_entry::not_cached(self.cache().status_name()));
        }
        if let Some(entry) = self.entry_of_failed_fetch(&fallback) {
            return Ok(self.answer_on_error(entry, self.now));
        }
        self.coordinate_and_fetch(inner, fallback, None).await
    }

    /// Calls the handler, or gets the response of another request that does. `joined` is the part
    /// of this request in the first flight, if it has joined one already.
    async fn coordinate_and_fetch<S, B, R>(
        mut self: Box<Self>,
        inner: Inner<S, B>,
        fallback: Fallback,
        joined: Option<Joined>,
    ) -> Result<Response<ResponseBody<R>>, S::Error>
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        let leader = match self.coordinate(&fallback, joined).await {
            Coordination::Answered(response) => return Ok(response),
            Coordination::PassBy(why) => return self.pass(inner, why).await,
            Coordination::Fetch(leader) => leader,
        };
        self.now = self.cache().now();
        // Boxed, since the state of a fetch is large and most requests do not get here.
        Box::pin(Fetch::new(*self, fallback, leader, inner)).await
    }

    /// Calls the handler for this requester alone: what is stored stays as it is.
    async fn pass<S, B, R>(
        self: Box<Self>,
        inner: Inner<S, B>,
        why: Reason,
    ) -> Result<Response<ResponseBody<R>>, S::Error>
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        let Self {
            settings,
            mut parts,
            ..
        } = *self;
        let Inner { service, body } = inner;
        let passage = Passage::go_on(&mut parts.extensions, &settings.cache);
        let request = Request::from_parts(parts, body);
        let response = Oneshot::new(service, request).await?;
        Ok(passage.passed(response, Outcome::not_shared(why)))
    }

    /// The stored response and what to do with it. The shared store is asked unless memory has a
    /// response that can be served, or that this request leaves to others.
    async fn find(&mut self) -> (Option<Arc<Entry>>, Decision) {
        if let Some(entry) = self.lookup.entry.clone() {
            let decision = self.judge(&entry.head);
            match decision {
                Decision::Serve(outcome) if self.early_refresh == EarlyRefresh::Due => {
                    return (Some(entry), Decision::ServeAndRefresh(outcome));
                }
                Decision::Serve(_) | Decision::ServeAndRefresh(_) | Decision::PassBy(_) => {
                    return (Some(entry), decision);
                }
                Decision::Revalidate(..) | Decision::Useless(_) => {}
            }
        }
        self.find_in_store().await
    }

    async fn find_in_store(&mut self) -> (Option<Arc<Entry>>, Decision) {
        let cache = self.settings.cache.clone();
        let deadline = self.store_deadline();
        let in_memory = self.lookup.entry.clone();
        cache
            .tiers()
            .look_in_store(&mut self.lookup, &self.parts.headers, self.now, deadline)
            .await;
        if self.lookup.entry.is_some() && cache.log().is_starting() {
            cache.log().first_read(deadline).await;
        }
        self.choose(in_memory)
    }

    /// The response of the shared store, or that of memory if the store's copy is of less use: a
    /// copy that was purged, or is older, does not replace one that may be validated, or served if
    /// the fetch fails.
    fn choose(&mut self, in_memory: Option<Arc<Entry>>) -> (Option<Arc<Entry>>, Decision) {
        let Some(found) = self.lookup.entry.clone() else {
            return (None, NOT_FOUND);
        };
        let decision = self.judge(&found.head);
        let is_useless = matches!(decision, Decision::Useless(_));
        if let Some(known) = in_memory {
            if Arc::ptr_eq(&known, &found) {
                return (Some(found), decision);
            }
            let decision = self.judge(&known.head);
            if (is_useless || known.is_newer_than(&found))
                && !matches!(decision, Decision::Useless(_))
            {
                self.lookup.entry = Some(Arc::clone(&known));
                return (Some(known), decision);
            }
        }
        if !is_useless {
            self.promote();
        }
        (Some(found), decision)
    }

    /// The stale entry to serve without a fetch, since the last fetch failed a moment ago.
    fn entry_of_failed_fetch<'a>(&self, fallback: &'a Fallback) -> Option<&'a Arc<Entry>> {
        let entry = fallback.entry()?;
        let flights = self.cache().flights();
        let is_backing_off = flights.is_backing_off(self.lookup.key(), self.now);
        (is_backing_off && self.may_serve_on_error(&entry.head, self.now)).then_some(entry)
    }
}

const NOT_FOUND: Decision = Decision::Useless(Reason::NotFound);
