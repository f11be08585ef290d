//! Cookies as they are written to a key.

use http::HeaderMap;
use http::header::COOKIE;
use sha2::{Digest, Sha256};

use super::frame::{frame, frame_option};

/// Writes the cookies of these names: each pair as it was sent if all readers of cookies agree on
/// what the field says, and the whole field otherwise.
///
/// The readers differ: of two cookies of a name some take the first and some the last; some decode
/// percent signs in names, some heed quotes, and some look at one line only.
pub(super) fn write_cookies(out: &mut Vec<u8>, names: &[String], headers: &HeaderMap) {
    if names.is_empty() {
        return;
    }
    frame(out, b":cookies");
    match keyed_pairs(names, headers) {
        Some(pairs) => {
            for (name, pair) in names.iter().zip(pairs) {
                frame(out, name.as_bytes());
                let digest = pair.map(|pair| pair.digest());
                frame_option(out, digest.as_ref().map(<[u8; 32]>::as_slice));
            }
        }
        None => {
            let mut lines = Vec::new();
            for line in headers.get_all(COOKIE) {
                frame(&mut lines, line.as_bytes());
            }
            // No cookie has an empty name.
            frame(out, b"");
            frame(out, &Sha256::digest(&lines));
        }
    }
}

/// A name, an equals sign and a value.
#[derive(Clone, Copy)]
struct Pair<'a> {
    bytes: &'a [u8],
    in_first_line: bool,
    in_last_line: bool,
}

impl Pair<'_> {
    fn digest(&self) -> [u8; 32] {
        let lines = [u8::from(self.in_first_line), u8::from(self.in_last_line)];
        let digest = Sha256::new().chain_update(lines);
        digest.chain_update(self.bytes).finalize().into()
    }
}

/// The pair of each name, if it is there. `None` if readers may differ.
///
/// HTTP/2 lets clients split the field into lines (RFC 9113 8.2.3). Some readers look at the first
/// line only, and some at the last; so it counts whether a pair stands in these.
fn keyed_pairs<'a>(names: &[String], headers: &'a HeaderMap) -> Option<Vec<Option<Pair<'a>>>> {
    let mut pairs = vec![None; names.len()];
    let mut lines = headers.get_all(COOKIE).iter().peekable();
    let mut in_first_line = true;
    while let Some(line) = lines.next() {
        let in_last_line = lines.peek().is_none();
        let pieces = line.as_bytes().split(|&byte| byte == b';');
        for bytes in pieces.map(<[u8]>::trim_ascii).filter(|it| !it.is_empty()) {
            let name = plain_name(bytes)?;
            let mut keyed = pairs.iter_mut().zip(names);
            if let Some((pair, _)) = keyed.find(|(_, keyed)| reads_as(name, keyed)) {
                let found = Pair {
                    bytes,
                    in_first_line,
                    in_last_line,
                };
                if pair.replace(found).is_some() {
                    return None;
                }
            }
        }
        in_first_line = false;
    }
    Some(pairs)
}

/// The name of a pair that follows the grammar of RFC 6265 4.1.1 without quotes, percent signs in its
/// name, or a `$`, with which RFC 2965 began attributes.
fn plain_name(pair: &[u8]) -> Option<&[u8]> {
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    let (name, value) = pair.split_at_checked(equals)?;
    let is_plain = !name.is_empty()
        && name.iter().copied().all(is_plain_in_name)
        && value.iter().copied().all(is_cookie_octet);
    is_plain.then_some(name)
}

/// A byte of a token (RFC 9110 5.6.2) that nothing decodes.
fn is_plain_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#&'*+-.^_`|~".contains(&byte)
}

/// RFC 6265 4.1.1: "US-ASCII characters excluding CTLs, whitespace, DQUOTE, comma, semicolon, and
/// backslash".
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

/// Whether some reader takes one name for the other: ASP.NET ignores the case of letters, and PHP
/// reads a dot as an underscore.
fn reads_as(name: &[u8], keyed: &str) -> bool {
    let folded = |byte: &u8| match byte {
        b'.' => b'_',
        byte => byte.to_ascii_lowercase(),
    };
    name.iter()
        .map(folded)
        .eq(keyed.as_bytes().iter().map(folded))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// What the cookies `sid` and `php_name` add to a key.
    fn written(lines: &[&str]) -> Vec<u8> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let mut out = Vec::new();
        let names = ["sid".to_owned(), "php_name".to_owned()];
        write_cookies(&mut out, &names, &headers);
        out
    }

    #[test]
    fn another_cookie_that_changes_beside_a_keyed_one_is_no_reason_not_to_share() {
        let groups: [&[&[&str]]; 5] = [
            &[
                &[],
                &[""],
                &["other=1"],
                &["other=2; more=3"],
                &[";"],
                &["a=1", "b=2"],
            ],
            &[
                &["sid=a"],
                &["sid=a; other=1"],
                &["other=1;sid=a"],
                &["other=a%20b==;  sid=a ;"],
                &["sidx=1; xsid=2; sid=a"],
            ],
            &[&["sid=a", "other=1"], &["other=2; sid=a", "x=1", "y=2"]],
            &[&["other=1", "sid=a"], &["x=1", "y=1", "other=2;sid=a"]],
            &[&["x=1", "sid=a", "y=1"], &["x=2", "sid=a", "y=2", "z=3"]],
        ];
        for (at, group) in groups.iter().enumerate() {
            for lines in *group {
                assert_eq!(written(lines), written(group[0]), "{lines:?}");
                let others = groups.iter().take(at);
                for other in others.flat_map(|group| *group) {
                    assert_ne!(written(lines), written(other), "{lines:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn a_field_that_readers_read_differently_counts_whole() {
        let odd: [&[&str]; 20] = [
            &["sid=a; sid=b"],
            &["sid=b; sid=a"],
            &["sid=a", "sid=b"],
            &["sid=a; SID=b"],
            &["php_name=a; php.name=b"],
            &["sid =a"],
            &["sid= a"],
            &["s%69d=a"],
            &["sid=a; s%69d=b"],
            &["sid=\"a\""],
            &["other=\"x; sid=a\""],
            &["sid"],
            &["sid; sid=a"],
            &["=a"],
            &["other=1,sid=a"],
            &["other=1 sid=a"],
            &["$Version=1; sid=a"],
            &["sid=\u{fc}"],
            &["sid=\\a"],
            &["sid=a; other\t=1"],
        ];
        for lines in odd {
            let mut with_another = lines.to_vec();
            with_another.push("another=1");
            assert_ne!(written(lines), written(&with_another), "{lines:?}");
            assert_ne!(written(lines), written(&[]), "{lines:?}");
            let same = odd.iter().filter(|other| written(other) == written(lines));
            assert_eq!(same.count(), 1, "{lines:?}");
        }
        // One name that some readers take for the keyed one counts as it is spelt.
        for (line, plain) in [("SID=a", "sid=a"), ("php.name=a", "php_name=a")] {
            let beside = format!("{line}; other=1");
            assert_eq!(written(&[line]), written(&[&beside]));
            assert_ne!(written(&[line]), written(&[plain]));
            assert_ne!(written(&[line]), written(&[]));
        }
    }
}
