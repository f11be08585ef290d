//! The parts of a run: a world, and the steps that happen in it.
//!
//! ```text
//! world store=yes others=1; 0 get r=2 user=alice; 20 change r=2 before=10; 300 get r=2 at=1
//! ```

use std::fmt;
use std::str::FromStr;

use crate::text::{Record, read_record, record, words};

/// A whole run: equal scenarios give equal traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub world: World,
    /// In the order of their times.
    pub steps: Vec<Step>,
}

/// Something that happens at a virtual time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Milliseconds after the beginning.
    pub at: u32,
    pub act: Act,
}

record! {
    /// What does not change during a run.
    pub struct World {
        /// For the randomness of the crate and of the store.
        pub seed: u64,
        /// Instances besides the first, where there is a store: 0 to 2.
        pub others: u8,
        /// Whether there is a shared store.
        pub store: bool,
        pub memory: Memory,
        /// At most two variants a resource.
        pub two_variants: bool,
        /// Another layer of the cache around everything, with a careless policy.
        pub nested: bool,
        /// The policy keys by the cookie `sid`.
        pub keyed: bool,
        /// The policy leaves `utm_*` out of the query.
        pub query: bool,
        /// The policy keeps tag fields from clients.
        pub strip: bool,
        /// The policy stores no drafts.
        pub picky: bool,
        /// One instance at a time fetches.
        pub lease: bool,
        /// The purge log keeps sixteen records.
        pub short_log: bool,
        /// Bodies of at most 4 KiB are stored, and recorded in as much memory.
        pub tight: bool,
        /// No cache at all, but something that is to be seen through.
        pub sham: Sham,
        /// By how many seconds the clock of each further instance is behind the one before.
        pub skew: u8,
    }
}

impl World {
    /// How many instances there are: without a store they have nothing to do with each other.
    pub fn instances(&self) -> u8 {
        if self.store {
            self.others.min(2) + 1
        } else {
            1
        }
    }
}

words! {
    /// What a bad cache does.
    pub enum Sham {
        None = "none",
        NeverHits = "never-hits",
        /// Gives the first response to a URL for ever.
        Replays = "replays",
        Truncates = "truncates",
        /// Gives the first response to any request.
        Mixes = "mixes",
    }
}

words! {
    /// The in-process tier.
    pub enum Memory {
        Plenty = "plenty",
        /// Eviction parts markers from pages.
        Small = "small",
        /// One body of 600 KB would fit.
        Middling = "middling",
        Off = "off",
    }
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    Get(Get),
    Change(Change),
    Purge(Purge),
    Mode(Mode),
    Touch(Touch),
    Value(Value),
    Fault(Fault),
}

record! {
    /// A GET or HEAD.
    pub struct Get {
        /// The instance.
        pub at: u8,
        /// The resource.
        pub r: u8,
        pub head: bool,
        /// Through the layer with a namespace of its own.
        pub via: bool,
        pub user: User,
        pub how: How,
        pub lang: u8,
        pub origin: u8,
        pub host: Host,
        pub cond: Cond,
        pub range: Range,
        pub asks: Asks,
        /// With a forwarding field, which is part of the key.
        pub proxied: bool,
        /// With `Upgrade: h2c`, as some clients send it.
        pub upgrade: bool,
        /// With `utm_source` in the query.
        pub utm: bool,
        /// With an extension that the policy declares to be a credential.
        pub session: bool,
        /// The client goes so many milliseconds after it began; 0: it stays.
        pub leave: u32,
        /// Milliseconds that the client waits before each frame.
        pub slow: u32,
        /// How many ask the same at once, besides the first.
        pub more: u8,
    }
}

words! {
    /// Who asks.
    pub enum User {
        Nobody = "nobody",
        Alice = "alice",
        Bob = "bob",
    }
}

words! {
    /// How a request says who asks.
    pub enum How {
        Cookie = "cookie",
        Authorization = "authorization",
        /// After a deleted cookie of the same name.
        Twice = "twice",
        /// With a space before the equals sign.
        Spaced = "spaced",
        /// With a percent escape in the name.
        Escaped = "escaped",
        /// Beside a cookie that means nobody.
        Beside = "beside",
    }
}

words! {
    /// How the host is spelt.
    pub enum Host {
        Plain = "plain",
        Port = "port",
        Capitals = "capitals",
    }
}

words! {
    /// The client's own precondition.
    pub enum Cond {
        None = "none",
        /// The tag that the resource has when the request is sent.
        Current = "current",
        /// The tag that it had before.
        Old = "old",
        /// A tag that it never had.
        Other = "other",
        Since = "since",
    }
}

words! {
    pub enum Range {
        None = "none",
        First = "first",
        Last = "last",
        Beyond = "beyond",
    }
}

words! {
    /// The request's own directive.
    pub enum Asks {
        Nothing = "nothing",
        NoStore = "no-store",
        OnlyIfCached = "only-if-cached",
    }
}

