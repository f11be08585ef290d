//! Targeted cache control fields (RFC 9213), such as `CDN-Cache-Control`.
//!
//! They are structured-field Dictionaries (RFC 9651, section 3.2). This parser keeps the values that
//! directives have, and checks and skips the rest.
//!
//! It is not that of the crate `sfv`, because a field that fails to parse has no directives at all:
//! `Cache-Control` then decides, and may permit what the field forbids. `sfv` fails the whole field
//! for a byte sequence that is not base64 or a display string with a bad escape. Here both are
//! skipped, so that a `no-store` beside one still forbids.

use http::{HeaderMap, HeaderName};

use super::directives::{Qualified, ResponseDirectives};
use super::seconds::Delta;

/// The directives of the first usable field among `targets`, or else of `Cache-Control`; and
/// whether they are targeted.
///
/// RFC 9213, section 2.2: the first field, in the order of the list, that has a valid and
/// not empty value decides alone; `Cache-Control` and `Expires` are then ignored. But what forbids
/// is found in the fields before it as well, and however it is spelt: a field that cannot be parsed
/// permits nothing, and may have been meant to forbid.
pub(crate) fn select(headers: &HeaderMap, targets: &[HeaderName]) -> (ResponseDirectives, bool) {
    let mut fields = targets.iter().enumerate();
    let first = fields.find_map(|(number, target)| Some((number, read(headers, target)?)));
    let is_targeted = first.is_some();
    let (last, mut directives) =
        first.unwrap_or_else(|| (targets.len(), ResponseDirectives::read(headers)));
    for target in targets.iter().take(last.saturating_add(1)) {
        for line in headers.get_all(target) {
            directives.forbid_in(line);
        }
    }
    (directives, is_targeted)
}

/// `None` if the field is absent, empty or invalid.
fn read(headers: &HeaderMap, target: &HeaderName) -> Option<ResponseDirectives> {
    let mut found = ResponseDirectives::default();
    let mut empty = true;
    for line in headers.get_all(target) {
        // RFC 9651, section 4.2: the lines are one list. As no member can span two lines
        // here, each is parsed for itself; an empty line is no error.
        let mut input = Input(trim_spaces(line.as_bytes()));
        while !input.0.is_empty() {
            let key = input.key()?;
            let value = input.member_value()?;
            set(&mut found, key, &value);
            empty = false;
            if !input.next_member()? {
                break;
            }
        }
    }
    (!empty).then_some(found)
}

/// RFC 9651, section 4.2.2: a key that comes again overwrites.
fn set(found: &mut ResponseDirectives, key: &[u8], value: &Value) {
    match key {
        b"no-store" => found.no_store = true,
        b"private" => found.private = value.qualified(),
        b"no-cache" => found.no_cache = value.qualified(),
        b"must-revalidate" => {
            found.must_revalidate = true;
            found.permits_authorization = value.is_true();
        }
        b"proxy-revalidate" => found.proxy_revalidate = true,
        b"public" => found.public = value.is_true(),
        b"must-understand" => found.must_understand = value.is_true(),
        b"immutable" => found.immutable = value.is_true(),
        b"max-age" => found.max_age = value.delta(),
        b"s-maxage" => found.s_maxage = value.delta(),
        b"stale-while-revalidate" => found.stale_while_revalidate = value.delta(),
        b"stale-if-error" => found.stale_if_error = value.delta(),
        _ => {}
    }
}

/// A member's value, as far as directives use it.
#[derive(Debug)]
enum Value {
    Boolean(bool),
    Integer(i64),
    String(Vec<u8>),
    Other,
}

impl Value {
    const fn is_true(&self) -> bool {
        matches!(self, Self::Boolean(true))
    }

    /// RFC 9213, section 2.1: `max-age` and its kin are Integers; another type is invalid.
    fn delta(&self) -> Delta {
        match self {
            Self::Integer(secs) if *secs >= 0 => {
                Delta::Seconds(u32::try_from(*secs).unwrap_or(u32::MAX))
            }
            _ => Delta::Invalid,
        }
    }

    fn qualified(&self) -> Qualified {
        match self {
            Self::String(list) => Qualified::fields(list),
            _ => Qualified::Whole,
        }
    }
}

