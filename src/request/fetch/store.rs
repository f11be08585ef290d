//! Storing the response of a fetch.

use std::collections::VecDeque;
use std::pin::Pin;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Response, StatusCode, response};
use http_body::{Body, Frame};

use super::context::FetchContext;
use crate::base::tags::Tags;
use crate::entry::{Head, StoredHeaders, Verified, sendable_length};
use crate::flight::{Credentials, Uncacheable};
use crate::recording::to_send_and_to_keep;
use crate::request::fill::{Commit, Fill, NewEntry, Peeked, Recorded, Stored, peek};
use crate::request::handler::Content;
use crate::response::body::ResponseBody;
use crate::semantics::{self, Admitted, Lifetimes};
use crate::status::{Outcome, Reason};

impl FetchContext {
    /// Stores a response at once if its body is complete already, or else while it streams.
    pub(super) fn record<R>(
        &mut self,
        head: response::Parts,
        body: R,
        admitted: Admitted,
    ) -> Response<ResponseBody<R>>
    where
        R: Content,
    {
        let declared = match self.declared_length(&head, &body) {
            Ok(declared) => declared,
            Err(reason) => return self.pass_unstored(head, ResponseBody::passed(body), reason),
        };
        match peek(body) {
            Peeked::Whole(bytes) => self.record_whole(head, bytes, declared, admitted),
            Peeked::Begun(body, frames) => {
                self.record_stream(head, body, frames, declared, admitted)
            }
        }
    }

    fn record_whole<R>(
        &mut self,
        head: response::Parts,
        bytes: Bytes,
        declared: Option<u64>,
        admitted: Admitted,
    ) -> Response<ResponseBody<R>> {
        let length = bytes.len() as u64;
        if let Some(reason) = self.length_refusal(length, declared) {
            return self.pass_unstored(head, ResponseBody::stored(bytes), reason);
        }
        let new_entry = self.new_response(&head, admitted, Some(length));
        let (to_send, to_keep) = to_send_and_to_keep(bytes);
        let commit = self.take_commit(head.status);
        let (entry, stored) = commit.commit(new_entry, to_keep, &self.headers, self.response_time);
        let outcome = storing(self.outcome(head.status), stored);
        if self.has_replaced_conditions {
            return self.answer_fetched(&entry, outcome, &head);
        }
        self.pass(head, ResponseBody::stored(to_send), outcome)
    }

    fn record_stream<R>(
        &mut self,
        head: response::Parts,
        body: Pin<Box<R>>,
        frames: VecDeque<Result<Frame<Bytes>, R::Error>>,
        declared: Option<u64>,
        admitted: Admitted,
    ) -> Response<ResponseBody<R>>
    where
        R: Content,
    {
        let fill = Fill {
            new_entry: self.new_response(&head, admitted, declared),
            commit: self.take_commit(head.status),
            headers: std::mem::take(&mut self.headers),
            declared,
            max_body: self.max_body(),
            deadline: self.cache().config().fill_deadline,
        };
        let (body, recorded) = fill.start(body, frames);
        let outcome = self.outcome(head.status);
        let outcome = match recorded {
            Recorded::Yes => outcome.and_stored(),
            Recorded::No(reason) => outcome.because(reason),
        };
        self.pass(head, ResponseBody::leader(body), outcome)
    }

    /// Passes on a response whose body does not allow it to be stored.
    fn pass_unstored<R>(
        &mut self,
        head: response::Parts,
        body: ResponseBody<R>,
        reason: Reason,
    ) -> Response<ResponseBody<R>> {
        self.withdraw_stored(head.status, reason);
        self.release_as_uncacheable(Uncacheable::ForAll);
        let outcome = self.outcome(head.status).because(reason);
        self.pass(head, body, outcome)
    }

