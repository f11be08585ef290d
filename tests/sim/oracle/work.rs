//! Checks that the handler is called no more often than necessary.

use std::collections::BTreeSet;

use super::changes::concerns;
use super::{Case, Served, TIGHT, is_ordinary, same_profile};
use crate::fields::{RESOURCES, size, vary};
use crate::finding::{Because, Finding, Kind};
use crate::step::{Access, ChangeAnswer, End, Get, Memory, OnMatch, StoreFault, What};
use crate::trace::{Asked, BodyEnd, Call, Exchange, Moment, Outcome};

pub fn judge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for (id, exchange, get) in case.gets() {
        if case.is_plain(get) {
            judge_need(case, id, exchange, get, findings);
            judge_order(case, id, exchange, get, findings);
            judge_failure(case, id, exchange, get, findings);
        }
    }
    for (n, call) in case.trace.calls.iter().enumerate() {
        judge_coalescing(case, n, call, findings);
    }
}

/// A request for what the same instance has just served, and may serve still, calls no handler.
fn judge_need(
    case: &Case<'_>,
    id: usize,
    exchange: &Exchange,
    get: &Get,
    findings: &mut Vec<Finding>,
) {
    let own = case.calls_of(id).find(|(_, call)| {
        call.began >= exchange.began && exchange.head.is_some_and(|head| call.began < head)
    });
    let Some((n, needless)) = own else { return };
    let Some(before) = last_before(case, exchange.began, get) else {
        return;
    };
    let call = case.call(before.by);
    let Some(answered) = call.answered_at() else {
        return;
    };
    // Age counts from when the handler was asked.
    let expires = call.began.ms + call.mode.cc.fresh();
    let window = (call.began, needless.began);
    let permits = call.mode.cc.permits_sharing();
    let excused = exchange.began.ms + case.skew() + 20 > expires
        || !case.is_reusable(call)
        || (exchange.credentials && !permits)
        || passes_by(case, exchange, get)
        || case.is_starting(call)
        || is_explained(case, window, get, call);
    if !excused {
        let message = format!(
            "request {id} made call {n}, though request {} had got call {} {} ms before",
            before.id,
            before.by,
            exchange.began.ms.saturating_sub(answered.ms)
        );
        let because = why_more_work(case, window, get);
        findings.push(Finding::new(Kind::NeedlessCall, because, message));
    }
}

/// A stale response stands in for a failure, where it may.
fn judge_failure(
    case: &Case<'_>,
    id: usize,
    exchange: &Exchange,
    get: &Get,
    findings: &mut Vec<Finding>,
) {
    let failed = match &exchange.outcome {
        Outcome::Error(_) => true,
        Outcome::Response(seen) => matches!(seen.status, 500 | 503),
        _ => false,
    };
    let own = case.calls_of(id).find(|(_, call)| call.failed());
    let (Some((n, own)), Some(before)) = (own, last_before(case, exchange.began, get)) else {
        return;
    };
    let call = case.call(before.by);
    let lasts = call.began.ms + call.mode.cc.fresh() + call.mode.cc.if_error();
    if failed
        && case.is_reusable(call)
        && own
            .answered_at()
            .is_some_and(|when| when.ms + case.skew() + 20 < lasts)
        && !exchange.credentials
        && !case.is_starting(call)
        && !is_explained(case, (call.began, own.began), get, call)
    {
        let message = format!("request {id} got the failure of call {n}, and could do without");
        let mut because = why_more_work(case, (call.began, own.began), get);
        because.extend(case.why_faults(call.began.ms, own.began.ms));
        findings.push(Finding::new(Kind::FailureShown, because, message));
    }
}

/// Whether something may be stored that is not to be shared with this requester, who passes by.
fn passes_by(case: &Case<'_>, exchange: &Exchange, get: &Get) -> bool {
    let mut calls = case.trace.calls.iter();
    let stores_unshared = |call: &Call| {
        call.r == get.r && call.began < exchange.began && !call.mode.cc.permits_sharing()
    };
    exchange.credentials && calls.any(stores_unshared)
}