record! {
    /// A request with an unsafe method. Its handler writes, then waits, then answers.
    pub struct Change {
        pub at: u8,
        pub r: u8,
        pub via: bool,
        pub utm: bool,
        pub method: Method,
        pub answer: ChangeAnswer,
        /// Milliseconds between the write and the answer.
        pub before: u32,
        /// The client goes after so many milliseconds; 0: it stays.
        pub leave: u32,
        /// A layer inside cuts the handler off after so many milliseconds; 0: never.
        pub cut: u32,
    }
}

words! {
    pub enum Method {
        Put = "put",
        Post = "post",
        Delete = "delete",
    }
}

words! {
    /// What the handler of an unsafe request answers.
    pub enum ChangeAnswer {
        NoContent = "204",
        Ok = "200",
        /// With the `Location` of the next resource, which it has changed too.
        Created = "201",
        /// With the `Location` of the next resource, which is as it was.
        SeeOther = "303",
        Refused = "409",
        Failed = "500",
        Error = "error",
        Panic = "panic",
    }
}

record! {
    /// A purge by the application.
    pub struct Purge {
        pub at: u8,
        pub r: u8,
        pub what: What,
        pub soft: bool,
        /// So many more, one after the other.
        pub more: u8,
    }
}

words! {
    /// What is purged.
    pub enum What {
        /// The tag of a resource.
        Tag = "tag",
        /// The URL of a resource, without an authority.
        Uri = "uri",
        /// The URL with the authority that clients use.
        Full = "full",
        /// The URL as clients see it where TLS ends in front.
        Https = "https",
        /// The URL with `utm_source`, as some clients ask for it.
        Utm = "utm",
        Path = "path",
        Everything = "everything",
        /// No tag at all.
        Empty = "empty",
        /// A tag that nothing has.
        Unrelated = "unrelated",
    }
}

record! {
    /// How the handler answers for a resource from now on.
    pub struct Mode {
        pub r: u8,
        pub cc: Cc,
        pub by: By,
        pub vary: Vary,
        pub check: Check,
        pub on_match: OnMatch,
        pub status: Status,
        pub length: Length,
        pub end: End,
        /// `Set-Cookie` or `Clear-Site-Data`.
        pub extra: Extra,
        /// Milliseconds before the head.
        pub delay: u32,
        /// Bytes, 100 if 0, at least 64.
        pub size: u32,
        /// Frames besides the first.
        pub frames: u8,
        /// Milliseconds before each further frame.
        pub gap: u32,
    }
}

words! {
    /// What a response says of its lifetime and of sharing.
    pub enum Cc {
        /// `max-age=60`
        Fresh = "fresh",
        /// `public, max-age=60`
        Public = "public",
        /// `s-maxage=60`
        Shared = "shared",
        /// `CDN-Cache-Control: max-age=60`
        Targeted = "targeted",
        /// `max-age=2`
        Short = "short",
        /// `max-age=2, stale-while-revalidate=20`
        Swr = "swr",
        /// `max-age=2, stale-if-error=60`
        Sie = "sie",
        /// `max-age=2, must-revalidate`
        Must = "must",
        /// `max-age=0`
        Zero = "zero",
        NoCache = "no-cache",
        NoStore = "no-store",
        Private = "private",
        /// No field at all.
        None = "none",
        /// `max-age=60, public="x"`, which permits nothing.
        OddPublic = "odd-public",
        /// `max-age=60, "private"`, which forbids.
        OddPrivate = "odd-private",
    }
}

words! {
    /// What of the request the content depends on.
    pub enum By {
        Nothing = "nothing",
        Lang = "lang",
        User = "user",
        Origin = "origin",
        Host = "host",
    }
}

words! {
    /// How `Vary` names what the content depends on.
    pub enum Vary {
        /// Always.
        Right = "right",
        /// Only when the request has the field.
        Sometimes = "sometimes",
        /// Always, with one of three further fields in turn.
        Changing = "changing",
        Star = "star",
        /// `*x`, which is no name.
        OddStar = "odd-star",
    }
}

words! {
    /// What a response can be validated by.
    pub enum Check {
        Strong = "strong",
        Weak = "weak",
        /// `Last-Modified`, exact.
        Date = "date",
        /// `Last-Modified`, the same for every version.
        Coarse = "coarse",
        None = "none",
    }
}

words! {
    /// How the handler answers a precondition that holds.
    pub enum OnMatch {
        NotModified = "304",
        /// A 304 that names something else in `Vary`, as do responses to HEAD.
        Narrow = "narrow",
        /// A 304 with a content type of its own.
        Typed = "typed",
        /// A 304 with another tag.
        OtherTag = "other-tag",
        /// A 304 that says that it is a draft.
        Draft = "draft",
        /// The whole response.
        Whole = "whole",
    }
}

words! {
    pub enum Status {
        Ok = "200",
        NotFound = "404",
        /// 401 without credentials.
        Guarded = "401",
        Failed = "500",
        Unavailable = "503",
        Error = "error",
        Panic = "panic",
    }
}

