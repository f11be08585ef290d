//! A response that may be stored, and how it is.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Response, StatusCode, response};
use http_body::Body;

use super::FetchContext;
use crate::base::tags::Tags;
use crate::entry::{Head, StoredHeaders, Verified, sendable_length};
use crate::flight::{Credentials, Uncacheable};
use crate::recording::part;
use crate::request::fill::{Commit, Fill, NewEntry, Peeked, Recorded, peek};
use crate::request::handler::Content;
use crate::response::body::ResponseBody;
use crate::semantics::{self, Admitted, Lifetimes};
use crate::service::future::passed;
use crate::status::{Outcome, Reason};
use crate::store::Stored;

impl FetchContext {
    /// The response may be stored: at once if its body is there, else while it streams.
    pub(super) fn record<R>(
        &mut self,
        head: response::Parts,
        body: R,
        admitted: Admitted,
    ) -> Response<ResponseBody<R>>
    where
        R: Content,
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
        let peeked = peek(body);
        let length = match &peeked {
            Peeked::Whole(bytes) => Some(bytes.len() as u64),
            Peeked::Begun(..) => declared,
        };
        let new_entry = self.new_entry(head.status, admitted, &Tags::default(), length);
        self.release_unless_reusable(&new_entry.head.lifetimes);
        let max_body = self.max_body();
        match peeked {
            Peeked::Whole(bytes)
                if declared.is_none_or(|length| length == bytes.len() as u64)
                    && bytes.len() as u64 <= max_body =>
            {
                let (sent, kept) = part(bytes);
                let (entry, stored) = self.landing().commit(new_entry, kept, self.response_time);
                let outcome = self.kept(outcome, stored);
                if self.has_own_question() {
                    return self.revalidated(&entry, outcome, &head);
                }
                self.first(head, ResponseBody::stored(sent), outcome)
            }
            // Whatever the client makes of it, it is not stored.
            Peeked::Whole(bytes) => {
                self.release_and_mark(Uncacheable::ForAll);
                let reason = match declared {
                    Some(length) if length != bytes.len() as u64 => Reason::LengthMismatch,
                    _ => Reason::TooLarge,
                };
                let outcome = outcome.because(reason);
                self.first(head, ResponseBody::stored(bytes), outcome)
            }
            Peeked::Begun(body, frames) => {
                let plan = Fill {
                    landing: self.landing(),
                    new_entry,
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
    pub(super) fn first<R>(
        &self,
        head: response::Parts,
        body: ResponseBody<R>,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        let mut response = Response::from_parts(head, body);
        outcome.append_to(response.headers_mut(), self.cache().status_name());
        response
    }

    /// The length that the response declares; or why it is not recorded.
    pub(super) fn room<R: Body>(
        &self,
        head: &response::Parts,
        body: &R,
    ) -> Result<Option<u64>, Reason> {
        let most = self.max_body();
        let exact = body.size_hint().exact();
        let declared = match declared_length(&head.headers)? {
            Some(length) if exact.is_some_and(|exact| exact != length) => {
                return Err(Reason::LengthMismatch);
            }
            Some(length) => Some(length),
            None => exact,
        };
        if declared.unwrap_or(body.size_hint().lower()) > most {
            return Err(Reason::TooLarge);
        }
        Ok(declared)
    }

    /// The longest body that is stored.
    pub(super) fn max_body(&self) -> u64 {
        let most = self.cache().config().max_body;
        self.settings
            .policy
            .max_body
            .map_or(most, |own| own.min(most))
    }

    /// What does not answer anybody else, though it may be stored to be validated.
    fn release_unless_reusable(&mut self, lifetimes: &Lifetimes) {
        let reusable = self.response_time < lifetimes.fresh_until
            && !lifetimes.flags.contains(semantics::Flags::NO_CACHE);
        if !reusable {
            self.release_and_mark(Uncacheable::ForAll);
        }
    }

    pub(super) fn new_entry(
        &self,
        status: StatusCode,
        admitted: Admitted,
        tags: &Tags,
        length: Option<u64>,
    ) -> NewEntry {
        let Admitted {
            mut lifetimes,
            lines,
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
        if lifetimes.flags.contains(semantics::Flags::ASSIGNED) {
            jitter(&mut lifetimes);
        }
        if self.settings.policy.early_refresh.is_some() {
            let cost = self.response_time.since(self.request_time);
            self.cache().flights().note_cost(&key, cost);
        }
        let head = Head {
            key,
            status,
            headers: StoredHeaders::new(lines, sendable_length(status, length)),
            lifetimes,
            position: self.position,
            tags: together(own, tags, &base.group_tags(&groups)),
            verified: Verified::never(),
        };
        NewEntry { head, fields: vary }
    }

    pub(super) fn landing(&mut self) -> Commit {
        Commit {
            cache: self.cache().clone(),
            base: self.lookup.base.clone(),
            traces: self.lookup.traces.clone(),
            credentials: Credentials::of(&self.facts),
            leader: self.leader.take(),
            auto_etag: self.settings.policy.auto_etag,
        }
    }

    pub(super) fn kept(&self, outcome: Outcome, stored: Stored) -> Outcome {
        match stored {
            Stored::Yes => outcome.and_stored(),
            Stored::TooManyVariants => outcome.because(Reason::TooManyVariants),
            Stored::Purged => outcome.because(Reason::Purged),
        }
    }
}

/// All of them, sorted and without duplicates; the response's own are most often all there are.
fn together(own: Tags, stored: &Tags, groups: &[String]) -> Tags {
    if stored.is_empty() && groups.is_empty() {
        return own;
    }
    let groups = groups.iter().map(String::as_str);
    let mut all: Vec<&str> = own.iter().chain(stored.iter()).chain(groups).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().collect()
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
fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, Reason> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    let length = HeaderValue::to_str(line)
        .ok()
        .and_then(|text| text.parse().ok());
    match (length, lines.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(Reason::ContentLength),
    }
}
