//! The parts of a query that belong to the key.

use std::borrow::Cow;

use http::Uri;
use http::request::Parts;
use percent_encoding::percent_decode_str;

/// The parts of the query that belong to the key. A part that is left out of the key is also
/// removed from the request that the handler sees.
///
/// Parameters are the pieces between `&`. Their names are compared after percent-decoding. A kept
/// parameter stays as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryRule {
    /// The query as it was sent, byte for byte. This is the default, and always right.
    #[default]
    Exact,
    /// All parameters, sorted by their bytes. For handlers to which the order does not matter.
    Sorted,
    /// Only the named parameters, sorted.
    Only(Vec<String>),
    /// All but the named parameters, in the order in which they were sent. A trailing `*`
    /// stands for any ending: `utm_*`.
    Except(Vec<String>),
}

/// Rewrites the request's URI, and axum's original one, so that they have only the parts that the
/// rule keeps.
pub(super) fn rewrite(parts: &mut Parts, rule: &QueryRule) {
    if let Some(uri) = rewritten(&parts.uri, rule) {
        parts.uri = uri;
    }
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = parts.extensions.get_mut()
        && let Some(uri) = rewritten(original, rule)
    {
        *original = uri;
    }
}

/// The URI with the query that the rule keeps. `None` if that is the query it has.
fn rewritten(uri: &Uri, rule: &QueryRule) -> Option<Uri> {
    let query = uri.query()?;
    let kept = rule.apply(query);
    if kept.as_deref() == Some(query) {
        return None;
    }
    let path_and_query = match kept {
        Some(kept) => format!("{}?{kept}", uri.path()),
        None => uri.path().to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.parse().ok()?);
    Uri::from_parts(parts).ok()
}

impl QueryRule {
    /// The part of a query that is kept. `None` if nothing is kept.
    fn apply<'a>(&self, query: &'a str) -> Option<Cow<'a, str>> {
        let pieces = query.split('&').filter(|piece| !piece.is_empty());
        let kept: Vec<&str> = match self {
            Self::Exact => return Some(Cow::Borrowed(query)),
            Self::Sorted => sorted(pieces.collect()),
            Self::Only(names) => sorted(pieces.filter(|piece| named(names, piece)).collect()),
            Self::Except(names) => pieces.filter(|piece| !named(names, piece)).collect(),
        };
        (!kept.is_empty()).then(|| Cow::Owned(kept.join("&")))
    }
}

/// Sorts the pieces. The sort is stable, so that repeated parameters keep their order.
fn sorted(mut pieces: Vec<&str>) -> Vec<&str> {
    pieces.sort_by_key(|piece| decoded_name(piece).into_owned());
    pieces
}

fn named(names: &[String], piece: &str) -> bool {
    let name = decoded_name(piece);
    names.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    })
}

/// A parameter's name with `+` and percent-encoding undone, so that `%75tm` is `utm`.
fn decoded_name(piece: &str) -> Cow<'_, str> {
    let name = piece.split('=').next().unwrap_or(piece);
    if !name.contains(['%', '+']) {
        return Cow::Borrowed(name);
    }
    let spaced = name.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8_lossy();
    Cow::Owned(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_the_rule_names() {
        let only = QueryRule::Only(vec!["a".into(), "b".into()]);
        let except = QueryRule::Except(vec!["utm_*".into(), "fbclid".into()]);
        let table: [(&str, &QueryRule, &str, Option<&str>); 12] = [
            (
                "exact keeps all",
                &QueryRule::Exact,
                "b=1&a=2&",
                Some("b=1&a=2&"),
            ),
            ("sorted", &QueryRule::Sorted, "b=1&a=2", Some("a=2&b=1")),
            (
                "sorted keeps repeats in order",
                &QueryRule::Sorted,
                "b=2&a=1&b=1",
                Some("a=1&b=2&b=1"),
            ),
            ("only", &only, "c=3&b=1&a=2", Some("a=2&b=1")),
            ("only, none there", &only, "c=3", None),
            ("only, without a value", &only, "a&c", Some("a")),
            (
                "except",
                &except,
                "utm_source=x&id=1&fbclid=y",
                Some("id=1"),
            ),
            (
                "except keeps the order",
                &except,
                "z=1&utm_x=2&a=3",
                Some("z=1&a=3"),
            ),
            (
                "except, encoded name",
                &except,
                "%75tm_source=x&id=1",
                Some("id=1"),
            ),
            ("except, all gone", &except, "utm_source=x", None),
            ("a bare percent sign", &except, "100%=x", Some("100%=x")),
            (
                "semicolons separate nothing",
                &except,
                "id=1;utm_x=2",
                Some("id=1;utm_x=2"),
            ),
        ];
        for (name, rule, query, expected) in table {
            assert_eq!(rule.apply(query).as_deref(), expected, "{name}");
        }
    }
}
