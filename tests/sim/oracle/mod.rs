//! The oracle: what must hold in a run, judged by its events alone.
//!
//! The oracle knows what the handler did and what it answered, and what clients sent and got. It
//! knows nothing of the cache, and looks at `Cache-Status` only to judge what that says.

mod ages;
mod bytes;
mod changes;
mod rest;
mod said;
mod values;
mod waits;
mod work;

use std::collections::BTreeSet;

use crate::fields::{size, version_of_tag};
use crate::finding::{Because, Finding};
use crate::step::{
    Asks, Cond, End, Get, Memory, Mode, OnMatch, Range, Scenario, Status, StoreFault, World,
};
use crate::trace::{Answered, Asked, Call, Exchange, Moment, Outcome, Seen, Trace};

/// Everything that is wrong with a run.
pub fn judge(scenario: &Scenario, trace: &Trace) -> Vec<Finding> {
    let case = Case {
        world: &scenario.world,
        trace,
    };
    let mut findings = Vec::new();
    bytes::judge(&case, &mut findings);
    ages::judge(&case, &mut findings);
    changes::judge(&case, &mut findings);
    values::judge(&case, &mut findings);
    said::judge(&case, &mut findings);
    work::judge(&case, &mut findings);
    waits::judge(&case, &mut findings);
    rest::judge(&case, &mut findings);
    findings
}

/// A run that is judged.
pub struct Case<'a> {
    pub world: &'a World,
    pub trace: &'a Trace,
}

/// A response to a GET or HEAD, and where it comes from.
#[derive(Clone, Copy)]
pub struct Served<'a> {
    pub id: usize,
    pub exchange: &'a Exchange,
    pub get: &'a Get,
    pub seen: &'a Seen,
    pub head: Moment,
    /// The call whose fields it has: the one that made or last validated it.
    pub by: usize,
    /// The call that made the body, as far as there is any.
    pub made: usize,
    /// The version of the content, or the one that it is about.
    pub version: u32,
}

impl<'a> Case<'a> {
    pub fn call(&self, n: usize) -> &'a Call {
        &self.trace.calls[n]
    }

    pub fn gets(&self) -> impl Iterator<Item = (usize, &'a Exchange, &'a Get)> + use<'a> {
        self.trace
            .exchanges
            .iter()
            .enumerate()
            .filter_map(|(id, exchange)| match &exchange.asked {
                Asked::Get(get) => Some((id, exchange, get)),
                Asked::Change(_) => None,
            })
    }

    /// All responses to GET and HEAD that some call of the handler has to do with.
    pub fn served(&self) -> impl Iterator<Item = Served<'a>> + '_ {
        self.gets()
            .filter_map(|(id, exchange, get)| self.served_to(id, exchange, get))
    }

    pub fn served_to(&self, id: usize, exchange: &'a Exchange, get: &'a Get) -> Option<Served<'a>> {
        let Outcome::Response(seen) = &exchange.outcome else {
            return None;
        };
        let by = number(seen, "x-call").filter(|by| *by < self.trace.calls.len())?;
        let made = made_by(seen).filter(|made| *made < self.trace.calls.len());
        let tag = seen.headers.get("etag").and_then(|tag| tag.to_str().ok());
        let version = match made {
            Some(made) => self.call(made).version,
            None => tag
                .and_then(version_of_tag)
                .unwrap_or(self.call(by).version),
        };
        Some(Served {
            id,
            exchange,
            get,
            seen,
            head: exchange.head?,
            by,
            made: made.unwrap_or(by),
            version,
        })
    }

    /// The calls that a request caused.
    pub fn calls_of(&self, id: usize) -> impl Iterator<Item = (usize, &'a Call)> + use<'a> {
        let calls = self.trace.calls.iter().enumerate();
        calls.filter(move |(_, call)| call.exchange == id)
    }

    pub fn instances(&self) -> u8 {
        self.world.instances()
    }

    /// By how much the clocks of two instances differ at most, in milliseconds.
    pub fn skew(&self) -> u64 {
        u64::from(self.world.skew.min(30)) * 1000 * u64::from(self.instances() - 1)
    }

    /// Whether the store did what it should between two moments, and had for a while.
    pub fn calm(&self, from: u64, to: u64) -> bool {
        !self.world.store
            || self
                .faults_between(from.saturating_sub(CALM), to)
                .is_empty()
    }

    /// The faults that were in force, or happened, between two times.
    pub fn faults_between(&self, from: u64, to: u64) -> BTreeSet<StoreFault> {
        let mut in_force = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for (when, fault) in &self.trace.faults {
            if when.ms > to {
                break;
            }
            if when.ms >= from {
                seen.append(&mut in_force);
            }
            match fault.what {
                StoreFault::Heal => in_force.clear(),
                what => {
                    in_force.insert(what);
                }
            }
            if when.ms < from {
                // What happened once, long ago, is over.
                in_force.retain(|what| what.lasts());
            }
        }
        seen.append(&mut in_force);
        seen
    }

    /// Whether an instance has started anew before.
    pub fn has_rebooted(&self, to: u64) -> bool {
        let mut faults = self.trace.faults.iter();
        faults.any(|(when, fault)| fault.what == StoreFault::Reboot && when.ms <= to)
    }

    /// Whether the cache may keep what a call has answered with: as [`is_ordinary`], no longer
    /// than what is stored, and no draft where the policy stores none.
    pub fn is_reusable(&self, call: &Call) -> bool {
        let is_draft = call.mode.on_match == OnMatch::Draft && call.status() == Some(304);
        is_ordinary(&call.mode)
            && !(self.world.tight && size(&call.mode) > TIGHT)
            && !(self.world.picky && is_draft)
    }

    /// Whether a request is as plain as can be, so that the cache owes it everything.
    pub fn is_plain(&self, get: &Get) -> bool {
        !get.head && get.cond == Cond::None && get.range == Range::None && get.asks == Asks::Nothing
    }

    /// Whether the store had come back so lately that instances may not have announced yet what
    /// they could not announce before.
    fn has_just_returned(&self, when: Moment) -> bool {
        self.trace.faults.iter().any(|(healed, fault)| {
            fault.what == StoreFault::Heal && *healed < when && when.ms < healed.ms + 2_000
        })
    }

    pub fn why_faults(&self, from: u64, to: u64) -> Vec<Because> {
        let faults = self.faults_between(from, to);
        let mut because = Vec::new();
        for fault in faults {
            because.push(match fault {
                StoreFault::Heal => continue,
                StoreFault::Full => Because::Full,
                StoreFault::Evict | StoreFault::EvictAll | StoreFault::Lose => Because::KeysLost,
                StoreFault::Reboot => Because::Rebooted,
                what if what.is_out_of_reach() => Because::Away,
                StoreFault::Delay => Because::Away,
                StoreFault::Restart | StoreFault::Failover => Because::LogLost,
                _ => Because::Crossed,
            });
        }
        because
    }

    pub fn why_memory(&self) -> Option<Because> {
        match self.world.memory {
            Memory::Small => Some(Because::SmallMemory),
            Memory::Off => Some(Because::NoMemory),
            Memory::Plenty | Memory::Middling => None,
        }
    }
}

