//! The tokenizer of `Cache-Control`, for requests and responses alike.
//!
//! It works on bytes, in one pass, and marks what does not follow the grammar.

use std::borrow::Cow;

use super::seconds::Delta;

/// One directive: a name and perhaps an argument. A quoted string in the place of one is an argument
/// without a name.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    name: &'a [u8],
    /// Unquoted.
    pub(crate) value: Option<Cow<'a, [u8]>>,
    /// It follows the grammar: nothing else stands between it and the commas around it.
    pub(crate) clean: bool,
}

impl Member<'_> {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether it is the directive but for signs around the name, such as single quotes.
    pub(crate) fn is_like(&self, name: &str) -> bool {
        let is_sign = |byte: &u8| !byte.is_ascii_alphanumeric();
        let start = self.name.iter().position(|byte| !is_sign(byte));
        let end = self.name.iter().rposition(|byte| !is_sign(byte));
        let (Some(start), Some(end)) = (start, end) else {
            return false;
        };
        let bare = self.name.get(start..=end);
        bare.is_some_and(|bare| bare.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The text of a quoted string that stands where a directive should.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        self.value.as_deref().filter(|_| self.name.is_empty())
    }

    /// RFC 9111, section 5.2: recipients accept the quoted-string form as well as the token
    /// form of an argument.
    pub(crate) fn delta(&self) -> Delta {
        match &self.value {
            Some(value) if self.clean => Delta::parse(value),
            _ => Delta::Invalid,
        }
    }
}

/// The members of one line; each byte is looked at a constant number of times.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    rest: &'a [u8],
    /// Whether the element that is being read has been clean so far.
    clean: bool,
    /// A quoted string did not end.
    pub(crate) unterminated: bool,
}

impl<'a> Members<'a> {
    pub(crate) const fn of(line: &'a [u8]) -> Self {
        Self {
            rest: line,
            clean: true,
            unterminated: false,
        }
    }

    /// Skips to the next byte that can start a name or a quoted string.
    fn skip_to_name(&mut self) {
        while let [byte, rest @ ..] = self.rest {
            match *byte {
                b',' => self.clean = true,
                b' ' | b'\t' => {}
                b'"' => return,
                byte if is_token_byte(byte) => return,
                _ => self.clean = false,
            }
            self.rest = rest;
        }
    }

    fn token(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !is_token_byte(byte));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        token
    }

    fn value(&mut self) -> Option<Cow<'a, [u8]>> {
        let [b'=', rest @ ..] = self.rest else {
            return None;
        };
        if let [b'"', inside @ ..] = rest {
            self.rest = inside;
            return Some(self.quoted());
        }
        self.rest = rest;
        Some(Cow::Borrowed(self.token()))
    }

    /// Reads to the closing quote, whose opening one has been read.
    fn quoted(&mut self) -> Cow<'a, [u8]> {
        let all = self.rest;
        let mut unescaped = None::<Vec<u8>>;
        let mut read = 0;
        while let [byte, rest @ ..] = self.rest {
            self.rest = rest;
            match (*byte, rest) {
                (b'"', _) => {
                    let plain = Cow::Borrowed(all.split_at(read).0);
                    return unescaped.map_or(plain, Cow::Owned);
                }
                (b'\\', [escaped, rest @ ..]) => {
                    self.rest = rest;
                    unescaped
                        .get_or_insert_with(|| all.split_at(read).0.to_vec())
                        .push(*escaped);
                    read += 2;
                }
                (byte, _) => {
                    if let Some(text) = &mut unescaped {
                        text.push(byte);
                    }
                    read += 1;
                }
            }
        }
        self.unterminated = true;
        self.clean = false;
        Cow::Borrowed(all)
    }

    /// Whether an element ends here, white space aside.
    fn at_end_of_element(&self) -> bool {
        let mut bytes = self.rest.iter();
        matches!(
            bytes.find(|byte| !matches!(byte, b' ' | b'\t')),
            None | Some(b',')
        )
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        self.skip_to_name();
        if self.rest.is_empty() {
            return None;
        }
        if let [b'"', inside @ ..] = self.rest {
            self.rest = inside;
            self.clean = false;
            return Some(Member {
                name: b"",
                value: Some(self.quoted()),
                clean: false,
            });
        }
        let name = self.token();
        let value = self.value();
        self.clean &= self.at_end_of_element();
        Some(Member {
            name,
            value,
            clean: self.clean,
        })
    }
}

/// `bytes` without optional white space around them (RFC 9110, section 5.6.3).
pub(crate) const fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// RFC 9110, section 5.6.2.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
