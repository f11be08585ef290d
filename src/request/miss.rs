//! A GET or HEAD request that memory could not answer.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use tokio::time::Instant;

use crate::base::clock::Timestamp;
use crate::cache::Cache;
use crate::entry::{Entry, Head};
use crate::flight::{Credentials, JoinRequest, Role};
use crate::request::decision::{Decision, EarlyRefresh, stale_if_error};
use crate::request::detached::KeepAlive;
use crate::request::settings::Settings;
use crate::response::body::ResponseBody;
use crate::response::from_entry::ResponseBuilder;
use crate::semantics::RequestFacts;
use crate::status::Outcome;
use crate::store::Lookup;

/// A GET or HEAD request that memory could not answer.
pub(crate) struct Miss {
    pub(crate) settings: Arc<Settings>,
    pub(crate) parts: Parts,
    pub(crate) facts: RequestFacts,
    pub(crate) now: Timestamp,
    pub(crate) lookup: Lookup,
    pub(crate) early_refresh: EarlyRefresh,
    /// The time by which the shared store answers everything that this request asks it, once the
    /// first question has been asked.
    pub(crate) store_deadline: Option<Instant>,
    /// Set when other requests may wait for the response.
    pub(crate) keep_alive: KeepAlive,
    /// The number of flights that had begun when the request arrived.
    pub(crate) arrived: u64,
}

impl Miss {
    pub(crate) fn cache(&self) -> &Cache {
        &self.settings.cache
    }

    /// The time by which the shared store answers everything that this request asks it.
    pub(crate) fn store_deadline(&mut self) -> Instant {
        let cache = &self.settings.cache;
        *self.store_deadline.get_or_insert_with(|| cache.deadline())
    }

    pub(crate) fn judge(&self, head: &Head) -> Decision {
        self.settings.judge(head, &self.facts, self.now)
    }

    /// Keeps the entry that the shared store has in memory as well.
    pub(crate) fn promote(&self) {
        let cache = self.cache();
        let is_usable = |head: &Head| cache.validity(head, self.now).is_usable();
        cache.tiers().promote(&self.lookup, &is_usable, self.now);
    }

    pub(crate) fn may_serve_on_error(&self, head: &Head, now: Timestamp) -> bool {
        self.settings.may_serve_on_error(head, &self.facts, now)
    }

    pub(crate) fn join_request(&self, role: Role) -> JoinRequest<'_> {
        JoinRequest {
            credentials: self.credentials(),
            role,
            purges: self.cache().log().index(),
            arrived: self.arrived,
            now: self.now,
        }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::of(&self.facts, &self.settings.policy.rules)
    }

    pub(crate) fn response_builder(&self) -> ResponseBuilder<'_> {
        ResponseBuilder {
            facts: &self.facts,
            headers: &self.parts.headers,
            now: self.cache().now(),
            status_name: self.cache().status_name(),
        }
    }

    pub(crate) fn answer<R>(&self, entry: &Entry, outcome: Outcome) -> Response<ResponseBody<R>> {
        self.response_builder()
            .answer(&entry.head, &entry.body, outcome)
    }

    /// Serves a stale entry, since fetching it anew fails.
    pub(crate) fn answer_on_error<R>(
        &self,
        entry: &Entry,
        now: Timestamp,
    ) -> Response<ResponseBody<R>> {
        self.answer(entry, stale_if_error(&entry.head, now))
    }
}
