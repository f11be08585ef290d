//! The names by which a response is purged: tags of the handler, of the policy and of fields, and
//! the groups of RFC 9875.
//!
//! The parser of the lists is not that of the crate `sfv`, which fails a whole field for one odd
//! parameter: its groups would then not be invalidated. Here parameters are skipped.

use http::{HeaderMap, HeaderName};

use super::exchange::Exchange;
use super::rules::StorageRules;
use super::syntax::tokens::trim_ows;
use crate::base::tags::Tags;
use crate::status::Reason;

/// The tags and groups of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The tags, sorted and without duplicates.
    pub(crate) tags: Tags,
    /// The groups, named within the response's own origin (RFC 9875 2.1).
    pub(crate) groups: Vec<String>,
}

/// The tags and groups of a response. Too many, or too long ones, are refused: a response that one
/// of its tags could not purge must not be stored.
pub(crate) fn membership(
    exchange: &Exchange<'_>,
    rules: &StorageRules,
) -> Result<Membership, Reason> {
    let groups = groups(exchange.headers, &CACHE_GROUPS).ok_or(Reason::Tags)?;
    let options = exchange.options.iter().flat_map(|options| &options.tags);
    let mut tags: Vec<&str> = rules
        .tags
        .iter()
        .chain(options)
        .map(String::as_str)
        .collect();
    for tag in field_tags(exchange.headers) {
        tags.push(std::str::from_utf8(tag).map_err(|_not_text| Reason::Tags)?);
    }
    tags.sort_unstable();
    tags.dedup();
    if tags.len() + groups.len() > MAX_TAGS || !tags.iter().all(|tag| is_tag(tag)) {
        return Err(Reason::Tags);
    }
    let tags = tags.into_iter().collect();
    Ok(Membership { tags, groups })
}

/// The tags of a stored response that an answer without content has updated. They are the tags of
/// the merged fields and of the handler, and those tags of the stored response that did not come
/// from its fields. `fields` are the stored fields.
pub(crate) fn united_tags(
    merged: &Tags,
    groups: &[String],
    stored: &Tags,
    fields: &HeaderMap,
) -> Result<Tags, Reason> {
    let of_fields: Vec<&[u8]> = field_tags(fields).collect();
    let is_of_handler =
        |tag: &&str| !tag.starts_with(GROUP) && !of_fields.contains(&tag.as_bytes());
    let mut tags: Vec<&str> = stored.iter().filter(is_of_handler).collect();
    tags.extend(merged.iter());
    tags.sort_unstable();
    tags.dedup();
    if tags.len() + groups.len() > MAX_TAGS {
        return Err(Reason::Tags);
    }
    Ok(tags.into_iter().collect())
}

/// The groups that a response to an unsafe request invalidates (RFC 9875 3). A field that cannot be
/// parsed names no group and invalidates nothing.
pub(crate) fn invalidated_groups(headers: &HeaderMap) -> Vec<String> {
    groups(headers, &CACHE_GROUP_INVALIDATION).unwrap_or_default()
}

/// The tag under which a group is stored. No tag of an application has a zero byte.
pub(crate) fn group_tag(scheme: &[u8], authority: &[u8], group: &str) -> String {
    let scheme = String::from_utf8_lossy(scheme);
    let authority = String::from_utf8_lossy(authority);
    format!("{GROUP}{scheme}://{authority}\0{group}")
}

/// Whether `tag` can be stored. It needs 1 to 256 bytes without control characters.
pub(crate) fn is_tag(tag: &str) -> bool {
    (1..=MAX_TAG_LENGTH).contains(&tag.len()) && !tag.contains(char::is_control)
}

/// Whether a field carries tags. A policy may keep such fields from clients.
pub(crate) fn is_tag_field(name: &HeaderName) -> bool {
    TAG_FIELDS.iter().any(|(field, _)| field == name)
}

/// Removes the fields that carry tags from a response.
pub(crate) fn strip_tags(headers: &mut HeaderMap) {
    for (name, _) in &TAG_FIELDS {
        headers.remove(name);
    }
}

