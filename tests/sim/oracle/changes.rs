//! Checks that every response is younger than each change and purge before it.

use std::collections::BTreeSet;

use super::{Case, Served, same_profile};
use crate::fields::RESOURCES;
use crate::finding::{Because, Finding, Kind};
use crate::step::{Cc, Change, ChangeAnswer, Cond, Method, Purge, Range, StoreFault, What};
use crate::trace::{Asked, Call, Moment, Outcome};

pub fn judge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let changes = changes(case);
    let purges = purges(case);
    for served in case.served() {
        let is_content = matches!(served.seen.status, 200 | 206 | 304 | 404);
        if !is_content || served.is_own(case) {
            continue;
        }
        for change in changes.iter().filter(|change| change.r == served.get.r) {
            judge_change(case, &served, change, findings);
        }
        for purge in purges.iter().filter(|purge| purge.concerns(case, &served)) {
            judge_purge(case, &served, purge, findings);
        }
    }
}

/// A resource that a request with an unsafe method has changed.
pub struct Changed<'a> {
    pub change: &'a Change,
    pub r: u8,
    pub version: u32,
    pub began: Moment,
    /// From when on the instance that saw it has to know.
    pub done: Moment,
    pub certainty: Certainty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The client was told.
    Told,
    /// The client had left; the handler would have succeeded.
    ClientLeft,
    /// It failed, or was cut off, after it had written.
    Unknown,
}

/// Every change of every resource that the cache has seen.
pub fn changes<'a>(case: &Case<'a>) -> Vec<Changed<'a>> {
    let mut changes = Vec::new();
    for call in &case.trace.calls {
        let Some(exchange) = case.trace.exchanges.get(call.exchange) else {
            continue;
        };
        let Asked::Change(change) = &exchange.asked else {
            continue;
        };
        let fails = matches!(change.answer, ChangeAnswer::Error | ChangeAnswer::Panic);
        let is_cut = change.cut > 0 && change.cut <= change.before;
        let certainty = match &exchange.outcome {
            _ if fails || is_cut => Certainty::Unknown,
            Outcome::Response(_) => Certainty::Told,
            Outcome::Left => Certainty::ClientLeft,
            Outcome::Pending | Outcome::Error(_) | Outcome::Panicked => Certainty::Unknown,
        };
        let done = match certainty {
            Certainty::Told => exchange.head,
            Certainty::Unknown => exchange.ended,
            Certainty::ClientLeft => exchange.ended.map(|ended| Moment {
                ms: ended.ms.max(call.began.ms + u64::from(change.before)) + BUDGET,
                order: u64::MAX,
            }),
        };
        let Some(done) = done else { continue };
        // Where no answer came, no `Location` came either.
        let told = match certainty {
            Certainty::Unknown => 1,
            Certainty::Told | Certainty::ClientLeft => call.wrote.len(),
        };
        changes.extend(call.wrote.iter().take(told).map(|(r, version)| Changed {
            change,
            r: *r,
            version: *version,
            began: call.began,
            done,
            certainty,
        }));
    }
    changes
}

impl Changed<'_> {
    /// From when on an instance has to know.
    fn known(&self, case: &Case<'_>, at: u8, made: &Call) -> Moment {
        if at == self.change.at % case.instances() {
            return self.done;
        }
        known_elsewhere(case, self.done, made)
    }
}

/// From when on the other instances have to know of what was done at one, if they have what a call
/// has made.
fn known_elsewhere(case: &Case<'_>, done: Moment, made: &Call) -> Moment {
    let mut last = done.ms;
    let near = case.faults_between(done.ms.saturating_sub(1_000), done.ms + 200);
    let hinders = |what: &StoreFault| {
        what.is_out_of_reach() || matches!(what, StoreFault::Restart | StoreFault::Failover)
    };
    if near.iter().any(hinders) {
        // It is announced when the store is back.
        let healed = case
            .trace
            .faults
            .iter()
            .find(|(when, fault)| when.ms > done.ms && fault.what == StoreFault::Heal);
        last = healed.map_or(u64::MAX / 2, |(when, _)| when.ms);
    }
    for (when, fault) in &case.trace.faults {
        let forgets = matches!(fault.what, StoreFault::Restart | StoreFault::Failover);
        if forgets && when.ms >= done.ms {
            last = last.max(when.ms);
        }
    }
    // In an outage, what was under way is trusted for the bound from when it came.
    if made.began < done && near.iter().any(|what| what.lasts()) {
        last = last.max(made.ended().unwrap_or_default());
    }
    Moment {
        ms: last + BOUND + case.skew(),
        order: u64::MAX,
    }
}

