//! Responses without content that say something of the stored response: 304, and those to HEAD.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode, response};

use super::context::FetchContext;
use super::store::storing;
use crate::entry::{Entry, Head};
use crate::response::body::ResponseBody;
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
                    let commit = self.take_commit(stored.status).of_update(entry);
                    let (now, body) = (self.response_time, entry.body.clone());
                    let (updated, stored) = commit.commit(new_entry, body, &self.headers, now);
                    return self.answer_fetched(&updated, storing(outcome, stored), head);
                }
                Err(refused) => refused,
            },
        };
        self.release_refused(refusal);
        if !refusal.is_about_requester() {
            self.remove_compared(entry);
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

    /// Whether the handler's 304 names a strong validator that is not the stored response's. RFC 9111
    /// 4.3.4: such a 304 is about another response.
    pub(super) fn is_contradicted<R, E>(&self, result: &Result<Response<R>, E>) -> bool {
        let (Ok(response), Some(entry)) = (result, self.fallback.to_validate()) else {
            return false;
        };
        let stored = entry.head.headers.ready();
        response.status() == StatusCode::NOT_MODIFIED
            && semantics::is_about_another(stored, response.headers(), self.cache().now())
    }

    /// Goes on as if the stored response had not been there.
    pub(super) fn drop_contradicted(&mut self) {
        self.remove_stored();
        self.fallback = self.fallback.contradicted();
        self.lookup.entry = None;
        self.request_time = self.cache().now();
    }

    /// The request cannot be made once more. The handler has said that what was asked about has not
    /// changed, and that is what the client gets; the next request is unconditional.
    fn mismatched<R>(&self, entry: &Entry, outcome: Outcome) -> Response<ResponseBody<R>> {
        self.remove_compared(entry);
        let outcome = outcome.because(Reason::ValidatorMismatch);
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
                    return self.remove_compared(&entry);
                };
                let new_entry = self.new_entry(stored.status, admitted, Some(length));
                let commit = self.take_commit(stored.status).of_update(&entry);
                // `Cache-Status` says of a HEAD response that it was forwarded, and no more.
                let (now, body) = (self.response_time, entry.body.clone());
                let _ = commit.commit(new_entry, body, &self.headers, now);
            }
            HeadOutcome::Invalidate => self.remove_compared(&entry),
            HeadOutcome::Nothing => {}
        }
    }
}