words! {
    /// Whether a response says how long its body is.
    pub enum Length {
        Declared = "declared",
        Unknown = "unknown",
    }
}

words! {
    /// How a body ends.
    pub enum End {
        Clean = "clean",
        /// By an error before its last frame.
        Broken = "broken",
        Trailers = "trailers",
    }
}

words! {
    pub enum Extra {
        Nothing = "nothing",
        SetCookie = "set-cookie",
        ClearSiteData = "clear-site-data",
    }
}

record! {
    /// The resource changes without the cache being told.
    pub struct Touch {
        pub r: u8,
    }
}

record! {
    /// A value of the application's own, which holds the version of a resource.
    pub struct Value {
        pub at: u8,
        pub r: u8,
        pub what: Access,
        /// Milliseconds that making the value takes.
        pub delay: u32,
    }
}

words! {
    pub enum Access {
        Get = "get",
        GetOrSet = "get-or-set",
        Set = "set",
        Remove = "remove",
    }
}

record! {
    /// A fault of the shared store, or its end.
    pub struct Fault {
        pub what: StoreFault,
        /// The instance that it concerns, where it concerns one.
        pub at: u8,
        /// How many, or how long.
        pub n: u32,
    }
}

words! {
    pub enum StoreFault {
        /// All faults end.
        Heal = "heal",
        /// Writes are refused, reads answered.
        Full = "full",
        /// One of the stored keys goes.
        Evict = "evict",
        /// All stored keys go, the log stays.
        EvictAll = "evict-all",
        /// The next `n` writes are acknowledged and lost.
        Lose = "lose",
        /// Writes of values take `n` milliseconds.
        Delay = "delay",
        /// One instance finds no connection.
        Cut = "cut",
        /// One instance gets no answer, and nothing that it sends arrives.
        Silence = "silence",
        /// One instance gets no answer to what it sends.
        LoseReplies = "lose-replies",
        /// The store comes back with nothing.
        Restart = "restart",
        /// The log loses its last `n` records.
        Failover = "failover",
        /// Every operation takes `n` milliseconds.
        Slow = "slow",
        /// The next `n` reads get the value of another key.
        Cross = "cross",
        /// One instance starts anew, knowing nothing, if the store has been well for a while: one
        /// that ends before takes along what it could not announce.
        Reboot = "reboot",
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut world = String::new();
        self.world.write(&mut world);
        write!(f, "world{world}")?;
        self.steps.iter().try_for_each(|step| write!(f, "; {step}"))
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.split(';').map(str::trim).filter(|it| !it.is_empty());
        let mut scenario = Self {
            world: World::default(),
            steps: Vec::new(),
        };
        for line in &mut lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.split_first() {
                Some((&"world", rest)) => scenario.world = read_record(rest)?,
                _ => scenario.steps.push(line.parse()?),
            }
        }
        scenario.steps.sort_by_key(|step| step.at);
        Ok(scenario)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        let name = match &self.act {
            Act::Get(it) => named("get", it, &mut out),
            Act::Change(it) => named("change", it, &mut out),
            Act::Purge(it) => named("purge", it, &mut out),
            Act::Mode(it) => named("mode", it, &mut out),
            Act::Touch(it) => named("touch", it, &mut out),
            Act::Value(it) => named("value", it, &mut out),
            Act::Fault(it) => named("fault", it, &mut out),
        };
        write!(f, "{} {name}{out}", self.at)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [at, name, rest @ ..] = words.as_slice() else {
            return Err(format!("no step: {text}"));
        };
        let at = at
            .parse()
            .map_err(|_no_number| format!("no time: {text}"))?;
        let act = match *name {
            "get" => Act::Get(read_record(rest)?),
            "change" => Act::Change(read_record(rest)?),
            "purge" => Act::Purge(read_record(rest)?),
            "mode" => Act::Mode(read_record(rest)?),
            "touch" => Act::Touch(read_record(rest)?),
            "value" => Act::Value(read_record(rest)?),
            "fault" => Act::Fault(read_record(rest)?),
            _ => return Err(format!("no such step: {text}")),
        };
        Ok(Self { at, act })
    }
}

impl Act {
    /// The same with one field simpler, each way there is.
    pub fn simpler(&self) -> Vec<Self> {
        match self {
            Self::Get(it) => it.simpler().into_iter().map(Self::Get).collect(),
            Self::Change(it) => it.simpler().into_iter().map(Self::Change).collect(),
            Self::Purge(it) => it.simpler().into_iter().map(Self::Purge).collect(),
            Self::Mode(it) => it.simpler().into_iter().map(Self::Mode).collect(),
            Self::Touch(it) => it.simpler().into_iter().map(Self::Touch).collect(),
            Self::Value(it) => it.simpler().into_iter().map(Self::Value).collect(),
            Self::Fault(it) => it.simpler().into_iter().map(Self::Fault).collect(),
        }
    }
}

fn named(name: &'static str, record: &impl Record, out: &mut String) -> &'static str {
    record.write(out);
    name
}
