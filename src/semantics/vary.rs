//! The request fields that select a variant, and the normal form of their values (RFC 9111,
//! section 4.1).

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::syntax::tokens::{is_token_byte, trim_ows};
use crate::base::memo::Memo;

/// The `Vary` of a response, over all its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Vary {
    /// There is no `Vary`, or it names nothing.
    None,
    /// Sorted, without duplicates, never empty.
    Fields(Arc<[HeaderName]>),
    /// "A stored response with a Vary header field value containing a member '*' always
    /// fails to match." (RFC 9111, section 4.1)
    Any,
    /// A member is not a field name, or there are more than [`MAX_NAMES`] fields.
    Invalid,
}

/// More names than any application needs.
pub(crate) const MAX_NAMES: usize = 64;

/// Reads all lines of `Vary`. What comes after too many names is not read.
///
/// The last names are kept, since most responses of an application vary on the same fields.
pub(crate) fn parse_vary(headers: &HeaderMap) -> Vary {
    let mut lines = headers.get_all(header::VARY).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return parse_lines(headers);
    };
    let mut unkept = Vary::Invalid;
    let parse = || match parse_lines(headers) {
        // A copy of the line: it may be a slice of all that was read at once.
        Vary::Fields(names) => Some((HeaderValue::from_bytes(line.as_bytes()).ok()?, names)),
        vary => {
            unkept = vary;
            None
        }
    };
    let fields = LAST.with(|last| last.get_or_keep(|(of, _)| of == line, parse));
    fields.map_or(unkept, |(_, names)| Vary::Fields(names))
}

thread_local! {
    static LAST: Memo<(HeaderValue, Arc<[HeaderName]>)> = const { Memo::new() };
}

/// Forgets the last names.
#[cfg(feature = "test-util")]
pub(crate) fn forget_memo() {
    LAST.with(Memo::forget);
}

fn parse_lines(headers: &HeaderMap) -> Vary {
    let mut names = Vec::new();
    let mut invalid = false;
    for member in headers.get_all(header::VARY).iter().flat_map(members) {
        match member {
            b"*" => return Vary::Any,
            // A name may have a star in it, and no field has: more than one field is meant.
            name if name.contains(&b'*') => invalid = true,
            name => match HeaderName::from_bytes(name) {
                Ok(name) if names.len() <= MAX_NAMES => insert(&mut names, name),
                _ => invalid = true,
            },
        }
    }
    if invalid || names.len() > MAX_NAMES {
        Vary::Invalid
    } else if names.is_empty() {
        Vary::None
    } else {
        Vary::Fields(names.into())
    }
}

/// The members of a line that say something.
fn members(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let members = line.as_bytes().split(|&byte| byte == b',').map(trim_ows);
    members.filter(|member| !member.is_empty())
}

/// Whether a line of `Vary` has a member that the lines of `headers` do not have.
pub(crate) fn adds_member(headers: &HeaderMap, line: &HeaderValue) -> bool {
    let mut new = members(line);
    new.any(|member| {
        let mut known = headers.get_all(header::VARY).iter().flat_map(members);
        !known.any(|known| known.eq_ignore_ascii_case(member))
    })
}

/// Adds a name to a sorted list, unless it is there.
pub(crate) fn insert(names: &mut Vec<HeaderName>, name: HeaderName) {
    let found = names.binary_search_by(|other| other.as_str().cmp(name.as_str()));
    if let Err(position) = found {
        names.insert(position, name);
    }
}

