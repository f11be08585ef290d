//! Whether a response may be stored (RFC 9111, section 3).

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::credentials::check_storing;
use super::exchange::{Exchange, MethodClass, RequestFacts};
use super::fields::{Exclusions, is_coding, is_for_one_client, is_hop_by_hop};
use super::freshness::{Lifetimes, flags, lifetimes, sent_date};
use super::rules::{SetCookieRule, StorageRules};
use super::syntax::dates::date_value;
use super::syntax::directives::{Qualified, ResponseDirectives};
use super::syntax::targeted;
use super::tags::{Membership, is_tag_field, membership};
use super::vary::{MAX_NAMES, Vary, adds_member, insert, parse_vary};
use crate::base::lines::{Lines, MAX_FIELDS, Writer};
use crate::base::tags::Tags;
use crate::status::Reason;

/// The parts of a storable response that are stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admitted {
    pub(crate) lifetimes: Lifetimes,
    /// The fields to store: with a `Date`, without fields of one connection, without those that
    /// must not be stored, and without `Age`, which `lifetimes` contains.
    pub(crate) lines: Lines,
    /// The request fields that select this variant: sorted, without duplicates, often none.
    pub(crate) vary: Arc<[HeaderName]>,
    /// The tags of the handler, of the policy, and of its fields.
    pub(crate) tags: Tags,
    /// The groups it belongs to (RFC 9875), within its origin.
    pub(crate) groups: Vec<String>,
}

/// Judges a response to a request.
pub(crate) fn admit(exchange: &Exchange<'_>, rules: &StorageRules) -> Result<Admitted, Reason> {
    if exchange.facts.method != MethodClass::Get {
        return Err(Reason::Method);
    }
    check_status(exchange.status, rules)?;
    assess(exchange, rules)
}

/// As [`admit`], for a stored response whose fields were updated.
pub(crate) fn assess(exchange: &Exchange<'_>, rules: &StorageRules) -> Result<Admitted, Reason> {
    check_request(exchange.facts)?;
    let (mut directives, is_targeted) = targeted::select(exchange.headers, &rules.targets);
    widen(&mut directives.private);
    widen(&mut directives.no_cache);
    check_prohibitions(exchange, &directives)?;
    let flags = flags(exchange, &directives, is_targeted);
    check_storing(exchange.facts, flags, rules)?;
    let vary = vary(exchange)?;
    let lines = stored_lines(exchange, &directives, rules)?;
    let lifetimes =
        lifetimes(exchange, &directives, is_targeted, flags, rules).ok_or(Reason::NoFreshness)?;
    let Membership { tags, groups } = membership(exchange, rules)?;
    Ok(Admitted {
        lifetimes,
        lines,
        vary,
        tags,
        groups,
    })
}

fn check_request(facts: &RequestFacts) -> Result<(), Reason> {
    if facts.body {
        return Err(Reason::RequestBody);
    }
    // RFC 9111, section 5.2.1.5: "The no-store request directive indicates that a cache MUST
    // NOT store any part of either this request or any response to it."
    if facts.directives.no_store {
        return Err(Reason::RequestNoStore);
    }
    Ok(())
}

/// RFC 9111, section 3: a cache must not store unless "the response status code is final", and
/// a 206 or 304 only if "the cache understands" it. No part is stored as a response of its own:
/// clients choose the ranges, and so how many parts there would be.
///
/// RFC 6585: responses with 428, 429, 431 and 511 "MUST NOT be stored by a cache". 412, 416, 417,
/// 421 and 426 answer something in the request that no key covers: the connection, a precondition,
/// a range or an expectation.
///
/// 401, 403 and 407 refuse access to those who asked. Others may have it.
fn check_status(status: StatusCode, rules: &StorageRules) -> Result<(), Reason> {
    match status.as_u16() {
        // A `Content-Range` in any other response "has no meaning" (RFC 9110, section 14.4).
        206 => Err(Reason::Partial),
        ..=199 | 304 | 412 | 416 | 417 | 421 | 426 | 428 | 429 | 431 | 511 => Err(Reason::Status),
        401 | 403 | 407 if !rules.statuses.contains(&status) => Err(Reason::Status),
        _ => Ok(()),
    }
}

