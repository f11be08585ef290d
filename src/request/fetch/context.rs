//! What a fetch keeps of its request until the handler has answered.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Response, StatusCode, response};

use crate::base::clock::Timestamp;
use crate::base::position::Moment;
use crate::cache::Cache;
use crate::entry::{Entry, Head};
use crate::flight::{Leader, Uncacheable};
use crate::request::fallback::Fallback;
use crate::request::nesting::Passage;
use crate::request::settings::Settings;
use crate::response::body::ResponseBody;
use crate::response::from_entry::ResponseBuilder;
use crate::response::passed::with_status_line;
use crate::semantics::{self, CacheOptions, Exchange, RequestFacts};
use crate::status::{Outcome, Reason};
use crate::store::Lookup;

/// What a fetch keeps of its request until the handler has answered.
pub(super) struct FetchContext {
    pub(super) settings: Arc<Settings>,
    pub(super) passage: Passage,
    pub(super) facts: RequestFacts,
    /// The client's own header fields, before the cache made the request conditional.
    pub(super) headers: HeaderMap,
    pub(super) lookup: Lookup,
    pub(super) fallback: Fallback,
    pub(super) leader: Option<Leader>,
    /// The handler got the cache's conditions in place of the client's own conditions or range,
    /// which the cache then has to answer itself.
    pub(super) has_replaced_conditions: bool,
    /// What was known of purges before the handler was called. A purge that comes while the handler
    /// works is later, and wins.
    pub(super) moment: Moment,
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
    /// validated, with those fields of the handler's response that are for this client alone.
    pub(super) fn answer_fetched<R>(
        &self,
        entry: &Entry,
        outcome: Outcome,
        head: &response::Parts,
    ) -> Response<ResponseBody<R>> {
        let builder = self.response_builder();
        let mut response = builder.answer(&entry.head, &entry.body, outcome);
        let unstored = &self.settings.policy.rules.unstored;
        let own = head.headers.keys();
        let own = own.filter(|name| semantics::is_for_one_client(name));
        for name in own.chain(unstored) {
            replace(response.headers_mut(), name, &head.headers);
        }
        response
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

    /// Whether the policy allows a response to be stored that RFC 9111 does.
    pub(super) fn permit(&self, head: &response::Parts) -> Result<(), Reason> {
        let policy = &self.settings.policy;
        let statuses = &policy.rules.statuses;
        if !statuses.is_empty() && !statuses.contains(&head.status) {
            return Err(Reason::Status);
        }
        match &policy.store_if {
            Some(predicate) if !predicate.holds(&self.headers, head) => Err(Reason::Policy),
            _ => Ok(()),
        }
    }

    /// RFC 9111 4.3.3: "A full response … indicates that none of the stored responses nominated in
    /// the conditional request are suitable", so the stored one is removed: it must not be served
    /// stale later either. A response for this requester alone, or a failure, is no reason.
    pub(super) fn withdraw_stored(&self, status: StatusCode, refusal: Reason) {
        if self.replaces_stored(status) && !refusal.is_about_requester() {
            self.remove_stored();
        }
    }

    /// Whether a full response with this status says that the stored one is of no use any more.
    pub(super) fn replaces_stored(&self, status: StatusCode) -> bool {
        let is_of_resource = status.is_success()
            || status.is_redirection()
            || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        self.fallback.entry().is_some() && is_of_resource && status != StatusCode::PARTIAL_CONTENT
    }

    /// Removes the stored response that an answer was compared with, unless a newer one has taken
    /// its place meanwhile.
    pub(super) fn remove_compared(&self, compared: &Entry) {
        let Lookup { base, .. } = &self.lookup;
        let tiers = self.cache().tiers();
        let standing = tiers.standing(base, &self.headers, self.response_time);
        if !standing.is_some_and(|standing| standing.is_newer_than(compared)) {
            self.remove_stored();
        }
    }

    /// Removes the stored response from both tiers.
    pub(super) fn remove_stored(&self) {
        let Lookup { base, .. } = &self.lookup;
        let tiers = self.cache().tiers();
        tiers.forget(base, self.lookup.key(), self.response_time);
    }
}

/// Replaces the lines of a field by those of another response, if it has any.
fn replace(headers: &mut HeaderMap, name: &HeaderName, other: &HeaderMap) {
    let mut lines = other.get_all(name).iter().cloned();
    if let Some(first) = lines.next() {
        headers.insert(name.clone(), first);
    }
    for line in lines {
        headers.append(name.clone(), line);
    }
}