impl Served<'_> {
    /// Whether the handler was called for this very request, and what it answered is what came.
    pub fn is_own(&self, case: &Case<'_>) -> bool {
        case.call(self.by).exchange == self.id && self.made == self.by
    }

    pub fn has_body(&self) -> bool {
        !self.seen.body.is_empty()
    }
}

impl Call {
    pub fn answered_at(&self) -> Option<Moment> {
        self.answered.map(|(when, _)| when)
    }

    /// When its body has come to its end, whoever read it, in milliseconds.
    pub fn ended(&self) -> Option<u64> {
        let Mode { frames, gap, .. } = self.mode;
        let body = u64::from(gap) * (u64::from(frames) + 2);
        self.answered_at().map(|when| when.ms + body)
    }

    pub fn status(&self) -> Option<u16> {
        match self.answered {
            Some((_, Answered::Status(status))) => Some(status),
            _ => None,
        }
    }

    /// Whether it failed in a way that stale responses stand in for.
    pub fn failed(&self) -> bool {
        match self.answered {
            Some((_, Answered::Status(status))) => matches!(status, 500 | 502..=504),
            Some((_, Answered::Error | Answered::Cut)) => true,
            // It panicked, was dropped, or takes its time.
            None => true,
        }
    }
}

impl StoreFault {
    /// Whether operations of one instance, or of all, come too late or not at all.
    pub fn is_out_of_reach(self) -> bool {
        matches!(
            self,
            Self::Cut | Self::Silence | Self::LoseReplies | Self::Slow
        )
    }

    /// Whether it is in force until all faults end.
    pub fn lasts(self) -> bool {
        self.is_out_of_reach()
            || matches!(self, Self::Full | Self::Lose | Self::Delay | Self::Cross)
    }
}

/// Whether two requests ask for the same in every way that may matter.
pub fn same_profile(one: &Get, other: &Get) -> bool {
    let key = |get: &Get| {
        let host = (get.host, get.proxied, get.utm, get.via, get.session);
        (get.at, get.r, get.user, get.how, get.lang, get.origin, host)
    };
    key(one) == key(other)
}

/// Whether a response in this mode may be stored and used again, whoever asks, and its body comes
/// to its end.
pub fn is_ordinary(mode: &Mode) -> bool {
    use crate::step::{Extra, Vary};
    // What takes longer than its lifetime is born stale.
    mode.cc.may_be_stored()
        && mode.cc.fresh() > u64::from(mode.delay)
        && !matches!(mode.vary, Vary::Star | Vary::OddStar)
        && mode.extra == Extra::Nothing
        && mode.end == End::Clean
        && matches!(mode.status, Status::Ok | Status::NotFound)
}

pub fn number(seen: &Seen, name: &str) -> Option<usize> {
    seen.headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The call that made a body or a part of one.
fn made_by(seen: &Seen) -> Option<usize> {
    crate::content::call_of(&seen.body, first_byte(seen))
}

/// Where a part begins in the whole.
pub fn first_byte(seen: &Seen) -> usize {
    let range = seen.headers.get("content-range");
    let text = range
        .and_then(|range| range.to_str().ok())
        .unwrap_or_default();
    let start = text.trim_start_matches("bytes ").split('-').next();
    start
        .and_then(|start| start.parse().ok())
        .unwrap_or_default()
}

/// The longest body that is stored where memory is tight.
pub const TIGHT: usize = 4 << 10;

/// How long a fault may make itself felt after it has ended, in milliseconds.
const CALM: u64 = 15_000;
