//! Checks the application's own values.

use super::Case;
use crate::fields::RESOURCES;
use crate::finding::{Because, Finding, Kind};
use crate::step::{Access, Memory, What};
use crate::trace::{Moment, ValueDone};

pub fn judge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for (place, got) in case.trace.values.iter().enumerate() {
        if matches!(got.value.what, Access::Get | Access::GetOrSet) && got.ended.is_some() {
            judge_age(case, place, got, findings);
            judge_loss(case, place, got, findings);
        }
    }
}

/// Not from before a purge.
fn judge_age(case: &Case<'_>, place: usize, got: &ValueDone, findings: &mut Vec<Finding>) {
    let Some(version) = got.version else { return };
    let r = got.value.r % RESOURCES;
    for purge in &case.trace.purges {
        let Some((done, true)) = purge.ended else {
            continue;
        };
        let here = purge.purge.at % case.instances() == got.value.at % case.instances();
        let concerns = match purge.purge.what {
            What::Tag => purge.purge.r % RESOURCES == r,
            What::Everything => true,
            _ => false,
        };
        // What was set after the purge is what the application has wanted since.
        let is_set_since = case.trace.values.iter().any(|other| {
            other.value.what == Access::Set
                && other.value.r % RESOURCES == r
                && other.version == Some(version)
                && other.ended.is_none_or(|ended| ended > purge.began)
        });
        let due = version_at(case, r, purge.began);
        if here
            && !is_set_since
            && concerns
            && !purge.purge.soft
            && got.began > done
            && version < due
        {
            let message = format!("access {place} got version {version}, purged at {due}");
            let because = case.why_faults(purge.began.ms, got.began.ms);
            findings.push(Finding::new(Kind::ValueOutdated, because, message));
        }
    }
}

/// What was set is there.
fn judge_loss(case: &Case<'_>, place: usize, got: &ValueDone, findings: &mut Vec<Finding>) {
    if got.version.is_some() || got.value.what != Access::Get || case.world.memory != Memory::Plenty
    {
        return;
    }
    let same = |other: &ValueDone| {
        other.value.r % RESOURCES == got.value.r % RESOURCES
            && other.value.at % case.instances() == got.value.at % case.instances()
    };
    let set = case.trace.values.iter().rev().find(|other| {
        let is_set = other.value.what == Access::Set && other.succeeded && same(other);
        is_set && other.ended.is_some_and(|ended| ended < got.began)
    });
    let Some(set) = set else { return };
    let lasts = got.began.ms + case.skew() < set.began.ms + 59_000;
    let is_gone = case.trace.purges.iter().any(|purge| {
        purge.ended.is_none_or(|(ended, _)| ended > set.began) && purge.began < got.began
    }) || case.trace.values.iter().any(|other| {
        let removes = matches!(other.value.what, Access::Remove | Access::Set);
        let is_other = !std::ptr::eq(other, set);
        is_other
            && removes
            && other.value.r % RESOURCES == got.value.r % RESOURCES
            && other.began < got.began
            && other.ended.is_none_or(|ended| ended > set.began)
    });
    if lasts && !is_gone && case.calm(set.began.ms, got.began.ms) {
        let slow = case.trace.values.iter().any(|other| {
            other.value.what == Access::GetOrSet
                && same(other)
                && other.began < set.ended.unwrap_or_default()
                && other.ended.is_none_or(|ended| ended > set.began)
        });
        let because = [
            slow.then_some(Because::SlowMaker),
            case.world.short_log.then_some(Because::ManyPurges),
        ];
        let because = because.into_iter().flatten();
        let message = format!("access {place} found nothing of what was set before");
        findings.push(Finding::new(Kind::ValueLost, because, message));
    }
}

/// The version that a resource had at a moment.
pub fn version_at(case: &Case<'_>, r: u8, when: Moment) -> u32 {
    let touches = case
        .trace
        .touches
        .iter()
        .filter(|(at, which)| *at < when && *which == r);
    let writes = case.trace.calls.iter().filter(|call| call.began < when);
    let writes = writes
        .flat_map(|call| &call.wrote)
        .filter(|(which, _)| *which == r);
    1 + touches.count() as u32 + writes.count() as u32
}
