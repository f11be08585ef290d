//! `POST` whose response may be stored for `GET`.

use std::sync::Arc;

use http::{HeaderMap, Response, Uri};

use super::context::FetchContext;
use crate::base::clock::Timestamp;
use crate::base::position::LogPosition;
use crate::flight::Leader;
use crate::key::Key;
use crate::request::fallback::Fallback;
use crate::request::handler::Content;
use crate::request::settings::Settings;
use crate::response::body::ResponseBody;
use crate::response::passed::passed;
use crate::semantics::{self, RequestFacts};
use crate::status::{Forwarded, Reason};
use crate::store::Lookup;

/// The exchange of a `POST` whose response may be stored for `GET`.
pub(crate) struct Posted {
    pub(crate) settings: Arc<Settings>,
    /// The request's, as if it had been a GET.
    pub(crate) facts: RequestFacts,
    pub(crate) target: Key,
    /// Keeps others from overlooking this exchange, under a key that nobody waits for.
    pub(crate) leader: Leader,
    /// How far the purge log had been read before the handler was called.
    pub(crate) position: LogPosition,
    pub(crate) request_time: Timestamp,
}

impl Posted {
    /// Stores the response if it says that it is what `GET` of `uri` would get.
    pub(crate) fn keep<R>(self, uri: &Uri, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Content,
    {
        let Self {
            settings,
            facts,
            target,
            leader,
            position,
            request_time,
        } = self;
        let response_time = settings.cache.now();
        let mut fetched = FetchContext {
            settings,
            facts,
            headers: HeaderMap::new(),
            lookup: Lookup {
                base: target,
                marker: None,
                variant: None,
                traces: None,
                entry: None,
            },
            fallback: Fallback::Nothing(Forwarded::Method, Reason::Method),
            leader: Some(leader),
            position,
            request_time,
            response_time,
        };
        let (head, body) = response.into_parts();
        let rules = &fetched.settings.policy.rules;
        match semantics::admit_posted(&fetched.exchange(&head), uri, rules) {
            Ok(admitted)
                if admitted.vary.is_empty() && fetched.settings.policy.store_if.is_none() =>
            {
                fetched.record(head, body, admitted)
            }
            // The request's fields went to the handler: what depends on them is not stored.
            Ok(_) | Err(_) => {
                let response = Response::from_parts(head, body);
                passed(
                    response,
                    fetched.fallback.outcome(),
                    fetched.cache().status_name(),
                )
            }
        }
    }
}
