//! Shrinks a failing scenario.

use crate::finding::Finding;
use crate::step::{Act, Scenario, Step};
use crate::text::Record;

/// The smallest scenario on the way down from this one that still shows what is looked for.
pub fn shrink(scenario: &Scenario, shows: &dyn Fn(&Scenario) -> bool) -> Scenario {
    let mut smallest = scenario.clone();
    loop {
        let before = smallest.clone();
        remove_steps(&mut smallest, shows);
        simplify_world(&mut smallest, shows);
        simplify_steps(&mut smallest, shows);
        if smallest == before {
            return smallest;
        }
    }
}

/// Whether a run shows a finding as this one.
pub fn shows(scenario: &Scenario, is_it: &dyn Fn(&Finding) -> bool) -> bool {
    let trace = crate::world::run(scenario);
    crate::oracle::judge(scenario, &trace).iter().any(is_it)
}

/// Takes away runs of steps, long ones first (delta debugging).
fn remove_steps(smallest: &mut Scenario, shows: &dyn Fn(&Scenario) -> bool) {
    let mut length = smallest.steps.len().div_ceil(2).max(1);
    loop {
        let mut start = 0;
        while start < smallest.steps.len() {
            let mut fewer = smallest.clone();
            let end = (start + length).min(fewer.steps.len());
            fewer.steps.drain(start..end);
            if shows(&fewer) {
                *smallest = fewer;
            } else {
                start += length;
            }
        }
        if length == 1 {
            return;
        }
        length = length.div_ceil(2);
    }
}

fn simplify_world(smallest: &mut Scenario, shows: &dyn Fn(&Scenario) -> bool) {
    for simpler in smallest.world.simpler() {
        let mut other = smallest.clone();
        other.world = simpler;
        if shows(&other) {
            *smallest = other;
            return simplify_world(smallest, shows);
        }
    }
}

fn simplify_steps(smallest: &mut Scenario, shows: &dyn Fn(&Scenario) -> bool) {
    for place in 0..smallest.steps.len() {
        while let Some(simpler) = simpler_step(smallest, place, shows) {
            *smallest = simpler;
        }
    }
}

fn simpler_step(
    scenario: &Scenario,
    place: usize,
    shows: &dyn Fn(&Scenario) -> bool,
) -> Option<Scenario> {
    let Step { at, act } = scenario.steps[place];
    let before = place
        .checked_sub(1)
        .map_or(0, |before| scenario.steps[before].at);
    let acts = act.simpler().into_iter().map(|act: Act| Step { at, act });
    let times = [before, before + 1, before + 100, before + 1_000];
    let times = times
        .into_iter()
        .filter(|time| *time < at)
        .map(|at| Step { at, act });
    acts.chain(times).find_map(|step| {
        let mut simpler = scenario.clone();
        let moved = at - step.at;
        simpler.steps[place] = step;
        // What follows keeps its distance.
        for later in &mut simpler.steps[place + 1..] {
            later.at -= moved;
        }
        shows(&simpler).then_some(simpler)
    })
}
