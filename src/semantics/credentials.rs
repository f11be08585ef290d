//! Requests with credentials: what of their responses is stored, and what they are answered from.
//!
//! Both follow one rule, so that what a client gets does not depend on who came first: the response
//! itself permits sharing. RFC 9111, section 3.5, asks for that where the response is stored. Cookies
//! are treated like `Authorization`, though the RFC does not ask for it, since most applications use
//! them as credentials.

use super::exchange::RequestFacts;
use super::freshness::Flags;
use super::rules::{CookieRule, StorageRules};
use crate::status::Reason;

/// RFC 9111, section 3.5: "A shared cache MUST NOT use a cached response to a request with
/// an Authorization header field … to satisfy any subsequent request unless the response
/// contains a Cache-Control field with a response directive … that allows it to be stored by
/// a shared cache, and the cache conforms to the requirements of that directive".
pub(super) fn check_storing(
    facts: &RequestFacts,
    flags: Flags,
    rules: &StorageRules,
) -> Result<(), Reason> {
    check(facts, flags, rules.cookies != CookieRule::Ignore)
}

/// As [`check_storing`], for a stored response that would answer the request.
pub(super) fn check_reuse(
    facts: &RequestFacts,
    flags: Flags,
    rules: &StorageRules,
) -> Result<(), Reason> {
    check(facts, flags, rules.cookies == CookieRule::AsCredentials)
}

/// Whether the request has anything that counts as a credential.
pub(crate) fn has_credentials(facts: &RequestFacts, rules: &StorageRules) -> bool {
    let cookie = facts.cookie && rules.cookies != CookieRule::Ignore;
    facts.authorization || facts.declared || cookie
}

/// `must-revalidate` permits sharing what had `Authorization` only: it says nothing about sharing.
fn check(facts: &RequestFacts, flags: Flags, cookies_count: bool) -> Result<(), Reason> {
    if flags.contains(Flags::CREDENTIALS_OK) {
        return Ok(());
    }
    if facts.authorization && !flags.contains(Flags::AUTHORIZATION_OK) {
        return Err(Reason::Authorization);
    }
    if facts.cookie && cookies_count {
        return Err(Reason::Cookie);
    }
    if facts.declared {
        return Err(Reason::Credentials);
    }
    Ok(())
}
