//! How often each outcome was reported.

use std::sync::atomic::{AtomicU64, Ordering};

use super::outcome::{Forwarded, Outcome};
use super::reason::Reason;

/// The outcomes of requests since the cache was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Responses {
    /// How many requests had which outcome: `hit`, `hit-stale`, `generated`, or the reason for
    /// forwarding, as in `Cache-Status`. Outcomes that never happened are listed too.
    pub outcomes: Vec<(&'static str, u64)>,
    /// How many requests had which `detail` in `Cache-Status`, mostly why the response was not
    /// stored.
    pub details: Vec<(&'static str, u64)>,
    /// How many responses were stored.
    pub stored: u64,
    /// How many requests were answered by the response to another request.
    pub collapsed: u64,
}

#[derive(Debug)]
pub(super) struct Counts {
    outcomes: [AtomicU64; NAMES.len()],
    details: [AtomicU64; Reason::ALL.len()],
    stored: AtomicU64,
    collapsed: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            outcomes: [const { AtomicU64::new(0) }; NAMES.len()],
            details: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            stored: AtomicU64::new(0),
            collapsed: AtomicU64::new(0),
        }
    }
}

impl Counts {
    pub(super) fn count(&self, outcome: &Outcome) {
        let (index, reason) = match *outcome {
            Outcome::Hit { detail: None, .. } => (HIT, None),
            Outcome::Hit { detail, .. } => (HIT_STALE, detail),
            Outcome::Generated { detail } => (GENERATED, Some(detail)),
            Outcome::Forward {
                why,
                stored,
                collapsed,
                detail,
                status: _,
            } => {
                self.stored.fetch_add(stored.into(), Ordering::Relaxed);
                self.collapsed
                    .fetch_add(collapsed.into(), Ordering::Relaxed);
                (GENERATED + 1 + why as usize, detail)
            }
        };
        if let Some(counter) = self.outcomes.get(index) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(counter) = reason.and_then(|reason| self.details.get(reason as usize)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn responses(&self) -> Responses {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let outcomes = NAMES.iter().zip(&self.outcomes);
        let details = Reason::ALL.iter().zip(&self.details);
        Responses {
            outcomes: outcomes
                .map(|(name, counter)| (*name, load(counter)))
                .collect(),
            details: details
                .map(|(reason, counter)| (reason.as_str(), load(counter)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            stored: load(&self.stored),
            collapsed: load(&self.collapsed),
        }
    }
}

const HIT: usize = 0;
const HIT_STALE: usize = 1;
const GENERATED: usize = 2;

/// The reasons for forwarding follow, in the order of [`Forwarded`].
const NAMES: [&str; 9] = [
    "hit",
    "hit-stale",
    "generated",
    Forwarded::Bypass.as_str(),
    Forwarded::Method.as_str(),
    Forwarded::UriMiss.as_str(),
    Forwarded::VaryMiss.as_str(),
    Forwarded::Request.as_str(),
    Forwarded::Stale.as_str(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_own_count() {
        let forwarded = [
            Forwarded::Bypass,
            Forwarded::Method,
            Forwarded::UriMiss,
            Forwarded::VaryMiss,
            Forwarded::Request,
            Forwarded::Stale,
        ];
        let mut outcomes = vec![
            (Outcome::hit(1), "hit"),
            (Outcome::stale(0, Reason::StaleIfError), "hit-stale"),
            (
                Outcome::Generated {
                    detail: Reason::OnlyIfCached,
                },
                "generated",
            ),
        ];
        outcomes.extend(
            forwarded.map(|why| (Outcome::forward(why, Some(Reason::NotFound)), why.as_str())),
        );
        assert_eq!(outcomes.len(), NAMES.len());
        let counts = Counts::default();
        for (times, (outcome, _)) in outcomes.iter().enumerate() {
            for _ in 0..=times {
                counts.count(outcome);
            }
        }
        let seen = counts.responses().outcomes;
        for (times, (_, name)) in outcomes.iter().enumerate() {
            assert!(
                seen.contains(&(*name, times as u64 + 1)),
                "{name}: {seen:?}"
            );
        }
    }

    #[test]
    fn details_storing_and_collapsing_are_counted() {
        let counts = Counts::default();
        for _ in 0..2 {
            counts.count(&Outcome::forward(Forwarded::UriMiss, Some(Reason::Private)));
        }
        counts.count(&Outcome::forward(Forwarded::UriMiss, None).and_stored());
        counts.count(&Outcome::forward(Forwarded::UriMiss, None).collapsed());
        let seen = counts.responses();
        assert_eq!(seen.details, [("private", 2)]);
        assert_eq!((seen.stored, seen.collapsed), (1, 1));
    }
}
