//! The fields of a stored response.

use std::sync::OnceLock;

use http::header::{AGE, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::base::decimal::number_value;
use crate::base::lines::Lines;
use crate::status::CACHE_STATUS;

/// The fields of a stored response, without `Age` (it is in the lifetimes) and without hop-by-hop
/// fields.
///
/// The fields are kept as lines until the first hit, which many responses never have. The first hit
/// makes a map with placeholders for `Age` and `Cache-Status` and with the content's length. An
/// answer clones the map and replaces two values; adding a field would make the clone grow.
pub(crate) struct StoredHeaders {
    lines: Lines,
    /// The content's length, if it may be sent and is not among the lines.
    length: Option<u64>,
    /// Boxed, since most responses have no map.
    ready: OnceLock<Box<HeaderMap>>,
}

impl StoredHeaders {
    /// The fields of a response, and the length of its content if that is known and may be sent.
    pub(crate) fn new(lines: Lines, length: Option<u64>) -> Self {
        Self {
            length: length.filter(|_| !lines.contains(&CONTENT_LENGTH)),
            lines,
            ready: OnceLock::new(),
        }
    }

    /// A copy without the map.
    pub(super) fn again(&self) -> Self {
        Self {
            lines: self.lines.clone(),
            length: self.length,
            ready: OnceLock::new(),
        }
    }

    /// Fields that were just read from the store, as lines and as a map.
    pub(super) fn read(lines: Lines, fields: HeaderMap, length: Option<u64>) -> Self {
        let length = length.filter(|_| !fields.contains_key(CONTENT_LENGTH));
        Self {
            lines,
            length,
            ready: OnceLock::from(Box::new(with_places(fields, length))),
        }
    }

    /// The fields of an answer, with placeholders for `Age` and `Cache-Status`.
    pub(crate) fn ready(&self) -> &HeaderMap {
        // The clone has no room to spare.
        let make = || Box::new(with_places(self.lines.to_map(RESERVED), self.length).clone());
        self.ready.get_or_init(make)
    }

    /// As [`StoredHeaders::ready`], for a response that answers once.
    pub(crate) fn into_ready(self) -> HeaderMap {
        let Self {
            lines,
            length,
            ready,
        } = self;
        match ready.into_inner() {
            Some(fields) => *fields,
            None => with_places(lines.to_map(RESERVED), length),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.get().is_some()
    }

    /// The stored fields.
    pub(crate) const fn lines(&self) -> &Lines {
        &self.lines
    }

    /// The memory that the lines take and, once there is one, the map; in bytes.
    pub(super) fn weight(&self) -> usize {
        let map = match self.ready.get() {
            Some(fields) => {
                size_of::<HeaderMap>() + fields.len() * HEADER_LINE + fields.capacity() * INDEX
            }
            None => 0,
        };
        self.lines.bytes().len() + map
    }
}

fn with_places(mut fields: HeaderMap, length: Option<u64>) -> HeaderMap {
    fields.insert(AGE, const { HeaderValue::from_static("0") });
    if !fields.contains_key(CACHE_STATUS) {
        fields.insert(CACHE_STATUS, PLACE);
    }
    if let Some(length) = length {
        fields.insert(CONTENT_LENGTH, number_value(length));
    }
    fields
}

/// `Age`, `Cache-Status` and `Content-Length`.
pub(super) const RESERVED: usize = 3;

/// The length of a response's content, if it may be sent. RFC 9110 8.6: "A server MUST NOT send a
/// Content-Length header field in any response with a status code of 1xx … or 204".
pub(crate) fn sendable_length(status: StatusCode, length: Option<u64>) -> Option<u64> {
    length.filter(|_| status != StatusCode::NO_CONTENT && !status.is_informational())
}

/// The placeholder for `Cache-Status`. Another cache never sends an empty value.
const PLACE: HeaderValue = HeaderValue::from_static("");

/// One line in a `HeaderMap`: name, value, hash and links.
const HEADER_LINE: usize = size_of::<HeaderName>() + size_of::<HeaderValue>() + 32;

/// One slot of its index, of which a quarter stays empty.
const INDEX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_told_and_not_stored_unless_it_came_with_the_fields() {
        let own = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("7"))]);
        let table = [
            (HeaderMap::new(), StatusCode::OK, Some(7), Some("7"), 0),
            (HeaderMap::new(), StatusCode::OK, None, None, 0),
            (HeaderMap::new(), StatusCode::NO_CONTENT, Some(0), None, 0),
            (own, StatusCode::OK, Some(7), Some("7"), 1),
        ];
        for (fields, status, length, expected, lines) in table {
            let stored =
                StoredHeaders::new(fields.iter().collect(), sendable_length(status, length));
            let sendable_length = stored.ready().get(CONTENT_LENGTH);
            assert_eq!(
                sendable_length.map(HeaderValue::as_bytes),
                expected.map(str::as_bytes)
            );
            assert_eq!(stored.lines().len(), lines);
        }
    }
}
