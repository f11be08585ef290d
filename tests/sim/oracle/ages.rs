//! Checks that no response is older than its directives allow.

use super::{Case, Served};
use crate::finding::{Because, Finding, Kind};
use crate::step::Cc;
use crate::trace::Call;

pub fn judge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for served in case.served() {
        let is_own = case.call(served.by).exchange == served.id;
        if !is_own && matches!(served.seen.status, 200 | 206 | 304 | 404) {
            judge_age(case, &served, findings);
        }
    }
}

fn judge_age(case: &Case<'_>, served: &Served<'_>, findings: &mut Vec<Finding>) {
    let Served { id, by, made, .. } = *served;
    let age = age(case, served);
    let lifetime = |call: &Call| {
        let cc = call.mode.cc;
        (cc.fresh() + cc.while_revalidate(), cc.if_error())
    };
    let last = case.call(by);
    let cc = last.mode.cc;
    // What says nothing leaves what was said before.
    let is_update = last.is_head || last.status() == Some(304);
    let targeted = |call: &Call| call.r == last.r && call.mode.cc == Cc::Targeted;
    let keeps_targeted = case.trace.calls[..by].iter().any(targeted);
    let says_it_all = !is_update || (cc != Cc::None && !keeps_targeted);
    // A 304 changes the fields that it has, and no others.
    let counts = |(n, call): &(usize, &Call)| {
        let is_between = (made != by && (made..by).contains(n)) || (!says_it_all && *n < by);
        call.r == served.get.r && call.answered.is_some() && (*n == by || is_between)
    };
    let calls = case.trace.calls.iter().enumerate().filter(counts);
    let lifetimes = calls.map(|(_, call)| lifetime(call));
    let (plain, with_error) = lifetimes.fold((0, 0), |(plain, error), (one, other)| {
        (plain.max(one), error.max(one + other))
    });
    if !cc.may_be_stored() && says_it_all {
        let message = format!("request {id} got what call {by} did not let be stored");
        findings.push(Finding::new(Kind::TooOld, [Because::Unstorable], message));
    } else if age > with_error.max(plain) + case.skew() + TOLERANCE {
        let message = format!("request {id} got call {by} at an age of {age} ms ({cc:?})");
        findings.push(Finding::new(
            Kind::TooOld,
            why_too_old(case, served),
            message,
        ));
    } else if age > plain + case.skew() + TOLERANCE && !failed(case, served) {
        let message = format!("request {id} got call {by} stale, at {age} ms, and nothing failed");
        findings.push(Finding::new(Kind::StaleWithoutError, [], message));
    }
}

/// How old the response was when it was asked for, in milliseconds.
pub fn age(case: &Case<'_>, served: &Served<'_>) -> u64 {
    let answered = case.call(served.by).answered_at().map_or(0, |when| when.ms);
    served.exchange.began.ms.saturating_sub(answered)
}

fn why_too_old(case: &Case<'_>, served: &Served<'_>) -> Vec<Because> {
    let mut because = Vec::new();
    if case.call(served.by).mode.cc == Cc::NoCache {
        because.push(Because::NoCache);
    }
    because
}

/// Whether a call of the handler failed shortly before, so that a stale response stands in.
fn failed(case: &Case<'_>, served: &Served<'_>) -> bool {
    let (from, to) = (
        served.exchange.began.ms.saturating_sub(REST),
        served.head.ms,
    );
    // So does one for others who fetch one after the other.
    let gave_up = served.head.ms >= served.exchange.began.ms + 4_500;
    gave_up
        || case.trace.calls.iter().any(|call| {
            let ended = call.answered_at().map_or(call.began.ms, |when| when.ms);
            let near = call.began.ms <= to && ended >= from;
            // One that takes its time may be given up.
            let late = call
                .answered_at()
                .is_none_or(|when| when.ms > call.began.ms + 4_000);
            call.r == served.get.r && call.at == served.get.at && near && (call.failed() || late)
        })
}

/// For rounding, in milliseconds.
const TOLERANCE: u64 = 5;

/// How long a failure keeps the handler from being asked again, in milliseconds, and some.
const REST: u64 = 2_500;