    /// The length that the response declares, or why it is not recorded.
    fn declared_length<R: Body>(
        &self,
        head: &response::Parts,
        body: &R,
    ) -> Result<Option<u64>, Reason> {
        let exact = body.size_hint().exact();
        let declared = match content_length(&head.headers)? {
            Some(length) if exact.is_some_and(|exact| exact != length) => {
                return Err(Reason::LengthMismatch);
            }
            Some(length) => Some(length),
            None => exact,
        };
        if declared.unwrap_or(body.size_hint().lower()) > self.max_body() {
            return Err(Reason::TooLarge);
        }
        Ok(declared)
    }

    /// Why a body of this length is not stored.
    fn length_refusal(&self, length: u64, declared: Option<u64>) -> Option<Reason> {
        if declared.is_some_and(|declared| declared != length) {
            Some(Reason::LengthMismatch)
        } else if length > self.max_body() {
            Some(Reason::TooLarge)
        } else {
            None
        }
    }

    /// The longest body that is stored.
    fn max_body(&self) -> u64 {
        let most = self.cache().config().max_body;
        self.settings
            .policy
            .max_body
            .map_or(most, |own| own.min(most))
    }

    /// The entry of a full response. If no later request could be served from it, the followers
    /// call the handler: such an entry is stored to be validated, and not to be shared.
    fn new_response(
        &mut self,
        head: &response::Parts,
        admitted: Admitted,
        length: Option<u64>,
    ) -> NewEntry {
        let new_entry = self.new_entry(head.status, admitted, length);
        let lifetimes = &new_entry.head.lifetimes;
        let is_reusable = self.response_time < lifetimes.fresh_until
            && !lifetimes.flags.contains(semantics::Flags::NO_CACHE);
        if !is_reusable {
            self.release_as_uncacheable(Uncacheable::ForAll);
        }
        new_entry
    }

    pub(super) fn new_entry(
        &self,
        status: StatusCode,
        admitted: Admitted,
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
        let fields = self.lookup.fields_and(&vary);
        let key = if fields.is_empty() {
            base.clone()
        } else {
            base.variant(&fields, &self.headers)
        };
        if lifetimes.flags.contains(semantics::Flags::ASSIGNED) {
            jitter(&mut lifetimes);
        }
        if self.settings.policy.key.changes_queries() {
            lifetimes.flags = lifetimes.flags.with(semantics::Flags::QUERY_RULE);
        }
        if self.settings.policy.early_refresh.is_some() {
            let time = self.response_time.since(self.request_time);
            self.cache().flights().note_fetch_time(&key, time);
        }
        let head = Head {
            key,
            status,
            headers: StoredHeaders::new(lines, sendable_length(status, length)),
            lifetimes,
            moment: self.moment,
            tags: with_groups(own, &base.group_tags(&groups)),
            verified: Verified::never(),
        };
        NewEntry { head, fields, vary }
    }

    /// The commit of a response with this status, which takes over the leader of this fetch.
    pub(super) fn take_commit(&mut self, status: StatusCode) -> Commit {
        let replaced = self.replaces_stored(status);
        Commit {
            replaced: replaced.then(|| self.lookup.key().clone()),
            updated: None,
            cache: self.cache().clone(),
            base: self.lookup.base.clone(),
            credentials: Credentials::of(&self.facts, &self.settings.policy.rules),
            leader: self.leader.take(),
            auto_etag: self.settings.policy.auto_etag,
        }
    }
}

/// The outcome of a fetch whose response was to be stored.
pub(super) fn storing(outcome: Outcome, stored: Stored) -> Outcome {
    match stored {
        Stored::Yes => outcome.and_stored(),
        Stored::Purged => outcome.because(Reason::Purged),
        Stored::Superseded => outcome.because(Reason::Superseded),
    }
}

/// All tags, sorted and without duplicates. Most responses have only tags of their own.
fn with_groups(own: Tags, groups: &[String]) -> Tags {
    if groups.is_empty() {
        return own;
    }
    let groups = groups.iter().map(String::as_str);
    let mut all: Vec<&str> = own.iter().chain(groups).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().collect()
}

/// Shortens a lifetime by up to a tenth, so that responses stored together do not expire together.
/// It is used for lifetimes that the cache assigns, and not for those that responses name.
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

/// `Content-Length`, if there is one. It must be one number.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Reason> {
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
