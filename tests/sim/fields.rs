//! The fields of the responses for a resource, by its mode.

use crate::facts::Facts;
use crate::step::{By, Cc, Check, Mode, Status, Vary};

/// The tag of a version for a requester.
pub fn etag(r: u8, version: u32, mode: &Mode, facts: &Facts) -> String {
    let fact = facts.fact(mode.depends_on());
    let weak = if mode.check == Check::Weak { "W/" } else { "" };
    format!("{weak}\"r{r}.{version}.{fact}\"")
}

/// The version that a tag of [`etag`] names.
pub fn version_of_tag(tag: &str) -> Option<u32> {
    let inner = tag.trim_start_matches("W/").trim_matches('"');
    inner.split('.').nth(1)?.parse().ok()
}

pub fn modified(mode: &Mode, version: u32) -> String {
    let minute = match mode.check {
        Check::Coarse => 0,
        _ => version % 60,
    };
    format!("Mon, 05 Jan 2015 10:{minute:02}:00 GMT")
}

/// The size of a body in a mode.
pub fn size(mode: &Mode) -> usize {
    match mode.size {
        0 => 100,
        // Enough to tell whose it is.
        size => size.clamp(64, 700_000) as usize,
    }
}

/// The fields that a class of directives is made of.
pub fn directives(cc: Cc) -> Vec<(&'static str, &'static str)> {
    let one = |value| vec![("cache-control", value)];
    match cc {
        Cc::Fresh => one("max-age=60"),
        Cc::Public => one("public, max-age=60"),
        Cc::Shared => one("s-maxage=60"),
        Cc::Targeted => vec![("cdn-cache-control", "max-age=60")],
        Cc::Short => one("max-age=2"),
        Cc::Swr => one("max-age=2, stale-while-revalidate=20"),
        Cc::Sie => one("max-age=2, stale-if-error=60"),
        Cc::Must => one("max-age=2, must-revalidate"),
        Cc::Zero => one("max-age=0"),
        Cc::NoCache => one("no-cache"),
        Cc::NoStore => one("no-store"),
        Cc::Private => one("private, max-age=60"),
        Cc::None => Vec::new(),
        Cc::OddPublic => one("max-age=60, public=\"x\""),
        Cc::OddPrivate => one("max-age=60, \"private\""),
    }
}

impl Mode {
    /// What of the request the content depends on: a page that is guarded is one of its user.
    pub fn depends_on(&self) -> By {
        match self.status {
            Status::Guarded => By::User,
            _ => self.by,
        }
    }
}

impl Cc {
    /// Milliseconds for which a response is fresh.
    pub fn fresh(self) -> u64 {
        match self {
            Self::Fresh | Self::Public | Self::Shared | Self::Targeted | Self::OddPublic => 60_000,
            Self::Short | Self::Swr | Self::Sie | Self::Must => 2_000,
            Self::Zero
            | Self::NoCache
            | Self::NoStore
            | Self::Private
            | Self::None
            | Self::OddPrivate => 0,
        }
    }

    /// Milliseconds for which it may be served stale while it is fetched anew.
    pub fn while_revalidate(self) -> u64 {
        if self == Self::Swr { 20_000 } else { 0 }
    }

    /// Milliseconds for which it may be served stale if that fails.
    pub fn if_error(self) -> u64 {
        if self == Self::Sie { 60_000 } else { 0 }
    }

    /// Whether a shared cache may keep it for others at all.
    pub fn may_be_stored(self) -> bool {
        !matches!(
            self,
            Self::NoStore | Self::Private | Self::None | Self::OddPrivate
        )
    }

    /// Whether it permits sharing the answer to a request with credentials.
    pub fn permits_sharing(self) -> bool {
        matches!(self, Self::Public | Self::Shared | Self::Targeted)
    }
}

/// What `Vary` says. What the content depends on is named, but where the key or the rules about
/// credentials have to do without: a handler that says nothing of it would be at fault itself.
pub fn vary(mode: &Mode, keyed: bool, facts: &Facts, n: usize) -> Option<String> {
    let (name, has_it) = match mode.depends_on() {
        By::Nothing | By::Host => (None, false),
        By::Lang => (Some("accept-language"), facts.lang != "-"),
        By::Origin => (Some("origin"), facts.origin != "-"),
        // The key has it, or nothing permits to share it.
        By::User if keyed || !mode.cc.permits_sharing() && mode.cc != Cc::Must => (None, false),
        By::User => (Some("cookie, authorization"), true),
    };
    match mode.vary {
        Vary::Right => name.map(str::to_owned),
        // The rest gets what those get who do not have the field.
        Vary::Sometimes => name.filter(|_| has_it).map(str::to_owned),
        Vary::Changing => {
            let further = ["x-one", "x-two", "x-three"][n % 3];
            Some(name.map_or_else(|| further.to_owned(), |name| format!("{name}, {further}")))
        }
        Vary::Star => Some("*".to_owned()),
        Vary::OddStar => Some("*x".to_owned()),
    }
}

/// The tag of a resource.
pub fn tag(r: u8) -> String {
    format!("r{}", r % RESOURCES)
}

/// The path and query of a resource; every second one has a query.
pub fn path(r: u8) -> String {
    let r = r % RESOURCES;
    match r % 2 {
        0 => format!("/shop/r{r}"),
        _ => format!("/shop/r{r}?q=1"),
    }
}

pub fn resource_of(path: &str) -> u8 {
    path.trim_start_matches("/shop/r")
        .parse()
        .unwrap_or_default()
}

/// How many resources there are.
pub const RESOURCES: u8 = 6;
