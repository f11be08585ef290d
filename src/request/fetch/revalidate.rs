//! Responses without content that say something of the stored response: 304, and those to HEAD.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, response};

use super::context::FetchContext;
use super::store::storing;
use crate::entry::{Entry, Head};
use crate::response::body::ResponseBody;
use crate::response::passed::with_status_line;
use crate::semantics::{self, Admitted, Freshened, HeadOutcome};
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
        let outcome = self.outcome(head.status);
        let stored = &entry.head;
        let length = Some(entry.body.len() as u64);
        let fields = stored.headers.lines().to_map(0);
        let (refusal, headers) = match semantics::freshen(stored.status, &fields, &exchange, rules)
        {
            Freshened::Mismatch => return self.mismatched(entry, outcome),
            Freshened::Refused { refusal, headers } => (refusal, headers),
            Freshened::Updated(admitted) => match self.permit_merged(stored, &fields, *admitted) {
                Ok(admitted) => {
                    let new_entry = self.new_entry(stored.status, admitted, length);
                    let commit = self.take_commit(stored.status);
                    let (updated, stored) =
                        commit.commit(new_entry, entry.body.clone(), self.response_time);
                    return self.answer_fetched(&updated, storing(outcome, stored), head);
                }
                Err(refused) => refused,
            },
        };
        self.release_refused(refusal);
        if !refusal.is_about_requester() {
            self.remove_stored();
        }
        let unstored = Entry {
            head: stored.with_headers(&headers, entry.body.len()),
            body: entry.body.clone(),
        };
        self.answer_fetched(&unstored, outcome.because(refusal), head)
    }

    /// Asks the policy about a stored response that an answer without content has updated, and
    /// unites its tags: those that a handler named for it stay, those of its fields are replaced.
    /// A refusal comes with the updated fields.
    fn permit_merged(
        &self,
        stored: &Head,
        fields: &HeaderMap,
        admitted: Admitted,
    ) -> Result<Admitted, (Reason, HeaderMap)> {
        let mut merged = Response::new(());
        *merged.status_mut() = stored.status;
        *merged.headers_mut() = admitted.lines.to_map(0);
        let (merged, ()) = merged.into_parts();
        let tags = semantics::united_tags(&admitted.tags, &admitted.groups, &stored.tags, fields);
        match self.permit(&merged).and(tags) {
            Ok(tags) => Ok(Admitted { tags, ..admitted }),
            Err(refusal) => Err((refusal, merged.headers)),
        }
    }

    /// RFC 9111 4.3.4: a 304 whose strong validator differs from the stored one's is about another
    /// response. The cache cannot ask for that one, since the request's body is spent. So the
    /// stored response is removed, and is served this once only if a stale response may replace a
    /// failed fetch. RFC 9111 4.2.4: a cache "MUST NOT generate a stale response unless it is
    /// disconnected or doing so is explicitly permitted".
    fn mismatched<R>(&mut self, entry: &Arc<Entry>, outcome: Outcome) -> Response<ResponseBody<R>> {
        self.remove_stored();
        let outcome = outcome.because(Reason::ValidatorMismatch);
        if !self.may_serve_on_error(&entry.head, self.response_time) {
            let mut response = Response::new(ResponseBody::stored(Bytes::new()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            return with_status_line(response, outcome, self.cache().status_name());
        }
        self.response_builder()
            .answer(&entry.head, &entry.body, outcome)
    }

    /// RFC 9111 4.3.5: a HEAD response may update the stored GET response, or make it invalid.
    pub(super) fn update_by_head(&mut self, head: &response::Parts) {
        let Some(entry) = self.lookup.entry.clone() else {
            return;
        };
        let stored = &entry.head;
        let exchange = self.exchange(head);
        let rules = &self.settings.policy.rules;
        let length = entry.body.len() as u64;
        let fields = stored.headers.lines().to_map(0);
        match semantics::head_updates(stored.status, &fields, length, &exchange, rules) {
            HeadOutcome::Freshened(admitted) => {
                let Ok(admitted) = self.permit_merged(stored, &fields, *admitted) else {
                    return self.remove_stored();
                };
                let new_entry = self.new_entry(stored.status, admitted, Some(length));
                let commit = self.take_commit(stored.status);
                // `Cache-Status` says of a HEAD response that it was forwarded, and no more.
                let _ = commit.commit(new_entry, entry.body.clone(), self.response_time);
            }
            HeadOutcome::Invalidate => self.remove_stored(),
            HeadOutcome::Nothing => {}
        }
    }
}
