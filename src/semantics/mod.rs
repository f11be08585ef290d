//! RFC 9111 as pure functions of (request head, stored metadata, response head, now).
//!
//! Nothing here reads a clock, does I/O, or knows of tokio and the stores. In the order
//! of a request's way:
//!
//! - `exchange` reads a request head once; `reuse` judges a stored response for it;
//! - `conditional` and `range` choose between 200, 206, 304 and 416 on a hit;
//! - `validate` makes the conditional request of a revalidation and applies its answer;
//! - `admit` decides whether a response may be stored, `freshness` for how long, from
//!   the directives, targeted fields and dates of `syntax`, and the handler's `options`;
//! - `vary` names and canonicalises the request fields that select a variant;
//! - `invalidation` names the URIs that an unsafe request makes stale.

pub(crate) mod admit;
pub(crate) mod conditional;
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
pub(crate) mod validate;
pub(crate) mod vary;

pub(crate) use admit::{Admitted, Exchange, admit};
pub(crate) use conditional::{Precondition, evaluate, not_modified_headers};
pub(crate) use exchange::{MethodClass, RequestFacts};
pub(crate) use freshness::{Flags, Lifetimes};
pub(crate) use invalidation::{concerns_others, invalidated};
pub use options::CacheOptions;
pub(crate) use range::{RangeAnswer, content_range, resolve, unsatisfied_range};
pub(crate) use reuse::{Reuse, is_failure, may_serve_on_error, reuse};
pub(crate) use rules::StorageRules;
pub use rules::{CookieRule, SetCookieRule};
pub(crate) use tags::{group_tag, invalidated_groups, is_tag, strip_tags};
pub(crate) use validate::{Freshened, HeadOutcome, freshen, head_updates, make_conditional};
pub(crate) use vary::variant_value;

#[cfg(test)]
mod tests;