/// Appends the normal form of the request's `name` field. Two requests select the same variant
/// exactly if the same bytes are appended for each field.
///
/// RFC 9111, section 4.1: fields match if they can be transformed into each other by "adding
/// or removing whitespace, where allowed in the header field's syntax", "combining multiple
/// header field lines with the same field name", and "normalizing both header field values in
/// a way that is known to have identical semantics". An absent field matches only an absent
/// one. Values are framed by their length, so that no value can be taken for two.
pub(crate) fn variant_value(name: &HeaderName, headers: &HeaderMap, out: &mut Vec<u8>) {
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        out.push(ABSENT);
        return;
    }
    out.push(PRESENT);
    if *name == header::ACCEPT_ENCODING
        && let Some(codings) = PlainCodings::of(headers)
    {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        codings.write(out);
        let length = (out.len() - start - 8) as u64;
        if let Some(place) = out.get_mut(start..start + 8) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        return;
    }
    let value = match *name {
        header::ACCEPT_ENCODING => normalize_accept_encoding(lines),
        header::ACCEPT_LANGUAGE => normalize_accept_language(&joined(lines)),
        header::ACCEPT | header::ACCEPT_CHARSET => without_space_around(&joined(lines), b",;"),
        header::COOKIE => joined_by(b"; ", lines),
        // Only a field's own syntax says where white space does not count, and this is any field.
        _ => joined(lines),
    };
    out.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_be_bytes());
    out.extend_from_slice(&value);
}

/// One line of a few codings without weights, as browsers send it. Every hit on a variant normalises
/// it, so this takes no memory. The result is that of [`normalize_accept_encoding`].
struct PlainCodings<'a> {
    codings: [&'a [u8]; 8],
    count: usize,
}

impl<'a> PlainCodings<'a> {
    fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(header::ACCEPT_ENCODING).iter();
        let (line, None) = (lines.next()?, lines.next()) else {
            return None;
        };
        let mut plain = Self {
            codings: [b""; 8],
            count: 0,
        };
        for member in line.as_bytes().split(|&byte| byte == b',').map(trim_ows) {
            let simple = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if member.is_empty() || !member.iter().all(simple) || member == b"identity" {
                return None;
            }
            *plain.codings.get_mut(plain.count)? = member;
            plain.count += 1;
        }
        plain.codings.get_mut(..plain.count)?.sort_unstable();
        Some(plain)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut last: &[u8] = b"";
        for coding in self.codings.iter().take(self.count) {
            if *coding == last {
                continue;
            }
            if !last.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(coding);
            last = coding;
        }
    }
}

/// The codings that `Accept-Encoding` accepts, as canonical text: sorted, in lower case,
/// without weights. `identity` is left out where it is acceptable, which is the default.
///
/// RFC 9110, section 12.5.3. What cannot be parsed stands for itself. Two clients that
/// accept the same codings but prefer different ones share a variant: both can read it.
pub(crate) fn normalize_accept_encoding<'a>(
    lines: impl IntoIterator<Item = &'a HeaderValue>,
) -> Vec<u8> {
    let value = joined(lines);
    accepted_codings(&value).unwrap_or_else(|| {
        // No list of tokens starts like this.
        let mut raw = b"=".to_vec();
        raw.extend_from_slice(&value);
        raw
    })
}

fn accepted_codings(value: &[u8]) -> Option<Vec<u8>> {
    let mut codings = BTreeMap::new();
    for member in value.split(|&byte| byte == b',').map(trim_ows) {
        if member.is_empty() {
            continue;
        }
        let (coding, accepted) = coding(member)?;
        if *codings.entry(coding).or_insert(accepted) != accepted {
            // Accepted and refused at once: servers differ in how they read it.
            return None;
        }
    }
    // "If the representation's content coding is one of the content codings listed in the
    // Accept-Encoding field value, then it is acceptable unless it is accompanied by a qvalue
    // of 0." What is not listed goes with "*"; "identity" is acceptable unless refused by
    // itself or by "*".
    let star = codings.remove(&b"*"[..]);
    let rest = star == Some(true);
    let identity = codings.remove(&b"identity"[..]).or(star).unwrap_or(true);
    let mut out = Vec::with_capacity(value.len());
    for (coding, _) in codings.iter().filter(|(_, accepted)| **accepted != rest) {
        push_member(&mut out, if rest { b"-" } else { b"" }, coding);
    }
    if rest {
        push_member(&mut out, b"", b"*");
    }
    if !identity {
        push_member(&mut out, b"-", b"identity");
    }
    Some(out)
}

