//! What the oracle finds.

use std::collections::BTreeSet;
use std::fmt;

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// Under what circumstances, as far as they may be the reason.
    pub because: BTreeSet<Because>,
    pub message: String,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    // What clients get.
    WrongBytes,
    Truncated,
    /// The body broke off, and the handler's did not.
    BodyBroken,
    HeadersDisagree,
    /// The content is another requester's.
    NotForRequester,
    /// Nothing permits sharing it with this requester, or what was made for another.
    NotPermitted,
    /// A field for one client is given to others.
    Replayed,
    /// An error that the handler never made.
    InventedError,
    /// The handler's failure goes to a client, though a stale response might stand in.
    FailureShown,
    /// A field for this cache alone goes to clients.
    TagsShown,
    /// Something that the policy does not let be stored is served.
    Forbidden,
    // How old it is.
    /// Older than its lifetime and stale window allow.
    TooOld,
    /// Stale where nothing failed.
    StaleWithoutError,
    /// From before a change that is over.
    Outdated,
    /// From before a hard purge that is over.
    PurgedServed,
    /// Fresh as ever after a soft purge, or a change whose outcome nobody knows.
    SoftPurgeIgnored,
    /// Older than what the handler has answered with since.
    Regressed,
    ValueOutdated,
    /// A value that was set is not there.
    ValueLost,
    // What `Cache-Status` says.
    SaysHit,
    SaysMiss,
    /// `stored`, and it cannot be found.
    SaysStored,
    // How much work is done.
    NeedlessCall,
    NotCoalesced,
    // How long it takes.
    WaitedTooLong,
    /// It waited although there was nobody to wait for.
    AloneAndWaited,
    Serialised,
    NeverEnded,
    // What is left.
    FlightsLeft,
    FillBytesLeft,
    TasksLeft,
    CountsDiffer,
}

/// A circumstance that may be the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Because {
    /// The old state came by a conditional request of a client.
    Conditional,
    Ranged,
    /// By a request for a key that was marked uncacheable.
    Marked,
    /// Fields of the request are part of its key.
    FieldsInKey,
    /// The request that validated it had begun before.
    AskedBefore,
    /// The old state was on its way while the change was made.
    UnderWay,
    /// Another instance than the one that saw the change served it.
    Elsewhere,
    /// Another instance fetched it than the one that saw the change.
    FetchedElsewhere,
    SmallMemory,
    NoMemory,
    /// The store took no writes.
    Full,
    /// The store evicted keys or lost writes.
    KeysLost,
    /// The store was out of reach, or slow.
    Away,
    /// The store had come back a moment ago.
    Returned,
    /// The log lost records.
    LogLost,
    /// The store gave values of other keys.
    Crossed,
    /// With the `Location` of another resource.
    Location,
    SeeOther,
    ClientLeft,
    /// Nobody knows what became of the change.
    OutcomeUnknown,
    /// A HEAD has renewed what a GET had brought.
    HeadRenewed,
    Namespaces,
    QueryRule,
    OtherScheme,
    // Purges of something else.
    EmptyPurge,
    UnrelatedPurge,
    ManyPurges,
    // What the handler said.
    Draft,
    Unstorable,
    Trailers,
    TooLong,
    UnknownLength,
    BrokenBody,
    NoCache,
    Zero,
    NotModified,
    // What the world is like.
    Skew,
    SlowReaders,
    Lease,
    /// A slow maker of a value.
    SlowMaker,
    /// An instance has started anew.
    Rebooted,
    /// Something was fetched in the background.
    Refreshed,
}

impl Finding {
    pub fn new(
        kind: Kind,
        because: impl IntoIterator<Item = Because>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            because: because.into_iter().collect(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}: {}", self.kind, self.because, self.message)
    }
}