fn judge_change(
    case: &Case<'_>,
    served: &Served<'_>,
    change: &Changed<'_>,
    findings: &mut Vec<Finding>,
) {
    let Served {
        id,
        exchange,
        get,
        made,
        version,
        ..
    } = *served;
    let is_other_url = get.utm != change.change.utm && !case.world.query;
    if version >= change.version
        || is_other_url
        || exchange.began <= change.known(case, get.at, case.call(made))
    {
        return;
    }
    let message = format!(
        "request {id} got version {version} of r{}, and {} was written by {} of instance {}",
        get.r,
        change.version,
        change.change.method_name(),
        change.change.at,
    );
    let because = why_outdated(case, served, change);
    if change.certainty != Certainty::Unknown {
        findings.push(Finding::new(Kind::Outdated, because, message));
    } else if get.at == change.change.at % case.instances()
        && case.call(served.by).began < change.done
        && is_overdue(case, served, change.done, case.call(made))
    {
        findings.push(Finding::new(Kind::SoftPurgeIgnored, because, message));
    }
}

fn why_outdated(case: &Case<'_>, served: &Served<'_>, change: &Changed<'_>) -> BTreeSet<Because> {
    let made = case.call(served.made);
    let at = change.change.at % case.instances();
    let mut because: BTreeSet<Because> = why_old(case, served, change.began, change.done);
    let by_location = matches!(
        change.change.answer,
        ChangeAnswer::Created | ChangeAnswer::SeeOther
    );
    let facts = [
        (served.get.at != at, Because::Elsewhere),
        (made.at != at, Because::FetchedElsewhere),
        (by_location, Because::Location),
        (
            change.certainty == Certainty::ClientLeft,
            Because::ClientLeft,
        ),
        (
            change.certainty == Certainty::Unknown,
            Because::OutcomeUnknown,
        ),
        (
            case.has_just_returned(served.exchange.began),
            Because::Returned,
        ),
        (served.get.via != change.change.via, Because::Namespaces),
        (served.get.utm || change.change.utm, Because::QueryRule),
    ];
    because.extend(
        facts
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, because)| because),
    );
    because
}

/// How the old state came to be served, whatever made it old between two moments.
fn why_old(case: &Case<'_>, served: &Served<'_>, began: Moment, done: Moment) -> BTreeSet<Because> {
    let made = case.call(served.made);
    let maker = case.trace.exchanges.get(made.exchange).map(|it| &it.asked);
    let asked = match maker {
        Some(Asked::Get(get)) => Some(get),
        _ => None,
    };
    let ended = case
        .trace
        .exchanges
        .get(made.exchange)
        .and_then(|it| it.ended);
    let facts = [
        (
            made.began < done && ended.is_none_or(|ended| ended.ms + WRITE > began.ms),
            Because::UnderWay,
        ),
        (
            asked.is_some_and(|it| it.cond != Cond::None),
            Because::Conditional,
        ),
        (
            asked.is_some_and(|it| it.range != Range::None),
            Because::Ranged,
        ),
        (served.get.proxied || case.world.keyed, Because::FieldsInKey),
        (
            renewals(case, served, began).any(|call| asked_before(case, call, done)),
            Because::AskedBefore,
        ),
        (is_marked(case, made), Because::Marked),
        (
            something_purged(case, made.began, done),
            Because::UnrelatedPurge,
        ),
        (
            renewals(case, served, began).any(|call| call.is_head),
            Because::HeadRenewed,
        ),
    ];
    let mut because: BTreeSet<Because> = case.why_memory().into_iter().collect();
    because.extend(
        facts
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, because)| because),
    );
    because.extend(case.why_faults(made.began.ms, served.exchange.began.ms));
    because
}

/// Whether anything was purged or set between two moments.
fn something_purged(case: &Case<'_>, from: Moment, to: Moment) -> bool {
    let within = |when: Moment| from < when && when < to;
    let purges = case
        .trace
        .purges
        .iter()
        .map(|done| done.ended.map(|(when, _)| when));
    let values = case.trace.values.iter().map(|done| done.ended);
    purges.chain(values).flatten().any(within)
}

/// The calls without content since `began` that may have renewed what is served.
fn renewals<'a>(
    case: &Case<'a>,
    served: &Served<'_>,
    began: Moment,
) -> impl Iterator<Item = &'a Call> {
    let (r, until) = (served.get.r, served.head);
    case.trace.calls.iter().filter(move |call| {
        let renews = call.status() == Some(304) || (call.is_head && call.status() == Some(200));
        renews && call.r == r && began < call.began && call.began < until
    })
}

/// Whether the request that caused a call had begun before a moment.
fn asked_before(case: &Case<'_>, call: &Call, done: Moment) -> bool {
    let exchange = case.trace.exchanges.get(call.exchange);
    exchange.is_some_and(|exchange| exchange.began < done)
}