/// The last whole response that a plain request for the same got before.
fn last_before<'a>(case: &Case<'a>, before: Moment, get: &Get) -> Option<Served<'a>> {
    let all = case.served().filter(|served| {
        served.exchange.ended.is_some_and(|ended| ended < before)
            && same_profile(served.get, get)
            && case.is_plain(served.get)
            && served.seen.end == BodyEnd::Clean
    });
    all.max_by_key(|served| served.exchange.ended)
}

/// Whether something that happened between two moments explains that what was served at the first
/// is not to be had at the second.
fn is_explained(case: &Case<'_>, (from, to): (Moment, Moment), get: &Get, call: &Call) -> bool {
    let trace = case.trace;
    let within = |when: Moment| from < when && when < to;
    let is_set_anew = trace
        .modes
        .iter()
        .any(|(when, mode)| within(*when) && mode.r == get.r);
    let is_touched = trace
        .touches
        .iter()
        .any(|(when, r)| within(*when) && *r == get.r);
    // What the handler would answer now matters only if it was asked.
    let is_answered_anew = trace
        .calls
        .iter()
        .any(|call| call.r == get.r && call.began > from && call.began < to);
    let is_other = (is_set_anew || is_touched) && is_answered_anew;
    let is_changed = trace.exchanges.iter().any(|exchange| {
        let Asked::Change(change) = &exchange.asked else {
            return false;
        };
        let overlaps =
            exchange.began < to && exchange.ended.is_none_or(|ended| later(ended) > from);
        let writes = !matches!(change.answer, ChangeAnswer::Refused | ChangeAnswer::Failed);
        let target = change.r % RESOURCES == get.r;
        let location =
            (change.r + 1) % RESOURCES == get.r && change.answer == ChangeAnswer::Created;
        overlaps && writes && (target || location)
    });
    let is_purged = trace.purges.iter().any(|done| {
        let overlaps = done.began < to && done.ended.is_none_or(|(ended, _)| later(ended) > from);
        overlaps && concerns(case, &done.purge, get.r, get.utm)
    });
    let is_lost = match case.world.memory {
        Memory::Plenty => !case.calm_enough(from.ms, to.ms),
        Memory::Middling => fills_middling(case, to) || !case.calm_enough(from.ms, to.ms),
        Memory::Small => true,
        Memory::Off => !case.world.store || !case.calm(from.ms, to.ms),
    };
    let is_tight = case.world.tight && call.mode.frames > 0 && !slow(case, to);
    let is_displaced = variants_since(case, (from, to), get) > case.most_variants();
    let known = call.answered_at().unwrap_or(from);
    let is_varied = names_grew(case, (known, to), get);
    is_other || is_varied || is_changed || is_purged || is_lost || is_tight || is_displaced
}

/// Whether the cache has learnt of a name between two moments: what is stored or under way without
/// its value is nobody's any more.
fn names_grew(case: &Case<'_>, (from, to): (Moment, Moment), get: &Get) -> bool {
    let known = names(case, get, from, &|call| case.is_reusable(call));
    !names(case, get, to, &|_any| true).is_subset(&known)
}

/// What such responses for a resource have named in `Vary` until a moment: of a name that is new
/// the cache has to learn, and it learns from what it keeps.
fn names(
    case: &Case<'_>,
    get: &Get,
    until: Moment,
    counts: &dyn Fn(&Call) -> bool,
) -> BTreeSet<String> {
    let calls = case.trace.calls.iter().enumerate().filter(|(_, call)| {
        call.r == get.r && counts(call) && call.answered_at().is_some_and(|when| when <= until)
    });
    let lines = calls.filter_map(|(n, call)| {
        let is_update = call.is_head || call.status() == Some(304);
        match call.mode.on_match {
            OnMatch::Narrow if is_update => Some("accept-encoding".to_owned()),
            _ => vary(&call.mode, case.world.keyed, &call.facts, n),
        }
    });
    let lines: Vec<String> = lines.collect();
    let names = lines.iter().flat_map(|line| line.split(','));
    names.map(|name| name.trim().to_owned()).collect()
}

/// Whether more was fetched than a tier of a megabyte holds.
fn fills_middling(case: &Case<'_>, to: Moment) -> bool {
    let calls = case.trace.calls.iter().filter(|call| call.began < to);
    let bytes: usize = calls.map(|call| size(&call.mode) + 2_000).sum();
    bytes > 1_000_000
}

