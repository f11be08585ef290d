//! Why a response was not stored.

use std::fmt;

/// Why a response was not stored.
///
/// The label of [`Refusal::as_str`] is what `Cache-Status`, metrics and logs show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The request's method is not `GET`.
    Method,
    /// The request has content, which no cache key covers.
    RequestBody,
    /// The request says `no-store`.
    RequestNoStore,
    /// The status is not final, or is one that must not be stored, or that answers a
    /// precondition, a range or a rate limit rather than the resource.
    Status,
    /// The response is only a part of one: 206.
    Partial,
    /// The response says `must-understand` and its status is not understood.
    MustUnderstand,
    /// `Cache-Control` cannot be parsed: what it forbids is unknown.
    MalformedCacheControl,
    /// The response, or its handler, says `no-store`.
    NoStore,
    /// The response, or its handler, says `private`.
    Private,
    /// The request has `Authorization` and nothing permits sharing the response.
    Authorization,
    /// The request has `Cookie` and nothing permits sharing the response.
    Cookie,
    /// The response sets a cookie.
    SetCookie,
    /// `Vary` contains `*`.
    VaryAny,
    /// `Vary` is unparsable, or names too many fields.
    VaryInvalid,
    /// It has so many fields that no more can be added.
    TooManyFields,
    /// The policy's own predicate says no.
    Policy,
    /// Its tags are too many, too long, or not tags: it could not be purged by all of them.
    Tags,
    /// Nothing gives the response a lifetime, or it has none left and could not be
    /// validated either.
    NoFreshness,
}

impl Refusal {
    /// The stable, kebab-case label of this reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestBody => "request-body",
            Self::RequestNoStore => "request-no-store",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::MustUnderstand => "must-understand",
            Self::MalformedCacheControl => "malformed-cache-control",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::SetCookie => "set-cookie",
            Self::VaryAny => "vary-any",
            Self::VaryInvalid => "vary-invalid",
            Self::TooManyFields => "too-many-fields",
            Self::Policy => "policy",
            Self::Tags => "tags",
            Self::NoFreshness => "no-freshness",
        }
    }

    /// Whether the reason lies in who asked rather than in the response: another client's
    /// request for the same resource may well be storable.
    #[must_use]
    pub(crate) const fn is_about_requester(self) -> bool {
        matches!(
            self,
            Self::Method
                | Self::RequestBody
                | Self::RequestNoStore
                | Self::Authorization
                | Self::Cookie
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
