//! Checks that every request is answered in time.

use super::work::plain_maker;
use super::{Case, same_profile};
use crate::finding::{Because, Finding, Kind};
use crate::step::{Cc, Get, StoreFault};
use crate::trace::{BodyEnd, Call, Exchange, Moment, Outcome};

pub fn judge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for (id, exchange) in case.trace.exchanges.iter().enumerate() {
        judge_end(id, exchange, findings);
    }
    for (id, exchange, get) in case.gets() {
        let Some(head) = exchange.head else { continue };
        let waited = waited(case, id, exchange, head);
        judge_longest(case, id, exchange, waited, findings);
        judge_alone(case, id, exchange, get, (head, waited), findings);
        judge_serial(case, id, exchange, get, waited, findings);
    }
}

/// For how long a request waited for something else than its own calls of the handler.
fn waited(case: &Case<'_>, id: usize, exchange: &Exchange, head: Moment) -> u64 {
    let own = case.calls_of(id).filter(|(_, call)| call.began < head);
    let own = own.map(|(_, call)| {
        let answered = call.answered_at().map_or(head.ms, |when| when.ms);
        answered.min(head.ms) - call.began.ms
    });
    (head.ms - exchange.began.ms).saturating_sub(own.sum())
}

fn judge_end(id: usize, exchange: &Exchange, findings: &mut Vec<Finding>) {
    let pending = match &exchange.outcome {
        Outcome::Pending => true,
        Outcome::Response(seen) => seen.end == BodyEnd::Pending,
        _ => false,
    };
    if pending {
        let message = format!("request {id}");
        findings.push(Finding::new(Kind::NeverEnded, [], message));
    }
}

fn judge_longest(
    case: &Case<'_>,
    id: usize,
    exchange: &Exchange,
    waited: u64,
    findings: &mut Vec<Finding>,
) {
    let most = FOLLOWER_WAIT + STORE;
    // A whole body is waited for where a part of it is asked for, or its length is not known.
    if waited > most + case.slowness() {
        let message = format!(
            "request {id} waited for {waited} ms, from {} ms",
            exchange.began.ms
        );
        findings.push(Finding::new(Kind::WaitedTooLong, [], message));
    }
}

/// With nobody else there, nothing is waited for but the handler and the store.
fn judge_alone(
    case: &Case<'_>,
    id: usize,
    exchange: &Exchange,
    get: &Get,
    (head, waited): (Moment, u64),
    findings: &mut Vec<Finding>,
) {
    let others = case
        .trace
        .exchanges
        .iter()
        .enumerate()
        .any(|(other_id, other)| {
            other_id != id
                && other.r() == get.r
                && (other.at() == get.at || case.world.lease)
                && other.began < head
                && other.ended.is_none_or(|ended| ended > exchange.began)
        });
    let calls = case.trace.calls.iter().any(|call| {
        call.exchange != id
            && call.r == get.r
            && call.began < head
            && call.ended().is_none_or(|ms| ms >= exchange.began.ms)
    });
    let store = if case.world.store { STORE } else { 0 };
    if !others && !calls && waited > store + 20 + case.slowness() {
        let because = case.world.lease.then_some(Because::Lease);
        let message = format!("request {id} waited for {waited} ms, alone");
        findings.push(Finding::new(Kind::AloneAndWaited, because, message));
    }
}

/// Requests for what cannot be shared do not wait for each other.
fn judge_serial(
    case: &Case<'_>,
    id: usize,
    exchange: &Exchange,
    get: &Get,
    waited: u64,
    findings: &mut Vec<Finding>,
) {
    if !case.is_plain(get) || case.world.lease {
        return;
    }
    let since = case
        .trace
        .modes
        .iter()
        .rev()
        .find(|(when, mode)| mode.r == get.r && exchange.head.is_some_and(|head| *when < head));
    let since = since.map_or(Moment::default(), |(when, _)| *when);
    let before = |call: &&Call| {
        let is_answered = call.answered_at().is_some_and(|when| when < exchange.began);
        let asked = plain_maker(case, call);
        let is_same = asked.is_some_and(|(_, other)| same_profile(other, get));
        is_same && is_answered && call.began > since
    };
    let known: Vec<&Call> = case.trace.calls.iter().filter(before).collect();
    // It is asked anew once in a while.
    let is_lately = |call: &&Call| call.began.ms + 9_000 > exchange.began.ms;
    let may_have_ended = case.trace.calls.iter().any(|call| {
        let marks = !case.is_reusable(call) && call.r == get.r && call.at == get.at;
        marks && (9_000..25_000).contains(&exchange.began.ms.saturating_sub(call.began.ms))
    });
    // What the cache may keep is shared again.
    let is_lifted = |first: &Call| {
        case.trace.calls.iter().any(|call| {
            let is_same = call.r == get.r && call.at == get.at && call.via == get.via;
            let is_later = call.ended().is_some_and(|ended| ended >= first.began.ms);
            is_same && is_later && call.began < exchange.began && case.is_reusable(call)
        })
    };
    let is_known = known.len() >= 2
        && !may_have_ended
        && known
            .first()
            .is_some_and(|first| is_lately(first) && !is_lifted(first))
        && known.iter().all(|call| {
            cannot_be_shared(call.mode.cc)
                && has_no_credentials(case, call)
                && matches!(call.status(), Some(200 | 304 | 404))
        });
    let store = if case.world.store { STORE } else { 0 };
    let calm = case.calm(exchange.began.ms.saturating_sub(10_000), exchange.began.ms);
    if is_known && calm && waited > store + 20 {
        let cc = known[0].mode.cc;
        let facts = [
            (cc == Cc::NoCache, Because::NoCache),
            (cc == Cc::Zero, Because::Zero),
            (!cc.may_be_stored(), Because::Unstorable),
            (
                known.iter().any(|call| call.status() == Some(304)),
                Because::NotModified,
            ),
        ];
        let because = facts
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, because)| because);
        let message = format!("request {id} waited for {waited} ms ({cc:?})");
        findings.push(Finding::new(Kind::Serialised, because, message));
    }
}

fn has_no_credentials(case: &Case<'_>, call: &Call) -> bool {
    plain_maker(case, call).is_some_and(|(exchange, _)| !exchange.credentials)
}

fn cannot_be_shared(cc: Cc) -> bool {
    matches!(
        cc,
        Cc::NoStore | Cc::Private | Cc::NoCache | Cc::Zero | Cc::None
    )
}

impl Case<'_> {
    /// How much longer everything takes because of the store, at most.
    fn slowness(&self) -> u64 {
        let faults = self.trace.faults.iter();
        let slow = faults.filter(|(_, fault)| fault.what == StoreFault::Slow);
        let most = slow.map(|(_, fault)| u64::from(fault.n)).max();
        most.map_or(0, |most| most.min(1_000) * 4)
    }
}

/// How long a request waits for another's fetch, in milliseconds.
const FOLLOWER_WAIT: u64 = 5_000;

/// How long it waits for the store: the budget of a request, a few times.
const STORE: u64 = 200;