fn push_member(out: &mut Vec<u8>, sign: &[u8], coding: &[u8]) {
    if !out.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(sign);
    out.extend_from_slice(coding);
}

/// One member: its coding, and whether its weight is above zero. `None` if unparsable.
fn coding(member: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut parts = member.split(|&byte| byte == b';').map(trim_ows);
    let name = parts.next().filter(|name| !name.is_empty())?;
    if !name.iter().all(|&byte| is_token_byte(byte)) {
        return None;
    }
    let accepted = match parts.next() {
        Some(text) => weight(text)? > 0,
        None => true,
    };
    if parts.next().is_some() {
        return None;
    }
    // RFC 9110, section 8.4.1: "x-compress" and "x-gzip" are equivalent to the names
    // without "x-".
    let name = match name.to_ascii_lowercase() {
        name if name == b"x-gzip" => b"gzip".to_vec(),
        name if name == b"x-compress" => b"compress".to_vec(),
        name => name,
    };
    Some((name, accepted))
}

/// RFC 9110, section 12.4.2: `q=` and a number from 0 to 1 with at most three decimals.
/// In thousandths.
fn weight(weight: &[u8]) -> Option<u16> {
    let number = match weight {
        [b'q' | b'Q', b'=', number @ ..] => number,
        _ => return None,
    };
    let (whole, decimals) = match number {
        [whole, b'.', decimals @ ..] => (whole, decimals),
        [whole] => (whole, &[][..]),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = decimals.iter().map(|digit| u16::from(digit - b'0'));
    let thousandths = digits.zip([100, 10, 1]).map(|(digit, worth)| digit * worth);
    match (whole, thousandths.sum()) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

/// The lines as one: RFC 9110, section 5.3 lets them be combined with ", ".
fn joined<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> Vec<u8> {
    joined_by(b", ", lines)
}

/// The lines as one. Those of `Cookie`, which HTTP/2 lets a client divide, are no list: RFC 9113,
/// section 8.2.3, has them "concatenated into a single octet string using the two-octet delimiter
/// of 0x3b, 0x20 (the ASCII string "; ")".
fn joined_by<'a>(delimiter: &[u8], lines: impl IntoIterator<Item = &'a HeaderValue>) -> Vec<u8> {
    let mut out = Vec::new();
    for (position, line) in lines.into_iter().enumerate() {
        if position > 0 {
            out.extend_from_slice(delimiter);
        }
        out.extend_from_slice(trim_ows(line.as_bytes()));
    }
    out
}

/// The ranges of `Accept-Language`, sorted, in lower case.
///
/// RFC 9110, section 12.5.4: that the order means a preference "cannot be relied upon";
/// weights do, and stay with their ranges.
fn normalize_accept_language(value: &[u8]) -> Vec<u8> {
    let value = without_space_around(value, b",;").to_ascii_lowercase();
    let mut ranges: Vec<&[u8]> = value
        .split(|&byte| byte == b',')
        .filter(|range| !range.is_empty())
        .collect();
    ranges.sort_unstable();
    ranges.join(&b',')
}

/// `value` without optional white space around `delimiters`, quoted strings left alone.
fn without_space_around(value: &[u8], delimiters: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut blanks = 0;
    let mut quoted = false;
    let mut escaped = false;
    for &byte in value {
        if quoted {
            out.push(byte);
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        if matches!(byte, b' ' | b'\t') {
            blanks += 1;
            continue;
        }
        let after_delimiter = out.last().is_none_or(|last| delimiters.contains(last));
        if !after_delimiter && !delimiters.contains(&byte) {
            out.extend(std::iter::repeat_n(b' ', blanks));
        }
        blanks = 0;
        quoted = byte == b'"';
        out.push(byte);
    }
    out
}

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;
