//! Responses made from stored entries.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, EXPIRES};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::base::clock::Timestamp;
use crate::base::decimal::number_value;
use crate::entry::{Entry, Head};
use crate::response::body::ResponseBody;
use crate::response::follower_body::FollowerBody;
use crate::semantics::{self, Lifetimes, MethodClass, Precondition, RangeAnswer, RequestFacts};
use crate::status::{Outcome, Reason, StatusName};

/// The parts of a request that shape a response made from an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseBuilder<'a> {
    pub(crate) facts: &'a RequestFacts,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) now: Timestamp,
    /// This cache's name.
    pub(crate) status_name: &'a StatusName,
}

impl ResponseBuilder<'_> {
    /// The answer from a complete stored response: 200, 304, 206, 416, or a HEAD of it.
    pub(crate) fn answer<R>(
        &self,
        head: &Head,
        body: &Bytes,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        if self.is_not_modified(head) {
            return self.not_modified(head, outcome);
        }
        if self.facts.method == MethodClass::Head {
            return self.head_only(head, body.len() as u64, outcome);
        }
        if self.facts.range {
            return self.range(head, body, outcome);
        }
        let body = ResponseBody::stored(body.clone());
        let headers = head.headers.ready().clone();
        self.finish(head.status, headers, body, &head.lifetimes, outcome)
    }

    /// As [`ResponseBuilder::answer`]. If nobody else holds the entry, its header map is moved and
    /// not cloned.
    pub(crate) fn answer_once<R>(
        &self,
        entry: Arc<Entry>,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        let facts = self.facts;
        let is_plain = facts.method == MethodClass::Get && !facts.range && !facts.conditional;
        if !is_plain {
            return self.answer(&entry.head, &entry.body, outcome);
        }
        match Arc::try_unwrap(entry) {
            Ok(Entry { head, body }) => {
                let body = ResponseBody::stored(body);
                let headers = head.headers.into_ready();
                self.finish(head.status, headers, body, &head.lifetimes, outcome)
            }
            Err(shared) => self.answer(&shared.head, &shared.body, outcome),
        }
    }

    /// The answer from a recording of known length that is still growing. The request must be for
    /// all of it.
    pub(crate) fn answer_growing<R>(
        &self,
        head: &Head,
        body: FollowerBody,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        let body = ResponseBody::follower(body);
        let headers = head.headers.ready().clone();
        self.finish(head.status, headers, body, &head.lifetimes, outcome)
    }

    /// Whether the client has this response already (RFC 9110 13.2.2).
    pub(crate) fn is_not_modified(&self, head: &Head) -> bool {
        self.facts.conditional
            && semantics::evaluate(
                self.headers,
                head.status,
                head.headers.ready(),
                &head.lifetimes,
            ) == Precondition::NotModified
    }

    pub(crate) fn not_modified<R>(
        &self,
        head: &Head,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        let headers = semantics::not_modified_headers(head.headers.ready());
        self.finish(
            StatusCode::NOT_MODIFIED,
            headers,
            ResponseBody::stored(Bytes::new()),
            &head.lifetimes,
            outcome,
        )
    }

    /// RFC 9110 9.3.2: HEAD is GET without the content, with the fields that describe it.
    fn head_only<R>(
        &self,
        head: &Head,
        length: u64,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        let mut headers = head.headers.ready().clone();
        if !headers.contains_key(CONTENT_LENGTH) && has_content(head.status) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let body = ResponseBody::stored(Bytes::new());
        self.finish(head.status, headers, body, &head.lifetimes, outcome)
    }

    /// RFC 9110 14.2 and 15.3.7: one range of a complete stored response.
    fn range<R>(&self, head: &Head, body: &Bytes, outcome: Outcome) -> Response<ResponseBody<R>> {
        let length = body.len() as u64;
        let answer = semantics::resolve(
            self.headers,
            head.status,
            head.headers.ready(),
            length,
            self.now,
        );
        let mut headers = head.headers.ready().clone();
        let (status, body) = match answer {
            RangeAnswer::Whole => (head.status, body.clone()),
            RangeAnswer::Part {
                start,
                end_inclusive,
            } => {
                let part = slice(body, start, end_inclusive);
                headers.insert(
                    CONTENT_RANGE,
                    semantics::content_range(start, end_inclusive, length),
                );
                headers.insert(CONTENT_LENGTH, HeaderValue::from(part.len()));
                for digest_of_whole in [CONTENT_DIGEST, CONTENT_MD5] {
                    headers.remove(digest_of_whole);
                }
                (StatusCode::PARTIAL_CONTENT, part)
            }
            RangeAnswer::Unsatisfiable => {
                headers = semantics::not_modified_headers(&headers);
                // The lifetimes are those of the whole response, and this answers one bad range.
                for lifetime in [CACHE_CONTROL, EXPIRES] {
                    headers.remove(lifetime);
                }
                headers.insert(CONTENT_RANGE, semantics::unsatisfied_range(length));
                (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
            }
        };
        let body = ResponseBody::stored(body);
        self.finish(status, headers, body, &head.lifetimes, outcome)
    }

    fn finish<R>(
        &self,
        status: StatusCode,
        mut headers: HeaderMap,
        body: ResponseBody<R>,
        lifetimes: &Lifetimes,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        // RFC 9111 4: "When a stored response is used to satisfy a request without validation,
        // a cache MUST generate an Age header field".
        headers.insert(AGE, number_value(lifetimes.age(self.now)));
        outcome.set_in(&mut headers, self.status_name);
        let body = if has_content(status) {
            body
        } else {
            ResponseBody::none()
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// RFC 9111 5.2.1.7: a cache that cannot answer an only-if-cached request "SHOULD … respond with a
/// 504 (Gateway Timeout) status code".
pub(crate) fn not_cached<R>(status_name: &StatusName) -> Response<ResponseBody<R>> {
    let mut response = Response::new(ResponseBody::stored(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let outcome = Outcome::Generated {
        detail: Reason::OnlyIfCached,
    };
    outcome.append_to(response.headers_mut(), status_name);
    response
}

/// The bytes of a range that was resolved against this body.
fn slice(body: &Bytes, start: u64, end_inclusive: u64) -> Bytes {
    let bounds = usize::try_from(start)
        .ok()
        .zip(usize::try_from(end_inclusive).ok());
    match bounds {
        Some((start, end)) if start <= end && end < body.len() => body.slice(start..=end),
        _ => Bytes::new(),
    }
}

/// RFC 9110 6.4.1: 204 and 304 responses never have content.
fn has_content(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// RFC 9530 2: the digest of the content as it is sent, unlike `Repr-Digest`.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// RFC 1864, the same for MD5.
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
