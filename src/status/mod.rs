//! `Cache-Status` (RFC 9211), and the outcome names that logs and metrics share with it.

#[cfg(feature = "metrics")]
mod counts;
mod outcome;
mod reason;

use http::{HeaderMap, HeaderName, HeaderValue};

#[cfg(feature = "metrics")]
pub use counts::Responses;
pub(crate) use outcome::{Forwarded, Outcome};
pub(crate) use reason::Reason;

use crate::base::memo::Memo;

/// The name of the field.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// A cache's name in `Cache-Status`, and the counts of its outcomes.
#[derive(Debug)]
pub(crate) struct StatusName {
    name: String,
    #[cfg(feature = "metrics")]
    counts: counts::Counts,
}

impl StatusName {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            #[cfg(feature = "metrics")]
            counts: counts::Counts::default(),
        }
    }

    /// The name, as a label of metrics.
    #[cfg(feature = "metrics")]
    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn responses(&self) -> Responses {
        self.counts.responses()
    }

    #[cfg(feature = "metrics")]
    fn count(&self, outcome: &Outcome) {
        self.counts.count(outcome);
    }

    /// Only metrics read the counts.
    #[cfg(not(feature = "metrics"))]
    fn count(&self, _outcome: &Outcome) {}
}

impl Outcome {
    /// Appends this cache's member to the list that caches nearer the origin have begun.
    pub(crate) fn append_to(self, headers: &mut HeaderMap, status_name: &StatusName) {
        status_name.count(&self);
        if let Some(value) = self.repeated(&status_name.name) {
            headers.append(CACHE_STATUS, value);
        }
    }

    /// As [`Outcome::append_to`], for an answer from the store, whose fields have a placeholder.
    pub(crate) fn set_in(self, headers: &mut HeaderMap, status_name: &StatusName) {
        status_name.count(&self);
        let Some(value) = self.value(&status_name.name) else {
            return;
        };
        match headers.get_mut(CACHE_STATUS) {
            Some(placeholder) if placeholder.is_empty() => *placeholder = value,
            _ => {
                headers.append(CACHE_STATUS, value);
            }
        }
    }

    /// The field's value. The last one is kept, since most requests that go forward have the same
    /// outcome as the one before.
    fn repeated(self, name: &str) -> Option<HeaderValue> {
        let is_ours = |(outcome, value): &(Self, HeaderValue)| {
            let after = value.as_bytes().strip_prefix(name.as_bytes());
            *outcome == self && after.is_some_and(|rest| rest.starts_with(b";"))
        };
        let make = || Some((self, self.value(name)?));
        LAST.with(|last| last.get_or_keep(is_ours, make))
            .map(|(_, value)| value)
    }
}

thread_local! {
    static LAST: Memo<(Outcome, HeaderValue)> = const { Memo::new() };
}

#[cfg(feature = "test-util")]
pub(crate) fn forget_memo() {
    LAST.with(Memo::forget);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_what_is_said_by_whom() {
        let outcomes = [
            Outcome::forward(Forwarded::UriMiss, None),
            Outcome::forward(Forwarded::UriMiss, Some(Reason::NotFound)),
            Outcome::forward(Forwarded::Stale, None),
            Outcome::hit(1),
        ];
        for outcome in outcomes.into_iter().flat_map(|outcome| [outcome; 2]) {
            for name in ["c", "cc", "cc", "c"] {
                assert_eq!(outcome.repeated(name), outcome.value(name), "{name}");
            }
        }
    }
}