/// Whether the key of a call may have been marked uncacheable when it began.
pub fn is_marked(case: &Case<'_>, call: &Call) -> bool {
    case.trace.calls.iter().any(|other| {
        // It is marked once its body has come to its end, or before.
        let is_lately = other.answered_at().is_some_and(|when| when < call.began)
            && other
                .ended()
                .is_some_and(|ended| ended + MARK > call.began.ms);
        other.r == call.r
            && other.at == call.at
            && is_lately
            && (!case.is_reusable(other) || is_refused(case, other))
    })
}

/// Whether what a call answered is not stored, for its requester's credentials.
fn is_refused(case: &Case<'_>, call: &Call) -> bool {
    let exchange = case.trace.exchanges.get(call.exchange);
    exchange.is_some_and(|it| it.credentials) && !call.mode.cc.permits_sharing()
}

/// Whether a request came so long after another that asked the same since `done` that the stale
/// response it got should have been refreshed.
fn is_overdue(case: &Case<'_>, served: &Served<'_>, done: Moment, made: &Call) -> bool {
    let began = served.exchange.began;
    let first = case.gets().find(|(_, exchange, get)| {
        exchange.began > done
            && same_profile(get, served.get)
            && case.is_plain(get)
            && !exchange.credentials
            && matches!(exchange.outcome, Outcome::Response(_))
    });
    let Some((_, first, _)) = first else {
        return false;
    };
    let troubles = |call: &Call| {
        call.r == served.get.r
            && call.wrote.is_empty()
            && call.began > made.began
            && call.began < began
            && (call.failed() || !super::is_ordinary(&call.mode) || is_refused(case, call))
    };
    began.ms > first.began.ms + 10_000 && !case.trace.calls.iter().any(troubles)
}

/// A purge that has succeeded.
struct Purged<'a> {
    purge: &'a Purge,
    began: Moment,
    done: Moment,
}

fn purges<'a>(case: &Case<'a>) -> Vec<Purged<'a>> {
    let done = case
        .trace
        .purges
        .iter()
        .filter_map(|done| match done.ended {
            Some((when, true)) => Some(Purged {
                purge: &done.purge,
                began: done.began,
                done: when,
            }),
            _ => None,
        });
    done.collect()
}

impl Purged<'_> {
    fn concerns(&self, case: &Case<'_>, served: &Served<'_>) -> bool {
        concerns(case, self.purge, served.get.r, served.get.utm)
    }
}

/// Whether a purge concerns a resource as it is asked for.
pub fn concerns(case: &Case<'_>, purge: &Purge, r: u8, utm: bool) -> bool {
    let same = purge.r % RESOURCES == r;
    match purge.what {
        What::Tag => same,
        What::Uri | What::Full | What::Https => same && (!utm || case.world.query),
        What::Utm => same && (utm || case.world.query),
        What::Path | What::Everything => true,
        What::Empty | What::Unrelated => false,
    }
}

fn judge_purge(
    case: &Case<'_>,
    served: &Served<'_>,
    purge: &Purged<'_>,
    findings: &mut Vec<Finding>,
) {
    let Served {
        id,
        exchange,
        get,
        by,
        made,
        ..
    } = *served;
    let at = purge.purge.at % case.instances();
    let known = match get.at == at {
        true => purge.done,
        false => known_elsewhere(case, purge.done, case.call(made)),
    };
    let call = case.call(made);
    if exchange.began <= known || call.began >= purge.began {
        return;
    }
    let mut because = why_old(case, served, purge.began, purge.done);
    because.extend((get.at != at).then_some(Because::Elsewhere));
    because.extend((call.at != at).then_some(Because::FetchedElsewhere));
    because.extend((purge.purge.what == What::Https).then_some(Because::OtherScheme));
    let by_query = case.world.query && (purge.purge.what == What::Utm || get.utm);
    because.extend(by_query.then_some(Because::QueryRule));
    let message = format!(
        "request {id} got call {made} of {} ms, and instance {} purged it at {} ms",
        call.began.ms, purge.purge.at, purge.began.ms
    );
    if !purge.purge.soft {
        findings.push(Finding::new(Kind::PurgedServed, because, message));
    } else if case.call(by).began < purge.began
        && case.call(made).mode.cc != Cc::Must
        && is_overdue(case, served, known, call)
        && case.calm(purge.began.ms, exchange.began.ms)
    {
        findings.push(Finding::new(Kind::SoftPurgeIgnored, because, message));
    }
}

impl Change {
    fn method_name(&self) -> &'static str {
        match self.method {
            Method::Put => "a PUT",
            Method::Post => "a POST",
            Method::Delete => "a DELETE",
        }
    }
}

/// How long an instance may take to hear of a change or a purge: the bound, the time in which it
/// finds out that the log takes no writes, and some.
const BOUND: u64 = 7_000;

/// How long a change may take to be made known once its handler has answered.
const BUDGET: u64 = 200;

/// How long what was fetched may be on its way to the store, in milliseconds.
const WRITE: u64 = 50;

/// For how long a key stays marked.
const MARK: u64 = 10_000;
