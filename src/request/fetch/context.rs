//! What a fetch keeps of its request until the handler has answered.

use std::sync::Arc;

use http::header::SET_COOKIE;
use http::{HeaderMap, Response, StatusCode, response};

use crate::base::clock::Timestamp;
use crate::base::position::LogPosition;
use crate::base::task;
use crate::cache::Cache;
use crate::entry::{Entry, Head};
use crate::flight::{Leader, Uncacheable};
use crate::request::fallback::Fallback;
use crate::request::settings::Settings;
use crate::response::body::ResponseBody;
use crate::response::from_entry::ResponseBuilder;
use crate::response::passed::with_status_line;
use crate::semantics::{CacheOptions, Exchange, RequestFacts};
use crate::status::{Outcome, Reason};
use crate::store::Lookup;

/// What a fetch keeps of its request until the handler has answered.
pub(super) struct FetchContext {
    pub(super) settings: Arc<Settings>,
    pub(super) facts: RequestFacts,
    /// The client's own header fields, before the cache made the request conditional.
    pub(super) headers: HeaderMap,
    pub(super) lookup: Lookup,
    pub(super) fallback: Fallback,
    pub(super) leader: Option<Leader>,
    /// How far the purge log had been read before the handler was called. A purge that comes
    /// while the handler works stands later in the log, and wins.
    pub(super) position: LogPosition,
    pub(super) request_time: Timestamp,
    pub(super) response_time: Timestamp,
}

impl FetchContext {
    pub(super) fn cache(&self) -> &Cache {
        &self.settings.cache
    }

    pub(super) fn may_serve_on_error(&self, head: &Head, now: Timestamp) -> bool {
        self.settings.may_serve_on_error(head, &self.facts, now)
    }

    pub(super) fn exchange<'a>(&'a self, head: &'a response::Parts) -> Exchange<'a> {
        Exchange {
            facts: &self.facts,
            status: head.status,
            headers: &head.headers,
            options: head.extensions.get::<CacheOptions>(),
            request_time: self.request_time,
            response_time: self.response_time,
        }
    }

    /// Why the request went forward, and the status that the handler answered with.
    pub(super) fn outcome(&self, status: StatusCode) -> Outcome {
        self.fallback.outcome().with_status(status)
    }

    pub(super) fn response_builder(&self) -> ResponseBuilder<'_> {
        ResponseBuilder {
            facts: &self.facts,
            headers: &self.headers,
            now: self.response_time,
            status_name: self.cache().status_name(),
        }
    }

    /// The handler's own response: no field is changed, and this cache's line is added.
    pub(super) fn pass<R>(
        &self,
        head: response::Parts,
        body: ResponseBody<R>,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        let response = Response::from_parts(head, body);
        with_status_line(response, outcome, self.cache().status_name())
    }

    /// Answers this client's own conditions and range from an entry that was just fetched or
    /// validated. `Set-Cookie` is for this client alone, so it is in no entry.
    pub(super) fn answer_fetched<R>(
        &self,
        entry: &Entry,
        outcome: Outcome,
        head: &response::Parts,
    ) -> Response<ResponseBody<R>> {
        let builder = self.response_builder();
        let mut response = builder.answer(&entry.head, &entry.body, outcome);
        for cookie in head.headers.get_all(SET_COOKIE) {
            response.headers_mut().append(SET_COOKIE, cookie.clone());
        }
        response
    }

    /// Whether the handler got the cache's conditions in place of the client's own conditions or
    /// range, which the cache then has to answer itself.
    pub(super) fn has_replaced_conditions(&self) -> bool {
        (self.facts.conditional || self.facts.range)
            && (self.fallback.to_validate().is_some()
                || matches!(self.fallback, Fallback::Refreshing(_)))
    }

    /// Lets the followers call the handler themselves, and remembers why for later requests if
    /// the next response will most likely be refused as well.
    pub(super) fn release_refused(&mut self, refusal: Reason) {
        match refusal {
            // The next response may have another status, and the next request another method.
            Reason::Status | Reason::Partial | Reason::Method => self.release(),
            _ if refusal.is_about_requester() => {
                self.release_as_uncacheable(Uncacheable::ForCredentialed);
            }
            _ => self.release_as_uncacheable(Uncacheable::ForAll),
        }
    }

    /// Lets the followers call the handler themselves, this time.
    pub(super) fn release(&mut self) {
        if let Some(leader) = self.leader.take() {
            leader.release();
        }
    }

    /// Lets the followers call the handler themselves, and later requests for a while.
    pub(super) fn release_as_uncacheable(&mut self, whom: Uncacheable) {
        if let Some(leader) = self.leader.take() {
            leader.release_as_uncacheable(whom, self.response_time);
        }
    }

    /// Removes the stored response from both tiers.
    pub(super) fn remove_stored(&self) {
        let cache = self.cache().clone();
        let key = self.lookup.key().clone();
        let base = &self.lookup.base;
        cache
            .tiers()
            .forget_in_memory(base, &key, self.response_time);
        // Without a runtime there is no connection to the store either.
        let _ = task::spawn(async move {
            let deadline = cache.deadline();
            if let Err(error) = cache.tiers().remove(&[&key], deadline).await {
                tracing::debug!(%error, "an outdated response stays in the shared store");
            }
        });
    }
}
