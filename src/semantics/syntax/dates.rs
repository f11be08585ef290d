//! HTTP dates (RFC 9110, section 5.6.7), in all three forms.
//!
//! The parser is not that of the crate `httpdate`, which refuses a wrong weekday and compares names
//! with regard to case. Senders get both wrong and other caches accept them, so a refused `Expires`
//! would be a lost lifetime. It also reads two-digit years relative to the present, as the RFC
//! wants; `httpdate` has a fixed limit. Everything else is taken literally. Dates are written by
//! `httpdate`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::tokens::trim_ows;
use crate::base::clock::Timestamp;
use crate::base::memo::Memo;
use crate::semantics::fields::single;

/// The date in a field. `None` if it is absent, invalid, or in lines that differ.
pub(crate) fn date_field(
    headers: &HeaderMap,
    name: HeaderName,
    now: Timestamp,
) -> Option<Timestamp> {
    parse_date(single(headers, name)?.as_bytes(), now)
}

/// The moment that `text` names. `None` if it is not an HTTP date, or before 1970.
///
/// `now` serves to read two-digit years.
pub(crate) fn parse_date(text: &[u8], now: Timestamp) -> Option<Timestamp> {
    let text = Text(trim_ows(text));
    imf_fixdate(text)
        .or_else(|| asctime(text))
        .or_else(|| rfc850(text, now))
}

/// Writes `moment` as a sender does. `None` after the year 9999, since the form has four digits.
pub(crate) fn format_date(moment: Timestamp) -> Option<String> {
    (moment.as_millis() / 1000 < YEAR_10000)
        .then(|| httpdate::fmt_http_date(moment.to_system_time()))
}

/// [`format_date`] as a field's value. The last one is kept, since responses are stored many times
/// a second.
pub(crate) fn date_value(moment: Timestamp) -> Option<HeaderValue> {
    let second = moment.as_millis() / 1000;
    let make = || Some((second, HeaderValue::try_from(format_date(moment)?).ok()?));
    LAST.with(|last| last.get_or_keep(|(of, _)| *of == second, make))
        .map(|(_, value)| value)
}

thread_local! {
    static LAST: Memo<(u64, HeaderValue)> = const { Memo::new() };
}

/// Forgets the last date.
#[cfg(feature = "test-util")]
pub(crate) fn forget_memo() {
    LAST.with(Memo::forget);
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: Text<'_>) -> Option<Timestamp> {
    let (_, text) = text.name(&SHORT_DAYS)?;
    let (day, text) = text.literal(b", ")?.digits(2)?;
    let (month, text) = text.literal(b" ")?.name(&MONTHS)?;
    let (year, text) = text.literal(b" ")?.digits(4)?;
    let (time, text) = text.literal(b" ")?.time()?;
    text.literal(b" GMT")?.end()?;
    moment(year, month, day, time)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: Text<'_>, now: Timestamp) -> Option<Timestamp> {
    let (_, text) = text.name(&LONG_DAYS)?;
    let (day, text) = text.literal(b", ")?.digits(2)?;
    let (month, text) = text.literal(b"-")?.name(&MONTHS)?;
    let (year, text) = text.literal(b"-")?.digits(2)?;
    let (time, text) = text.literal(b" ")?.time()?;
    text.literal(b" GMT")?.end()?;
    // "Recipients of a timestamp value in rfc850-date format, which uses a two-digit year,
    // MUST interpret a timestamp that appears to be more than 50 years in the future as
    // representing the most recent year in the past that had the same last two digits."
    let this_year = year_of(now);
    let latest = this_year.saturating_add(50);
    let year = latest - (latest + 100 - year) % 100;
    let date = moment(year, month, day, time)?;
    if year == latest && date.since(now).as_secs() > 50 * SECS_PER_YEAR {
        return moment(year.checked_sub(100)?, month, day, time);
    }
    Some(date)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: Text<'_>) -> Option<Timestamp> {
    let (_, text) = text.name(&SHORT_DAYS)?;
    let (month, text) = text.literal(b" ")?.name(&MONTHS)?;
    let text = text.literal(b" ")?;
    let (day, text) = match text.literal(b" ") {
        Some(text) => text.digits(1)?,
        None => text.digits(2)?,
    };
    let (time, text) = text.literal(b" ")?.time()?;
    let (year, text) = text.literal(b" ")?.digits(4)?;
    text.end()?;
    moment(year, month, day, time)
}

/// The moment of a date. `time` is in seconds since midnight, `month` counts from 0, `day` from 1.
fn moment(year: u64, month: u64, day: u64, time: u64) -> Option<Timestamp> {
    if year < 1970 || day == 0 || day > days_in(year, month) {
        return None;
    }
    let days =
        days_before(year) + (0..month).map(|month| days_in(year, month)).sum::<u64>() + day - 1;
    Some(Timestamp::from_secs(days * SECS_PER_DAY + time))
}

/// The number of days from 1970 to the start of `year`, which is not before 1970.
const fn days_before(year: u64) -> u64 {
    365 * (year - 1970) + leaps_until(year - 1) - leaps_until(1969)
}

const fn leaps_until(year: u64) -> u64 {
    year / 4 - year / 100 + year / 400
}

const fn days_in(year: u64, month: u64) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_of(now: Timestamp) -> u64 {
    let days = now.as_millis() / 1000 / SECS_PER_DAY;
    // The estimate is never too late. The loop corrects it.
    let mut year = 1970 + days / 366;
    while year < 9999 && days_before(year + 1) <= days {
        year += 1;
    }
    year.min(9999)
}

/// The rest of a date's text. Each step takes something off its front, or fails.
#[derive(Clone, Copy)]
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn literal(self, expected: &[u8]) -> Option<Self> {
        let (found, rest) = self.0.split_at_checked(expected.len())?;
        found.eq_ignore_ascii_case(expected).then_some(Self(rest))
    }

    /// Takes one of `names`, and returns its position.
    fn name(self, names: &[&str]) -> Option<(u64, Self)> {
        (0..)
            .zip(names)
            .find_map(|(position, name)| Some((position, self.literal(name.as_bytes())?)))
    }

    fn digits(self, count: usize) -> Option<(u64, Self)> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits.iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + u64::from(byte - b'0'))
        })?;
        Some((number, Self(rest)))
    }

    /// Takes `08:49:37`, and returns the seconds since midnight. A leap second is allowed.
    fn time(self) -> Option<(u64, Self)> {
        let (hour, text) = self.digits(2)?;
        let (minute, text) = text.literal(b":")?.digits(2)?;
        let (second, text) = text.literal(b":")?.digits(2)?;
        (hour < 24 && minute < 60 && second <= 60)
            .then_some((hour * 3600 + minute * 60 + second, text))
    }

    const fn end(self) -> Option<()> {
        if self.0.is_empty() { Some(()) } else { None }
    }
}

/// The year 10000, in seconds since 1970.
const YEAR_10000: u64 = 253_402_300_800;
const SECS_PER_DAY: u64 = 24 * 60 * 60;
/// The average length of a year.
const SECS_PER_YEAR: u64 = 31_556_952;
const SHORT_DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