/// Whether a client that takes its time was reading.
fn slow(case: &Case<'_>, to: Moment) -> bool {
    case.gets()
        .any(|(_, exchange, get)| get.slow > 0 && exchange.began < to)
}

/// How many variants of a resource were asked for.
fn variants_since(case: &Case<'_>, (from, to): (Moment, Moment), get: &Get) -> usize {
    let asked = case.gets().filter(|(_, exchange, other)| {
        other.r == get.r
            && other.via == get.via
            && exchange.began < to
            && exchange.ended.is_none_or(|ended| ended > from)
    });
    let variants = asked.map(|(_, exchange, other)| {
        let facts = &exchange.facts;
        (&facts.lang, &facts.origin, other.user, other.how)
    });
    variants.collect::<BTreeSet<_>>().len()
}

fn why_more_work(case: &Case<'_>, (from, to): (Moment, Moment), get: &Get) -> Vec<Because> {
    let overlaps = |began: Moment, ended: Option<Moment>| {
        began < to && ended.is_none_or(|ended| later(ended) > from)
    };
    let purges = || {
        let purges = case.trace.purges.iter();
        purges.filter(|done| overlaps(done.began, done.ended.map(|(when, _)| when)))
    };
    let changes = || {
        case.trace
            .exchanges
            .iter()
            .filter_map(|exchange| match &exchange.asked {
                Asked::Change(change) if overlaps(exchange.began, exchange.ended) => Some(change),
                _ => None,
            })
    };
    let see_other = changes().any(|change| {
        change.answer == ChangeAnswer::SeeOther && (change.r + 1) % RESOURCES == get.r
    });
    let values = case.trace.values.iter().filter(|done| {
        matches!(done.value.what, Access::Set | Access::Remove) && overlaps(done.began, done.ended)
    });
    let others = purges().count() + changes().count() + values.count();
    let facts = [
        (
            purges().any(|done| done.purge.what == What::Empty),
            Because::EmptyPurge,
        ),
        (others > 0, Because::UnrelatedPurge),
        (case.world.short_log && others > 8, Because::ManyPurges),
        (see_other, Because::SeeOther),
        (case.world.skew > 0 && case.world.others > 0, Because::Skew),
        (case.world.lease, Because::Lease),
        (slow(case, to), Because::SlowReaders),
        (case.world.memory == Memory::Off, Because::NoMemory),
    ];
    facts
        .into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, because)| because)
        .collect()
}

/// Nobody gets an older state than the handler has answered with since, to a request for the same.
fn judge_order(
    case: &Case<'_>,
    id: usize,
    exchange: &Exchange,
    get: &Get,
    findings: &mut Vec<Finding>,
) {
    let Some(served) = case.served_to(id, exchange, get).filter(Served::has_body) else {
        return;
    };
    if exchange.credentials || served.is_own(case) || case.world.memory != Memory::Plenty {
        return;
    }
    let old = case.call(served.made);
    let newer = case.trace.calls.iter().enumerate().rev().find(|(_, call)| {
        let asked = plain_maker(case, call);
        asked.is_some_and(|(_, other)| same_profile(other, get))
            && call.version > served.version
            && call.status() == Some(200)
            && call.mode.end != End::Broken
            && old.answered_at().is_some_and(|when| when < call.began)
            && call.ended().is_some_and(|ms| ms < exchange.began.ms)
    });
    let Some((n, new)) = newer else { return };
    if case.calm(old.began.ms, exchange.began.ms) {
        let mode = &new.mode;
        let facts = [
            (
                !is_ordinary(mode) || !mode.cc.may_be_stored(),
                Because::Unstorable,
            ),
            (mode.end == End::Trailers, Because::Trailers),
            (case.world.tight && size(mode) > TIGHT, Because::TooLong),
            (
                served.by != served.made && case.call(served.by).began < new.began,
                Because::AskedBefore,
            ),
            (case.world.others > 0, Because::Elsewhere),
        ];
        let because = facts
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, it)| it);
        let message = format!(
            "request {id} got version {} after call {n} had made {}",
            served.version, new.version
        );
        findings.push(Finding::new(Kind::Regressed, because, message));
    }
}

