//! Checks that every task ends and that the counts are right.

use super::Case;
use crate::finding::{Because, Finding, Kind};
use crate::trace::Outcome;

pub fn judge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for (at, rest) in case.trace.ends.iter().enumerate() {
        if rest.flights > 0 {
            let message = format!("{} flights at instance {at}", rest.flights);
            findings.push(Finding::new(Kind::FlightsLeft, [], message));
        }
        if rest.fill_bytes > 0 {
            let message = format!("{} bytes at instance {at}", rest.fill_bytes);
            findings.push(Finding::new(Kind::FillBytesLeft, [], message));
        }
        // Who starts anew forgets what was counted.
        if !case.has_rebooted(u64::MAX) {
            judge_counts(case, at, rest.counted, findings);
        }
    }
    if case.trace.tasks_left > 0 {
        let message = format!("{} tasks", case.trace.tasks_left);
        findings.push(Finding::new(Kind::TasksLeft, [], message));
    }
}

/// Every response is counted once, through however many layers it goes, and nothing else is.
fn judge_counts(case: &Case<'_>, at: usize, counted: u64, findings: &mut Vec<Finding>) {
    let mine = || {
        case.trace
            .exchanges
            .iter()
            .filter(|it| usize::from(it.at()) == at)
    };
    let answered = mine()
        .filter(|it| matches!(it.outcome, Outcome::Response(_)))
        .count() as u64;
    let others = mine().count() as u64 - answered;
    if !(answered..=answered + others).contains(&counted) {
        let refreshed = case.trace.calls.iter().any(|call| {
            let exchange = case.trace.exchanges.get(call.exchange);
            exchange
                .and_then(|it| it.head)
                .is_some_and(|head| call.began > head)
        });
        let because = refreshed.then_some(Because::Refreshed);
        let message = format!("{counted} responses counted at instance {at}, {answered} seen");
        findings.push(Finding::new(Kind::CountsDiffer, because, message));
    }
}