fn check_prohibitions(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
) -> Result<(), Reason> {
    if directives.malformed {
        return Err(Reason::MalformedCacheControl);
    }
    // RFC 9111, section 5.2.2.3: must-understand "limits caching of the response to a cache
    // that understands and conforms to the requirements for that response's status code";
    // such a cache "SHOULD ignore the no-store directive".
    if directives.must_understand && !understood(exchange.status) {
        return Err(Reason::MustUnderstand);
    }
    let no_store = directives.no_store && !directives.must_understand;
    if no_store || exchange.options.is_some_and(|options| options.no_store) {
        return Err(Reason::NoStore);
    }
    let private = directives.private == Qualified::Whole;
    if private || exchange.options.is_some_and(|options| options.private) {
        return Err(Reason::Private);
    }
    Ok(())
}

/// The statuses of RFC 9110, section 15, that [`check_status`] lets pass.
fn understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=411 | 413..=415 | 422
            | 500..=505
    )
}

/// Widens a directive to the whole response if it lists a field that says how to read the content,
/// which cannot be stored without that field.
fn widen(directive: &mut Qualified) {
    if matches!(directive, Qualified::Fields(names) if names.iter().any(is_coding)) {
        *directive = Qualified::Whole;
    }
}

fn vary(exchange: &Exchange<'_>) -> Result<Arc<[HeaderName]>, Reason> {
    let said = match parse_vary(exchange.headers) {
        Vary::None => Arc::default(),
        Vary::Fields(names) => names,
        Vary::Any => return Err(Reason::VaryAny),
        Vary::Invalid => return Err(Reason::VaryInvalid),
    };
    let options = exchange.options.map_or(&[][..], |options| &options.vary);
    if options.is_empty() {
        return Ok(said);
    }
    let mut names = said.to_vec();
    for name in options {
        if names.len() > MAX_NAMES {
            break;
        }
        insert(&mut names, name.clone());
    }
    if names.len() > MAX_NAMES {
        return Err(Reason::VaryInvalid);
    }
    Ok(names.into())
}

/// The lines to store, in the order they came in.
///
/// RFC 9111, section 5.2.2.7: with `private="…"`, "a shared cache MUST NOT store the listed
/// header fields". Section 5.2.2.4: fields listed by `no-cache="…"` must not be reused
/// without validation; not storing them is the simplest way to obey.
fn stored_lines(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    rules: &StorageRules,
) -> Result<Lines, Reason> {
    let unsaid = unsaid_vary(exchange);
    // This leaves room for a `Date`.
    if exchange.headers.keys_len() + usize::from(unsaid.is_some()) >= MAX_FIELDS {
        return Err(Reason::TooManyFields);
    }
    let listed = [&directives.private, &directives.no_cache]
        .into_iter()
        .flat_map(|qualified| match qualified {
            Qualified::Fields(names) => names.as_slice(),
            _ => &[],
        });
    let excluded = Exclusions::of(exchange.headers, listed.cloned());
    let dated = sent_date(exchange.headers, exchange.response_time).is_some();
    let mut lines = Writer::default();
    let mut has_date = false;
    for (name, value) in exchange.headers {
        let left_out = excluded.contains(name)
            || is_hop_by_hop(name)
            || *name == header::AGE
            || (*name == header::DATE && !dated)
            || (rules.strip_tags && is_tag_field(name))
            || rules.unstored.contains(name);
        if left_out {
            continue;
        }
        if is_for_one_client(name) {
            match rules.set_cookie {
                SetCookieRule::Refuse => return Err(Reason::SetCookie),
                SetCookieRule::StoreAndStrip => continue,
                SetCookieRule::StoreForEveryone => {}
            }
        }
        has_date |= *name == header::DATE;
        lines.push(name, value);
    }
    // RFC 9110, section 6.6.1: "A recipient with a clock that receives a response message
    // without a Date header field MUST record the time it was received and append a
    // corresponding Date header field to the message's header section if it is cached or
    // forwarded downstream."
    if !has_date && let Some(now) = date_value(exchange.response_time) {
        lines.push(&header::DATE, &now);
    }
    if let Some(names) = unsaid {
        lines.push(&header::VARY, &names);
    }
    Ok(lines.finish())
}

/// The names that the handler's instructions alone give. They are stored as a line of `Vary`, so
/// that whoever updates the stored response knows of them.
fn unsaid_vary(exchange: &Exchange<'_>) -> Option<HeaderValue> {
    let names = &exchange.options?.vary;
    let names = names.iter().map(|name| HeaderValue::from(name.clone()));
    let unsaid: Vec<_> = names
        .filter(|name| adds_member(exchange.headers, name))
        .collect();
    let bytes: Vec<&[u8]> = unsaid.iter().map(HeaderValue::as_bytes).collect();
    let line = HeaderValue::from_bytes(&bytes.join(&b", "[..])).ok();
    line.filter(|line| !line.is_empty())
}