/// While one request fetches, others for the same wait.
fn judge_coalescing(case: &Case<'_>, n: usize, call: &Call, findings: &mut Vec<Finding>) {
    let Some((exchange, get)) = plain_maker(case, call) else {
        return;
    };
    if !case.is_reusable(call) || case.world.lease {
        return;
    }
    let earlier = case.trace.calls[..n].iter().enumerate().find(|(_, other)| {
        let Some((led, leader)) = plain_maker(case, other) else {
            return false;
        };
        same_profile(leader, get)
            && !gave_up(led, other)
            && leader.leave == 0
            && other.mode == call.mode
            && other.began < exchange.began
            && other.answered_at().is_some_and(|when| when > call.began)
            && case.calls_of(other.exchange).count() == 1
    });
    let Some((m, leader)) = earlier else { return };
    let led = case
        .trace
        .exchanges
        .get(leader.exchange)
        .map_or(leader.began, |it| it.began);
    let window = (led, call.began);
    let is_excused = case.is_starting(leader)
        || super::changes::is_marked(case, leader)
        || (exchange.credentials && !call.mode.cc.permits_sharing())
        || passes_by(case, exchange, get)
        || gave_up(exchange, call)
        || is_related(case, window, get)
        || names_grew(case, (leader.began, call.began), get)
        || !case.calm(leader.began.ms, call.began.ms);
    if !is_excused {
        let because = why_more_work(case, window, get);
        let message = format!("call {n} beside call {m} for the same");
        findings.push(Finding::new(Kind::NotCoalesced, because, message));
    }
}

/// Whether a request had waited for another as long as it does, so that nobody waits for it.
fn gave_up(exchange: &Exchange, call: &Call) -> bool {
    call.began.ms >= exchange.began.ms + 4_500
}

/// When what happened at a moment is known to have been read back from the log.
fn later(when: Moment) -> Moment {
    Moment {
        ms: when.ms + 50,
        ..when
    }
}

/// The plain GET that caused a call, if one did.
pub fn plain_maker<'a>(case: &Case<'a>, call: &Call) -> Option<(&'a Exchange, &'a Get)> {
    let exchange = case.trace.exchanges.get(call.exchange)?;
    match &exchange.asked {
        Asked::Get(get) if case.is_plain(get) => Some((exchange, get)),
        _ => None,
    }
}

/// Whether the resource was changed or purged meanwhile.
fn is_related(case: &Case<'_>, (from, to): (Moment, Moment), get: &Get) -> bool {
    let trace = case.trace;
    let purged = trace.purges.iter().any(|done| {
        done.began < to
            && done.ended.is_none_or(|(ended, _)| later(ended) > from)
            && concerns(case, &done.purge, get.r, get.utm)
    });
    let changed = trace
        .exchanges
        .iter()
        .any(|exchange| match &exchange.asked {
            Asked::Change(change) => {
                let near = [change.r % RESOURCES, (change.r + 1) % RESOURCES].contains(&get.r);
                near && exchange.began < to
                    && exchange.ended.is_none_or(|ended| later(ended) > from)
            }
            Asked::Get(_) => false,
        });
    purged || changed
}

impl Case<'_> {
    /// Whether an instance may not have read the log yet when it made a call.
    fn is_starting(&self, call: &Call) -> bool {
        let first = self.gets().find(|(_, _, get)| get.at == call.at);
        let first = first.map_or(0, |(_, exchange, _)| exchange.began.ms);
        self.world.store && call.began.ms < first + 2_000
    }

    fn most_variants(&self) -> usize {
        if self.world.two_variants { 2 } else { 64 }
    }

    /// Whether no fault of the store concerned what memory holds.
    fn calm_enough(&self, from: u64, to: u64) -> bool {
        let harmless = [
            StoreFault::Evict,
            StoreFault::EvictAll,
            StoreFault::Lose,
            StoreFault::Delay,
        ];
        let faults = self.faults_between(from.saturating_sub(15_000), to);
        let is_well = !self.world.store || faults.iter().all(|fault| harmless.contains(fault));
        // What an instance had in memory alone is gone with it.
        is_well && !self.has_rebooted(to)
    }
}