/// What is left of a line. `None` means that parsing fails (RFC 9651, section 4.2).
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Takes what comes between two members; whether there is another one.
    fn next_member(&mut self) -> Option<bool> {
        self.skip(b" \t");
        if self.0.is_empty() {
            return Some(false);
        }
        self.expect(b',')?;
        self.skip(b" \t");
        // A trailing comma is an error.
        (!self.0.is_empty()).then_some(true)
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = self.0.first()?;
        if !first.is_ascii_lowercase() && *first != b'*' {
            return None;
        }
        Some(self.take_while(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        }))
    }

    fn member_value(&mut self) -> Option<Value> {
        let value = match self.0 {
            [b'=', rest @ ..] => {
                self.0 = rest;
                if self.0.first() == Some(&b'(') {
                    self.inner_list()?
                } else {
                    self.bare_item()?
                }
            }
            _ => Value::Boolean(true),
        };
        self.parameters()?;
        Some(value)
    }

    fn parameters(&mut self) -> Option<()> {
        while let [b';', rest @ ..] = self.0 {
            self.0 = rest;
            self.skip(b" ");
            self.key()?;
            if let [b'=', rest @ ..] = self.0 {
                self.0 = rest;
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn inner_list(&mut self) -> Option<Value> {
        self.expect(b'(')?;
        loop {
            self.skip(b" ");
            if let [b')', rest @ ..] = self.0 {
                self.0 = rest;
                return Some(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn bare_item(&mut self) -> Option<Value> {
        match *self.0.first()? {
            b'"' => self.string(),
            b':' => self.byte_sequence(),
            b'?' => self.boolean(),
            b'@' => self.date(),
            b'%' => self.display_string(),
            b'-' | b'0'..=b'9' => self.number(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.take_while(|byte| {
                    super::tokens::is_token_byte(byte) || byte == b':' || byte == b'/'
                });
                Some(Value::Other)
            }
            _ => None,
        }
    }

    /// RFC 9651, section 4.2.4: at most 15 digits, or 12 before and 3 after a point.
    fn number(&mut self) -> Option<Value> {
        let negative = self.0.first() == Some(&b'-');
        if negative {
            self.expect(b'-')?;
        }
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        if self.0.first() == Some(&b'.') {
            self.expect(b'.')?;
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            let valid = (1..=12).contains(&whole.len()) && (1..=3).contains(&fraction.len());
            return valid.then_some(Value::Other);
        }
        if !(1..=15).contains(&whole.len()) {
            return None;
        }
        let number = whole
            .iter()
            .fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
        Some(Value::Integer(if negative { -number } else { number }))
    }

    fn string(&mut self) -> Option<Value> {
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            match self.take()? {
                b'"' => return Some(Value::String(text)),
                b'\\' => text.push(self.take().filter(|byte| matches!(byte, b'"' | b'\\'))?),
                byte @ b' '..=b'~' => text.push(byte),
                _ => return None,
            }
        }
    }

    fn boolean(&mut self) -> Option<Value> {
        self.expect(b'?')?;
        match self.take()? {
            b'0' => Some(Value::Boolean(false)),
            b'1' => Some(Value::Boolean(true)),
            _ => None,
        }
    }

    fn date(&mut self) -> Option<Value> {
        self.expect(b'@')?;
        matches!(self.number()?, Value::Integer(_)).then_some(Value::Other)
    }

    fn byte_sequence(&mut self) -> Option<Value> {
        self.expect(b':')?;
        self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        self.expect(b':')?;
        Some(Value::Other)
    }

    fn display_string(&mut self) -> Option<Value> {
        self.expect(b'%')?;
        self.expect(b'"')?;
        self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"');
        self.expect(b'"')?;
        Some(Value::Other)
    }

    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn expect(&mut self, expected: u8) -> Option<()> {
        (self.take()? == expected).then_some(())
    }

    fn skip(&mut self, blanks: &[u8]) {
        self.take_while(|byte| blanks.contains(&byte));
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| !wanted(byte));
        let (taken, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// RFC 9651, section 4.2: leading and trailing SP, and no other white space, is discarded.
fn trim_spaces(mut line: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = line {
        line = rest;
    }
    line
}
