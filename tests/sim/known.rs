//! Faults that are known and not mended yet.
//!
//! A run fails on anything else, and on a fault of this list that its steps do not show any more:
//! whoever mends one moves its steps to the mended ones.

use crate::finding::{Because, Finding, Kind};

/// A fault that is known.
#[derive(Debug)]
pub struct Known {
    pub name: &'static str,
    pub kind: Kind,
    /// What is always the case with it.
    pub because: &'static [Because],
    /// What is wrong, in one sentence.
    pub what: &'static str,
    /// The steps that show it, as few as there are.
    pub steps: &'static str,
}

impl Known {
    /// Whether a finding is this fault.
    pub fn is(&self, finding: &Finding) -> bool {
        self.kind == finding.kind
            && self
                .because
                .iter()
                .all(|because| finding.because.contains(because))
    }
}

/// The known fault that a finding is, if it is one.
pub fn recognise(finding: &Finding) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.is(finding))
}

pub const KNOWN: &[Known] = &[
    Known {
        name: "says-stored-too-long",
        kind: Kind::SaysStored,
        because: &[Because::TooLong],
        what: "stored is said of a body of unknown length that exceeds the cap.",
        steps: "world tight=yes; 0 mode size=9000 length=unknown frames=9 gap=1; 1 get",
    },
    Known {
        name: "says-stored-broken",
        kind: Kind::SaysStored,
        because: &[Because::BrokenBody],
        what: "stored is said of a body of unknown length that breaks.",
        steps: "world; 0 mode length=unknown end=broken frames=1 gap=1; 1 get",
    },
    Known {
        name: "says-stored-trailers",
        kind: Kind::SaysStored,
        because: &[Because::Trailers],
        what: "stored is said of a body that has trailers.",
        steps: "world; 0 mode end=trailers length=unknown frames=1 gap=1; 1 get",
    },
    Known {
        name: "says-stored-nowhere",
        kind: Kind::SaysStored,
        because: &[Because::NoMemory],
        what: "stored is said where there is no memory and the store is away.",
        steps: "world memory=off store=yes; 0 fault what=cut; 1 get",
    },
    Known {
        name: "slow-readers",
        kind: Kind::NeedlessCall,
        because: &[Because::SlowReaders],
        what: "A client that does not read keeps others' bodies from being stored.",
        steps: "world tight=yes; 0 mode size=3000 frames=9 gap=10; 0 mode r=1 size=3000 frames=9 gap=10; 1 get slow=1000; 10 get r=1; 500 get r=1",
    },
    Known {
        name: "no-cache-serialises",
        kind: Kind::Serialised,
        because: &[Because::NoCache],
        what: "Requests for a URL that says no-cache wait for each other.",
        steps: "world; 0 mode cc=no-cache on_match=whole delay=200; 1 get; 300 get; 600 get more=2",
    },
    Known {
        name: "no-cache-304-serialises",
        kind: Kind::Serialised,
        because: &[Because::NotModified],
        what: "Requests for a URL that answers by 304 and says no-cache wait for each other.",
        steps: "world; 0 mode cc=no-cache delay=200; 1 get; 300 get; 600 get; 900 get more=2",
    },
    Known {
        name: "refreshes-counted",
        kind: Kind::CountsDiffer,
        because: &[Because::Refreshed],
        what: "Refreshes in the background are counted as responses.",
        steps: "world; 0 mode cc=swr; 1 get; 3000 get",
    },
    Known {
        name: "born-stale-serialises",
        kind: Kind::Serialised,
        because: &[Because::Zero],
        what: "Requests for a URL whose responses are born stale wait for each other.",
        steps: "world; 0 mode cc=zero delay=200; 1 get; 300 get; 600 get; 900 get more=2",
    },
    Known {
        name: "unstorable-beside",
        kind: Kind::Regressed,
        because: &[Because::Unstorable],
        what: "A response that may not be stored leaves in use what was stored while it was fetched.",
        steps: "world; 0 mode r=2 cc=swr delay=2600; 0 get r=2; 1 mode r=2 cc=no-store; 1 touch r=2; 1 get r=2",
    },
    Known {
        name: "soft-purge-under-way",
        kind: Kind::SoftPurgeIgnored,
        because: &[Because::UnderWay],
        what: "A follower is given what was fetched before a soft purge, as if a fetch had failed.",
        steps: "world; 0 mode r=1 delay=5; 0 get r=1; 1 purge r=1 soft=yes; 1 get r=1",
    },
];
