//! RFC 9111 as pure functions of (request head, stored metadata, response head, now).
//!
//! Nothing here reads a clock, does I/O, or knows of tokio and the stores. In the order in which a
//! request meets them:
//!
//! - `exchange`: the request head, read once, and the head of its response; `upgrade`: whether it
//!   asks for another protocol;
//! - `reuse`: whether a stored response may answer;
//! - `conditional` and `range`: whether a hit is a 200, 206, 304 or 416;
//! - `validate`: the conditional request of a revalidation, and what its answer does;
//! - `admit`: whether a response may be stored; `freshness`: for how long;
//! - `credentials`: what requests with credentials may be answered from; `cookies`: those that are
//!   none;
//! - `vary`: the request fields that select a variant, and the normal form of their values;
//! - `tags`: the tags and groups that a response can be purged by;
//! - `invalidation`: the URIs that an unsafe request makes stale.
//!
//! `rules` is the part of a policy that they obey, `options` the handler's instructions, and `fields`
//! sorts header fields by what a cache does with them. The parsers are in `syntax`: `tokens`,
//! `seconds`, `directives`, `targeted` (RFC 9213) and `dates`.

pub(crate) mod admit;
pub(crate) mod conditional;
mod cookies;
mod credentials;
pub(crate) mod exchange;
pub(crate) mod fields;
pub(crate) mod freshness;
pub(crate) mod invalidation;
pub(crate) mod options;
pub(crate) mod range;
pub(crate) mod reuse;
pub(crate) mod rules;
pub(crate) mod syntax;
pub(crate) mod tags;
mod upgrade;
pub(crate) mod validate;
pub(crate) mod vary;

pub(crate) use admit::{Admitted, admit};
pub(crate) use conditional::{Precondition, evaluate, not_modified_headers};
pub use cookies::ANALYTICS_COOKIES;
pub(crate) use cookies::CookieNames;
pub(crate) use credentials::has_credentials;
pub(crate) use exchange::{Exchange, MethodClass, RequestFacts};
pub use fields::FIELDS_OF_ONE_REQUEST;
pub(crate) use fields::{is_critical, is_for_one_client};
pub(crate) use freshness::{Flags, Lifetimes};
pub(crate) use invalidation::invalidated;
pub use options::CacheOptions;
pub(crate) use range::{RangeAnswer, content_range, resolve, unsatisfied_range};
pub(crate) use reuse::{Reuse, is_failure, may_serve_on_error, reuse};
pub(crate) use rules::StorageRules;
pub use rules::{CookieRule, SetCookieRule};
pub(crate) use tags::{group_tag, invalidated_groups, is_tag, strip_tags, united_tags};
pub(crate) use validate::{
    Freshened, HeadOutcome, freshen, head_updates, is_about_another, make_conditional,
};
pub(crate) use vary::{MAX_NAMES, variant_value};

#[cfg(test)]
mod tests;