fn field_tags(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    TAG_FIELDS.iter().flat_map(|(name, separator)| {
        let lines = headers.get_all(name).into_iter();
        lines
            .flat_map(|line| line.as_bytes().split(|byte| separator.contains(byte)))
            .map(trim_ows)
            .filter(|tag| !tag.is_empty())
    })
}

/// Reads the groups of a field. RFC 9875 2: "a List of Strings". `None` for anything else.
/// Parameters are skipped.
fn groups(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for line in headers.get_all(name) {
        let mut rest = trim_ows(line.as_bytes());
        while !rest.is_empty() {
            let (group, after) = string(rest)?;
            found.push(group);
            rest = trim_ows(parameters(after));
            rest = match rest {
                [] => rest,
                [b',', after @ ..] => match trim_ows(after) {
                    // RFC 9651 4.2.1: a trailing comma fails the field.
                    [] => return None,
                    after => after,
                },
                _ => return None,
            };
        }
    }
    Some(found)
}

/// A structured-field String (RFC 9651 4.2.5), and the input after it.
fn string(input: &[u8]) -> Option<(String, &[u8])> {
    let mut rest = input.strip_prefix(b"\"")?;
    let mut text = String::new();
    loop {
        match rest {
            [b'"', after @ ..] => return Some((text, after)),
            [b'\\', escaped @ (b'"' | b'\\'), after @ ..] => {
                text.push(char::from(*escaped));
                rest = after;
            }
            [byte @ (0x20..=0x5b | 0x5d..=0x7e), after @ ..] => {
                text.push(char::from(*byte));
                rest = after;
            }
            _ => return None,
        }
    }
}

/// The input after the parameters of a member. No parameters are defined.
fn parameters(mut rest: &[u8]) -> &[u8] {
    if rest.first() == Some(&b';') {
        let mut quoted = false;
        let end = rest.iter().position(|byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        });
        rest = end.and_then(|end| rest.get(end..)).unwrap_or_default();
    }
    rest
}

/// The first character of a group's tag.
const GROUP: char = '\0';

/// The fields that carry tags, and the bytes that separate tags in them.
static TAG_FIELDS: [(HeaderName, &[u8]); 2] = [
    (HeaderName::from_static("surrogate-key"), b" \t"),
    (HeaderName::from_static("cache-tag"), b","),
];

static CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
pub(super) static CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// The largest number of tags, enough for a page that lists things. Each tag is looked up when the
/// purge log has moved.
const MAX_TAGS: usize = 128;
const MAX_TAG_LENGTH: usize = 256;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_list_of_strings_is_read_and_anything_else_names_nothing() {
        let table: [(&str, Option<&[&str]>); 12] = [
            (r#""a""#, Some(&["a"])),
            (r#""a", "b""#, Some(&["a", "b"])),
            ("\"a\"\t,\t\"b c\"", Some(&["a", "b c"])),
            (r#""a\"b\\c""#, Some(&[r#"a"b\c"#])),
            (r#""a";x=1;y=",", "b""#, Some(&["a", "b"])),
            ("", Some(&[])),
            ("a", None),
            (r#""a" "b""#, None),
            (r#""a","#, None),
            (r#""a"#, None),
            (r#""\a""#, None),
            (r#"("a")"#, None),
        ];
        for (line, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_GROUPS.clone(), HeaderValue::from_static(line));
            let expected = expected.map(|names| {
                names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>()
            });
            assert_eq!(groups(&headers, &CACHE_GROUPS), expected, "{line}");
        }
    }

    #[test]
    fn tags_have_bounds() {
        assert!(is_tag("product:7"));
        assert!(is_tag("mit Umlaut ä"));
        for bad in [
            String::new(),
            "x".repeat(257),
            "a\nb".to_owned(),
            "\0".to_owned(),
        ] {
            assert!(!is_tag(&bad), "{bad:?}");
        }
    }
}
