//! Faults that are known and not mended yet.
//!
//! A run fails on anything else, and on a fault of this list that its steps do not show any more:
//! whoever mends one takes its entry away.

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
            && self.because.iter().all(|because| finding.because.contains(because))
    }
}

/// The known fault that a finding is, if it is one.
pub fn recognise(finding: &Finding) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.is(finding))
}

pub const KNOWN: &[Known] = &[
    Known {
        name: "conditional-under-way",
        kind: Kind::Outdated,
        because: &[Because::Conditional, Because::UnderWay],
        what: "A change is forgotten while a conditional GET of the same is under way.",
        steps: "world; 0 mode delay=100; 1 get cond=other; 10 change; 200 get",
    },
    Known {
        name: "ranged-under-way",
        kind: Kind::Outdated,
        because: &[Because::Ranged, Because::UnderWay],
        what: "A change is forgotten while a ranged GET of the same is under way.",
        steps: "world; 0 mode delay=100; 1 get range=first; 10 change; 200 get",
    },
    Known {
        name: "marked-under-way",
        kind: Kind::Outdated,
        because: &[Because::Marked, Because::UnderWay],
        what: "A change is forgotten while a GET of a key marked uncacheable is under way.",
        steps: "world; 0 mode cc=no-store; 1 get; 10 mode delay=100; 11 get; 20 change; 200 get",
    },
    Known {
        name: "fetched-elsewhere",
        kind: Kind::Outdated,
        because: &[Because::FetchedElsewhere, Because::UnderWay],
        what: "A change is forgotten while another instance's GET is under way.",
        steps: "world store=yes others=1; 0 mode delay=100; 1 get at=1; 10 change; 9000 get at=1",
    },
    Known {
        name: "key-evicted",
        kind: Kind::Outdated,
        because: &[Because::Elsewhere, Because::KeysLost],
        what: "A change is not announced when the store has lost the key, though another instance has it in memory.",
        steps: "world store=yes others=1; 0 get at=1; 100 fault what=evict-all; 200 change; 9000 get at=1",
    },
    Known {
        name: "full-elsewhere",
        kind: Kind::Outdated,
        because: &[Because::Elsewhere, Because::Full],
        what: "While the store takes no writes, other instances serve the old state beyond the purge bound.",
        steps: "world store=yes others=1; 0 get at=1; 100 fault what=full; 200 change; 9000 get at=1",
    },
    Known {
        name: "full-location",
        kind: Kind::Outdated,
        because: &[Because::Full, Because::Location],
        what: "While the store takes no writes, a change that names a Location is not applied where it was made.",
        steps: "world store=yes; 0 get; 1 fault what=full; 2 change answer=201; 3 get",
    },
    Known {
        name: "full-proxied",
        kind: Kind::Outdated,
        because: &[Because::Full, Because::Proxied],
        what: "While the store takes no writes, a change of a proxy-keyed page is not applied where it was made.",
        steps: "world store=yes; 0 get proxied=yes; 100 fault what=full; 200 change; 300 get proxied=yes",
    },
    Known {
        name: "away-location",
        kind: Kind::Outdated,
        because: &[Because::Away, Because::Location],
        what: "While the store is out of reach, a change that names a Location is not applied where it was made.",
        steps: "world store=yes; 0 get; 1 fault what=cut; 2 change answer=201; 300 get",
    },
    Known {
        name: "client-left",
        kind: Kind::Outdated,
        because: &[Because::ClientLeft],
        what: "A change whose client leaves while the handler works invalidates nothing.",
        steps: "world; 0 get; 1 change before=5 leave=1; 300 get",
    },
    Known {
        name: "outcome-unknown",
        kind: Kind::SoftPurgeIgnored,
        because: &[Because::OutcomeUnknown],
        what: "A change that fails or is cut off after it was made invalidates nothing.",
        steps: "world; 0 get; 1 change before=50 cut=10; 100 get; 20000 get",
    },
    Known {
        name: "head-renews-purged",
        kind: Kind::PurgedServed,
        because: &[Because::HeadRenewed],
        what: "A HEAD renews what was purged.",
        steps: "world; 0 get; 1 purge; 2 get head=yes; 3 get",
    },
    Known {
        name: "namespaces",
        kind: Kind::Outdated,
        because: &[Because::Namespaces],
        what: "A change through one layer does not reach what another layer's namespace holds.",
        steps: "world; 0 get; 1 change via=yes; 2 get",
    },
    Known {
        name: "purge-by-rewritten-query",
        kind: Kind::PurgedServed,
        because: &[Because::QueryRule],
        what: "A purge of the URL that clients use matches nothing where a rule takes parts from its query.",
        steps: "world query=yes; 0 get; 1 purge what=utm; 2 get",
    },
    Known {
        name: "purge-by-scheme",
        kind: Kind::PurgedServed,
        because: &[Because::OtherScheme],
        what: "A purge of an https URL matches nothing where TLS ends in front.",
        steps: "world; 0 get; 1 purge what=https; 2 get",
    },
    Known {
        name: "empty-purge",
        kind: Kind::NeedlessCall,
        because: &[Because::EmptyPurge],
        what: "A purge of no tags empties every instance.",
        steps: "world store=yes; 0 get; 100 purge what=empty; 200 get",
    },
    Known {
        name: "see-other",
        kind: Kind::NeedlessCall,
        because: &[Because::SeeOther],
        what: "A 303 to a form purges the page that it leads to.",
        steps: "world; 0 get r=1; 1 change answer=303; 2 get r=1",
    },
    Known {
        name: "many-purges",
        kind: Kind::NeedlessCall,
        because: &[Because::ManyPurges],
        what: "Many purges of one tag empty the whole instance.",
        steps: "world short_log=yes; 0 get; 1 purge what=unrelated more=20; 100 get",
    },
    Known {
        name: "unrelated-purge-ends-coalescing",
        kind: Kind::NotCoalesced,
        because: &[Because::UnrelatedPurge],
        what: "A purge of something else makes the next request fetch what is being fetched.",
        steps: "world; 0 mode delay=100; 1 get; 10 purge what=unrelated; 20 get",
    },
    Known {
        name: "draft-by-304",
        kind: Kind::Forbidden,
        because: &[Because::Draft],
        what: "A 304 is not asked whether the policy lets it be stored.",
        steps: "world picky=yes; 0 get; 1 mode on_match=draft; 61000 get; 61001 get",
    },
    Known {
        name: "unrecorded-leaves-stale",
        kind: Kind::Regressed,
        because: &[Because::Unstorable],
        what: "A newer response that cannot be stored leaves the older one in use.",
        steps: "world; 0 mode cc=sie check=none; 0 get; 1 touch; 2 mode cc=sie check=none end=trailers; 3000 get; 3500 mode cc=sie status=503; 6000 get",
    },
    Known {
        name: "slow-value",
        kind: Kind::ValueLost,
        because: &[Because::SlowMaker],
        what: "A slow get_or_set_with overwrites a newer value with one that is void.",
        steps: "world; 0 value what=get-or-set delay=100; 10 value what=set; 200 value",
    },
    Known {
        name: "strip-tags",
        kind: Kind::TagsShown,
        because: &[],
        what: "Tag fields go to clients with what passes by.",
        steps: "world strip=yes; 0 mode cc=no-cache; 1 get; 2 get how=beside",
    },
    Known {
        name: "cookie-twice",
        kind: Kind::NotForRequester,
        because: &[Because::OddCookie],
        what: "The key takes the first cookie of a name where the handler takes the last.",
        steps: "world keyed=yes; 0 mode by=user cc=public; 1 get user=alice how=twice; 2 get user=bob how=twice",
    },
    Known {
        name: "host-spelling",
        kind: Kind::NotForRequester,
        because: &[Because::OddHost],
        what: "The key leaves out how the host is spelt, which the handler sees.",
        steps: "world; 0 mode by=host; 1 get host=port; 2 get",
    },
    Known {
        name: "narrower-304",
        kind: Kind::NotForRequester,
        because: &[Because::NarrowerVary],
        what: "A 304 that names less in Vary gives the content to those it is not for.",
        steps: "world; 0 mode by=lang cc=short on_match=narrow; 1 get lang=1; 3000 get lang=1; 3001 get lang=2",
    },
    Known {
        name: "typed-304",
        kind: Kind::HeadersDisagree,
        because: &[Because::TypedNotModified],
        what: "The content type of a 304 replaces that of the content.",
        steps: "world; 0 get; 1 mode on_match=typed; 61000 get",
    },
    Known {
        name: "other-tag-304",
        kind: Kind::InventedError,
        because: &[Because::OtherTag],
        what: "A 304 with another tag becomes a 502.",
        steps: "world; 0 get; 1 mode on_match=other-tag; 61000 get",
    },
    Known {
        name: "hidden-variants",
        kind: Kind::NotForRequester,
        because: &[Because::SometimesVary],
        what: "A response without Vary hides the variants.",
        steps: "world; 0 mode by=origin vary=sometimes; 1 get origin=1; 2 get; 3 get origin=1",
    },
    Known {
        name: "changing-vary",
        kind: Kind::NeedlessCall,
        because: &[Because::ChangingVary],
        what: "A Vary that differs from response to response makes misses.",
        steps: "world; 0 mode by=lang vary=changing; 1 get lang=1; 2 get lang=2; 3 get lang=1",
    },
    Known {
        name: "variants-at-cap",
        kind: Kind::NeedlessCall,
        because: &[Because::TwoVariants],
        what: "At the cap the newcomer is refused, for as long as the others live.",
        steps: "world two_variants=yes; 0 mode by=lang; 1 get lang=1; 2 get lang=2; 3 get lang=3; 4 get lang=3",
    },
    Known {
        name: "dead-variants-count",
        kind: Kind::NeedlessCall,
        because: &[Because::TwoVariants, Because::DeadVariants],
        what: "Purged variants count at the cap.",
        steps: "world two_variants=yes; 0 mode by=lang; 1 get lang=1; 2 get lang=2; 3 purge; 4 get lang=3; 5 get lang=3",
    },
    Known {
        name: "variants-by-clock",
        kind: Kind::NeedlessCall,
        because: &[Because::Skew],
        what: "An instance whose clock is behind cannot see its own variants.",
        steps: "world store=yes others=1 skew=20; 0 mode by=lang; 1 get lang=1; 500 get at=1 lang=2; 1000 get at=1 lang=2",
    },
    Known {
        name: "credentials",
        kind: Kind::NotForRequester,
        because: &[Because::CredentialsAfterOthers],
        what: "Who has credentials gets the page that somebody without has asked for.",
        steps: "world; 0 mode by=user; 1 get; 2 get user=alice",
    },
    Known {
        name: "guarded",
        kind: Kind::NotForRequester,
        because: &[Because::Guarded],
        what: "Who has credentials gets the 401 that somebody without was given.",
        steps: "world; 0 mode status=401; 1 get; 2 get user=alice",
    },
    Known {
        name: "clear-site-data",
        kind: Kind::Replayed,
        because: &[Because::ClearSiteData],
        what: "Clear-Site-Data is given to everybody.",
        steps: "world; 0 mode extra=clear-site-data; 1 get; 2 get",
    },
    Known {
        name: "odd-public",
        kind: Kind::NotForRequester,
        because: &[Because::OddPublic],
        what: "public with an argument is taken for a permission.",
        steps: "world; 0 mode by=user cc=odd-public; 1 get user=alice; 2 get user=bob",
    },
    Known {
        name: "odd-private",
        kind: Kind::TooOld,
        because: &[Because::OddPrivate],
        what: "private in quotes is not taken for a prohibition.",
        steps: "world; 0 mode cc=odd-private; 1 get; 2 get",
    },
    Known {
        name: "odd-vary",
        kind: Kind::NotForRequester,
        because: &[Because::OddVary],
        what: "A Vary that begins with a star is taken for a name.",
        steps: "world; 0 mode by=lang vary=odd-star; 1 get lang=1; 2 get",
    },
    Known {
        name: "nested-waits",
        kind: Kind::AloneAndWaited,
        because: &[Because::Nested],
        what: "The inner of two layers waits for the outer one's flight, which is its own.",
        steps: "world nested=yes; 0 get",
    },
    Known {
        name: "nested-waits-failing",
        kind: Kind::AloneAndWaited,
        because: &[Because::Nested, Because::Failing],
        what: "Two layers wait for each other at every request of a handler that fails.",
        steps: "world nested=yes; 0 mode status=500; 1 get",
    },
    Known {
        name: "upgrade-bypass",
        kind: Kind::NeedlessCall,
        because: &[Because::Upgrade],
        what: "Any Upgrade field makes a request pass by.",
        steps: "world; 0 get; 1 get upgrade=yes",
    },
    Known {
        name: "heavy",
        kind: Kind::NeedlessCall,
        because: &[Because::Heavy],
        what: "A body that is heavier than a shard of the memory is refused without a word.",
        steps: "world memory=middling; 0 mode size=600000; 1 get; 2 get",
    },
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
];
