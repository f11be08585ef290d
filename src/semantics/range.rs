//! Byte ranges of a stored response (RFC 9110, section 14).

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::conditional::if_range_passes;
use super::syntax::tokens::trim_ows;
use crate::base::clock::Timestamp;

/// The part of a stored response that a `GET` request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeAnswer {
    /// Serve 200 with all of it.
    Whole,
    /// Serve 206 with these bytes. They count from 0; both ends are included and inside the
    /// content.
    Part { start: u64, end_inclusive: u64 },
    /// Serve 416.
    Unsatisfiable,
}

/// Resolves the request's `Range`, after the preconditions, against `len` stored bytes.
///
/// One range of bytes is served. RFC 9110, section 14.2: "A server MAY ignore the Range header
/// field". It is ignored, and the whole response is served, if it is malformed, has another unit or
/// asks for several ranges (one request could ask for many copies), or if the status is not 200 or
/// the content is empty.
pub(crate) fn resolve(
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
    len: u64,
    now: Timestamp,
) -> RangeAnswer {
    let mut lines = request.get_all(header::RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return RangeAnswer::Whole;
    };
    if status != StatusCode::OK || len == 0 || !if_range_passes(request, stored, now) {
        return RangeAnswer::Whole;
    }
    match Spec::parse(line.as_bytes()) {
        Some(spec) => spec.within(len),
        None => RangeAnswer::Whole,
    }
}

/// The `Content-Range` of a 206.
pub(crate) fn content_range(start: u64, end_inclusive: u64, len: u64) -> HeaderValue {
    value(format!("bytes {start}-{end_inclusive}/{len}"))
}

/// The `Content-Range` of a 416: "bytes */1234".
pub(crate) fn unsatisfied_range(len: u64) -> HeaderValue {
    value(format!("bytes */{len}"))
}

fn value(text: String) -> HeaderValue {
    // Digits and ASCII punctuation are always a valid value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

/// One range specifier.
#[derive(Clone, Copy)]
enum Spec {
    /// A first and a last byte, both included.
    FromTo(u64, u64),
    From(u64),
    Last(u64),
}

impl Spec {
    /// Reads a single, valid range of bytes. `None` for anything else.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = trim_ows(text);
        let (unit, set) = text.split_at_checked("bytes=".len())?;
        // Section 14.1: "range unit names are case-insensitive".
        if !unit.eq_ignore_ascii_case(b"bytes=") {
            return None;
        }
        // Empty list elements are allowed. Several ranges are not served.
        let mut specs = set
            .split(|&byte| byte == b',')
            .map(trim_ows)
            .filter(|spec| !spec.is_empty());
        let (Some(spec), None) = (specs.next(), specs.next()) else {
            return None;
        };
        let dash = spec.iter().position(|&byte| byte == b'-')?;
        let (first, rest) = spec.split_at(dash);
        let (_dash, last) = rest.split_first()?;
        match (first, last) {
            (b"", last) => Some(Self::Last(number(last)?)),
            (first, b"") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                // "An int-range is invalid if the last-pos value is present and less than
                // first-pos."
                (first <= last).then_some(Self::FromTo(first, last))
            }
        }
    }

    /// Section 14.1.2: an int-range is satisfiable if it starts before the end, a suffix-range if
    /// it is not empty. A part beyond the end is cut off.
    fn within(self, len: u64) -> RangeAnswer {
        let end_inclusive = len.saturating_sub(1);
        match self {
            Self::FromTo(start, end) if start < len => RangeAnswer::Part {
                start,
                end_inclusive: end.min(end_inclusive),
            },
            Self::From(start) if start < len => RangeAnswer::Part {
                start,
                end_inclusive,
            },
            Self::Last(count) if count > 0 => RangeAnswer::Part {
                start: len.saturating_sub(count),
                end_inclusive,
            },
            _ => RangeAnswer::Unsatisfiable,
        }
    }
}

/// Reads decimal digits. Too many digits are the largest number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}
