//! What an answer without content says of the stored response.

use std::sync::Arc;

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{Response, StatusCode, response};

use super::FetchContext;
use crate::entry::Entry;
use crate::request::Fallback;
use crate::response::body::ResponseBody;
use crate::semantics::{self, Freshened, HeadOutcome};
use crate::status::{Outcome, Reason};

impl FetchContext {
    /// RFC 9111 4.3.3: a 304 to the cache's own validators "indicates that the stored response can
    /// be updated and reused".
    pub(super) fn validated<R>(
        &mut self,
        entry: &Arc<Entry>,
        head: &response::Parts,
    ) -> Response<ResponseBody<R>> {
        let exchange = self.exchange(head);
        let rules = &self.settings.policy.rules;
        let outcome = self.stale.outcome().with_status(head.status);
        let stored = &entry.head;
        let length = Some(entry.body.len() as u64);
        match semantics::freshen(
            stored.status,
            &stored.headers.lines().to_map(0),
            &exchange,
            rules,
        ) {
            Freshened::Updated(admitted) => {
                let new_entry = self.new_entry(stored.status, *admitted, &stored.tags, length);
                let (updated, stored) =
                    self.landing()
                        .commit(new_entry, entry.body.clone(), self.response_time);
                let outcome = self.kept(outcome, stored);
                self.revalidated(&updated, outcome, head)
            }
            Freshened::Refused { refusal, headers } => {
                self.release(refusal);
                if !refusal.is_about_requester() {
                    self.forget();
                }
                let once = Entry {
                    head: stored.with_headers(&headers, entry.body.len()),
                    body: entry.body.clone(),
                };
                self.revalidated(&once, outcome.because(refusal), head)
            }
            Freshened::Mismatch => self.mismatched(entry, outcome),
        }
    }

    /// The validated response, with what the 304 says to this client alone.
    pub(super) fn revalidated<R>(
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
    pub(super) fn mismatched<R>(
        &mut self,
        entry: &Arc<Entry>,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        self.forget();
        let outcome = outcome.because(Reason::ValidatorMismatch);
        if !self.may_stand_in(&entry.head, self.response_time) {
            let mut response = Response::new(ResponseBody::stored(Bytes::new()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            outcome.append_to(response.headers_mut(), self.cache().status_name());
            return response;
        }
        self.asked().answer(&entry.head, &entry.body, outcome)
    }

    /// RFC 9111 4.3.5: what a HEAD response says of the stored GET response.
    pub(super) fn head_updates(&mut self, head: &response::Parts) {
        let Some(entry) = self.lookup.entry.clone() else {
            return;
        };
        let stored = &entry.head;
        let exchange = self.exchange(head);
        let rules = &self.settings.policy.rules;
        let length = entry.body.len() as u64;
        match semantics::head_updates(
            stored.status,
            &stored.headers.lines().to_map(0),
            length,
            &exchange,
            rules,
        ) {
            HeadOutcome::Freshened(admitted) => {
                let new_entry =
                    self.new_entry(stored.status, *admitted, &stored.tags, Some(length));
                let _stored =
                    self.landing()
                        .commit(new_entry, entry.body.clone(), self.response_time);
            }
            HeadOutcome::Invalidate => self.forget(),
            HeadOutcome::Nothing => {}
        }
    }

    /// Whether the client asked something that the handler was not, since the cache asked for itself.
    pub(super) fn has_own_question(&self) -> bool {
        (self.facts.conditional || self.facts.range)
            && (self.stale.validated().is_some() || matches!(self.stale, Fallback::Refreshing(_)))
    }
}
