//! Why a response was no plain hit, or was not stored.

/// Writes the enum, its labels and the list of all reasons from one table.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal,)+) => {
        /// Why a response was no plain hit, or was not stored.
        ///
        /// The label is the `detail` in `Cache-Status`, the label of the metric, and the entry in
        /// the docs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            #[cfg(any(test, feature = "metrics"))]
            pub(crate) const ALL: [Self; [$($label),+].len()] = [$(Self::$name),+];

            /// The stable, kebab-case label.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }
        }
    };
}

reasons! {
    // Why a request passes by.
    /// The policy's own predicate passes the request by, or refuses to store the response.
    Policy = "policy",
    /// The method is neither GET nor HEAD.
    Method = "method",
    /// The request asks to leave HTTP for another protocol.
    Upgrade = "upgrade",
    /// Outer middleware says so, by `CacheBypass`.
    CacheBypass = "cache-bypass",
    /// The request has content, which no cache key covers.
    RequestBody = "request-body",
    /// `If-Match` and `If-Unmodified-Since` are for the origin server.
    Precondition = "precondition",
    /// The request names two different hosts.
    ConflictingHost = "conflicting-host",
    /// The request's host is not one.
    InvalidHost = "invalid-host",
    /// The request says `only-if-cached`, and nothing stored may answer it.
    OnlyIfCached = "only-if-cached",

    // Why a stored response is not served as it is.
    /// Nothing is stored under the request's key.
    NotFound = "not-found",
    /// A purge matches the stored response.
    Purged = "purged",
    /// A soft purge matches the stored response.
    SoftPurged = "soft-purged",
    /// The purge log has been out of sight for too long to trust the stored response.
    PurgesUnknown = "purges-unknown",
    /// The stored response's lifetime is over.
    Expired = "expired",
    /// The stored response says `no-cache`.
    NoCache = "no-cache",
    /// The request says `no-cache`.
    RequestNoCache = "request-no-cache",
    /// The stored response is older than the request's `max-age`.
    RequestMaxAge = "request-max-age",
    /// The stored response will not be fresh for the request's `min-fresh`.
    RequestMinFresh = "request-min-fresh",
    /// The request is the cache's own: it refreshes what was served stale.
    Refresh = "refresh",

    // Why a response is served stale.
    /// The client accepts a stale response.
    MaxStale = "max-stale",
    /// A stale response is served while a new one is fetched.
    StaleWhileRevalidate = "stale-while-revalidate",
    /// A stale response is served because fetching a new one failed.
    StaleIfError = "stale-if-error",

    // Why a response is not stored.
    /// The request says `no-store`.
    RequestNoStore = "request-no-store",
    /// The status is not final, must not be stored, or answers a precondition, a range or a rate
    /// limit rather than the resource.
    Status = "status",
    /// The response is only a part of one: 206.
    Partial = "partial",
    /// The response says `must-understand` and its status is not understood.
    MustUnderstand = "must-understand",
    /// `Cache-Control` cannot be parsed: what it forbids is unknown.
    MalformedCacheControl = "malformed-cache-control",
    /// The response, or its handler, says `no-store`.
    NoStore = "no-store",
    /// The response, or its handler, says `private`.
    Private = "private",
    /// The request has `Authorization` and nothing permits sharing the response, or the stored one.
    Authorization = "authorization-needs-public",
    /// The request has `Cookie` and nothing permits sharing the response, or the stored one.
    Cookie = "cookie-needs-public",
    /// The request has what `credentials_in` names, and nothing permits sharing the response, or the
    /// stored one.
    Credentials = "credentials-need-public",
    /// The response sets a cookie, or clears what the client has stored.
    SetCookie = "set-cookie",
    /// `Vary` contains `*`.
    VaryAny = "vary-any",
    /// `Vary` cannot be parsed, or names too many fields.
    VaryInvalid = "vary-invalid",
    /// What was asked for later is stored already.
    Superseded = "superseded",
    /// The response has so many fields that no more can be added.
    TooManyFields = "too-many-fields",
    /// The tags are too many, too long, or not tags: not all of them could purge the response.
    Tags = "tags",
    /// Nothing gives the response a lifetime, or none is left and nothing can validate it.
    NoFreshness = "no-freshness",
    /// `Content-Length` is not one number.
    ContentLength = "content-length",
    /// The body has another length than the response declares.
    LengthMismatch = "length-mismatch",
    /// The body is longer than `max_body`.
    TooLarge = "too-large",
    /// The bodies that are being recorded leave no memory for this one.
    FillBudget = "fill-budget",
    /// No runtime is there to record the body in.
    NoRuntime = "no-runtime",
    /// The handler's 304 is about another response than the stored one.
    ValidatorMismatch = "validator-mismatch",
}

impl Reason {
    /// Whether the reason lies in the request rather than in the response: the response to another
    /// client's request for the same resource may be storable.
    pub(crate) const fn is_about_requester(self) -> bool {
        matches!(
            self,
            Self::Method
                | Self::RequestBody
                | Self::RequestNoStore
                | Self::Authorization
                | Self::Cookie
                | Self::Credentials
        )
    }

    /// Whether a directive of the request, rather than the stored response, demands a validation.
    pub(crate) const fn is_of_request(self) -> bool {
        matches!(
            self,
            Self::RequestNoCache | Self::RequestMaxAge | Self::RequestMinFresh
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_are_kebab_case_and_distinct() {
        let labels: HashSet<_> = Reason::ALL.map(Reason::as_str).into();
        assert_eq!(labels.len(), Reason::ALL.len());
        let is_kebab = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        assert!(labels.iter().all(|label| label.bytes().all(is_kebab)));
    }

    #[test]
    fn a_reason_stands_in_the_list_at_its_number() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }

    #[test]
    fn the_docs_list_every_reason() {
        let docs = include_str!("../../docs/operations.md");
        for reason in Reason::ALL {
            let entry = format!("| `{}` |", reason.as_str());
            assert!(docs.contains(&entry), "{entry}");
        }
    }
}
