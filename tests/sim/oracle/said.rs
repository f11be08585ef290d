//! Checks that `Cache-Status` is true.

use super::{Case, Served, TIGHT};
use crate::fields::size;
use crate::finding::{Because, Finding, Kind};
use crate::step::{End, Length, Memory, StoreFault};

pub fn judge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for served in case.served() {
        let said = Said::of(&served);
        judge_hit(case, &served, &said, findings);
        judge_stored(case, &served, &said, findings);
    }
}

/// What the members of a `Cache-Status` say together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said {
    pub hit: bool,
    /// A hit that is stale, or stands in for a failure.
    pub stale: bool,
    pub stored: bool,
    pub collapsed: bool,
}

impl Said {
    pub fn of(served: &Served<'_>) -> Self {
        let lines = served.seen.headers.get_all("cache-status").iter();
        let text = lines
            .filter_map(|line| line.to_str().ok())
            .collect::<Vec<_>>()
            .join(",");
        let mut said = Self::default();
        for parameter in text.split([';', ',']).map(str::trim) {
            match parameter {
                "hit" => said.hit = true,
                "stored" => said.stored = true,
                "collapsed" => said.collapsed = true,
                _ => said.stale |= STALE.contains(&parameter),
            }
        }
        said
    }
}

fn judge_hit(case: &Case<'_>, served: &Served<'_>, said: &Said, findings: &mut Vec<Finding>) {
    let id = served.id;
    let is_own = case.call(served.by).exchange == id;
    if said.hit && is_own && !said.stale {
        let message = format!(
            "request {id} was a hit, and is what call {} made",
            served.by
        );
        findings.push(Finding::new(Kind::SaysHit, [], message));
    }
    let called = case.calls_of(id).any(|(_, call)| call.began < served.head);
    if !said.hit && !called && !said.collapsed {
        let message = format!("request {id} was no hit, and its handler was not called");
        findings.push(Finding::new(Kind::SaysMiss, [], message));
    }
}

fn judge_stored(case: &Case<'_>, served: &Served<'_>, said: &Said, findings: &mut Vec<Finding>) {
    if !said.stored || !served.is_own(case) || served.get.head {
        return;
    }
    let mode = &case.call(served.by).mode;
    let unknown = mode.length == Length::Unknown && mode.frames > 0;
    let away = case
        .faults_between(served.head.ms, served.head.ms)
        .contains(&StoreFault::Cut)
        && case.trace.faults.iter().rev().any(|(when, fault)| {
            *when < served.head
                && fault.what == StoreFault::Cut
                && fault.at % case.instances() == served.get.at
        });
    let facts = [
        (
            unknown && case.world.tight && size(mode) > TIGHT,
            Because::TooLong,
        ),
        (unknown && mode.end == End::Broken, Because::BrokenBody),
        (mode.end == End::Trailers, Because::Trailers),
        (
            case.world.memory == Memory::Off && (away || !case.world.store),
            Because::NoMemory,
        ),
    ];
    for (_, because) in facts.into_iter().filter(|(holds, _)| *holds) {
        let message = format!("request {} was told that it is stored", served.id);
        findings.push(Finding::new(Kind::SaysStored, [because], message));
    }
}

/// What a stale hit says of itself.
const STALE: [&str; 4] = [
    "detail=stale-while-revalidate",
    "detail=stale-if-error",
    "detail=soft-purged",
    "detail=max-stale",
];
