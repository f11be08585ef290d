//! A circuit breaker: after failures in a row it lets nothing through but one probe at a time.
//!
//! It has no clock; "now" is a parameter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::StoreError;
use crate::store::BreakerState;

/// Opens after failures in a row, and lets one probe at a time through while it is open.
#[derive(Debug)]
pub(crate) struct Breaker {
    failures_until_open: u32,
    probe_interval: Duration,
    phase: Mutex<Phase>,
    opened: AtomicU64,
}

/// Permits one operation. If it is dropped without a result, the breaker learns nothing.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit<'a> {
    /// `None` once the breaker knows the result.
    breaker: Option<&'a Breaker>,
    kind: PermitKind,
}

/// What a result did to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Change {
    /// Nothing to log.
    None,
    /// It opened.
    Opened,
    /// It closed again.
    Closed,
}

impl Breaker {
    pub(crate) fn new(failures_until_open: u32, probe_interval: Duration) -> Self {
        Self {
            failures_until_open: failures_until_open.max(1),
            probe_interval,
            phase: Mutex::new(Phase::Closed { failures: 0 }),
            opened: AtomicU64::new(0),
        }
    }

    /// Permits an operation, or fails while the breaker is open.
    pub(crate) fn admit(&self, now: Instant) -> Result<Permit<'_>, StoreError> {
        let mut phase = self.phase();
        let kind = match *phase {
            Phase::Closed { .. } => PermitKind::Regular,
            Phase::Open { until } if now >= until => {
                *phase = Phase::Probing { since: now };
                PermitKind::Probe
            }
            Phase::Open { .. } | Phase::Probing { .. } => return Err(StoreError::Suspended),
        };
        Ok(Permit {
            breaker: Some(self),
            kind,
        })
    }

    /// Lets the next operation through as a probe, since it may succeed.
    pub(crate) fn probe_now(&self, now: Instant) {
        let mut phase = self.phase();
        if let Phase::Open { until } = &mut *phase {
            *until = (*until).min(now);
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        match *self.phase() {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::Probing { .. } => BreakerState::Probing,
        }
    }

    /// How often the breaker has opened. A failed probe does not count.
    pub(crate) fn times_opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    fn succeed(&self, kind: PermitKind) -> Change {
        let mut phase = self.phase();
        match (kind, *phase) {
            (PermitKind::Regular, Phase::Closed { .. }) => {
                *phase = Phase::Closed { failures: 0 };
                Change::None
            }
            // An answer to a command that was sent before the breaker opened proves little.
            (PermitKind::Regular, _) => Change::None,
            (PermitKind::Probe, _) => {
                *phase = Phase::Closed { failures: 0 };
                Change::Closed
            }
        }
    }

    fn fail(&self, kind: PermitKind, now: Instant) -> Change {
        let mut phase = self.phase();
        match (kind, *phase) {
            (PermitKind::Regular, Phase::Closed { failures }) => {
                let failures = failures.saturating_add(1);
                if failures < self.failures_until_open {
                    *phase = Phase::Closed { failures };
                    return Change::None;
                }
                *phase = self.open_from(now);
                self.opened.fetch_add(1, Ordering::Relaxed);
                Change::Opened
            }
            (PermitKind::Regular, _) => Change::None,
            (PermitKind::Probe, _) => {
                *phase = self.open_from(now);
                Change::None
            }
        }
    }

    /// The probe was given up, so the next operation may probe.
    fn abandon(&self, kind: PermitKind) {
        let mut phase = self.phase();
        if let (PermitKind::Probe, Phase::Probing { since }) = (kind, *phase) {
            *phase = Phase::Open { until: since };
        }
    }

    /// Jittered by a quarter, so that instances do not probe in step.
    fn open_from(&self, now: Instant) -> Phase {
        let factor = 0.75 + fastrand::f64() * 0.5;
        Phase::Open {
            until: now + self.probe_interval.mul_f64(factor),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    pub(crate) fn succeed(mut self) -> Change {
        match self.breaker.take() {
            Some(breaker) => breaker.succeed(self.kind),
            None => Change::None,
        }
    }

    pub(crate) fn fail(mut self, now: Instant) -> Change {
        match self.breaker.take() {
            Some(breaker) => breaker.fail(self.kind, now),
            None => Change::None,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker.take() {
            breaker.abandon(self.kind);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing { since: Instant },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermitKind {
    Regular,
    Probe,
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn open(now: Instant) -> Breaker {
        let breaker = Breaker::new(3, INTERVAL);
        let changes = [(); 3].map(|()| breaker.admit(now).unwrap().fail(now));
        assert_eq!(changes, [Change::None, Change::None, Change::Opened]);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let now = Instant::now();
        let breaker = open(now);
        assert_eq!(
            (breaker.state(), breaker.times_opened()),
            (BreakerState::Open, 1)
        );
        assert_eq!(breaker.admit(now).unwrap_err(), StoreError::Suspended);
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let now = Instant::now();
        let breaker = Breaker::new(2, INTERVAL);
        for _ in 0..5 {
            assert_eq!(breaker.admit(now).unwrap().fail(now), Change::None);
            assert_eq!(breaker.admit(now).unwrap().succeed(), Change::None);
        }
    }

    #[test]
    fn one_probe_at_a_time_and_a_good_one_closes_it() {
        let now = Instant::now();
        let breaker = open(now);
        let later = now + INTERVAL * 2;
        let probe = breaker.admit(later).unwrap();
        assert_eq!(breaker.state(), BreakerState::Probing);
        assert!(breaker.admit(later).is_err());
        assert_eq!(probe.succeed(), Change::Closed);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_failed_probe_leaves_it_open_for_another_interval() {
        let now = Instant::now();
        let breaker = open(now);
        let later = now + INTERVAL * 2;
        assert_eq!(breaker.admit(later).unwrap().fail(later), Change::None);
        assert!(breaker.admit(later + INTERVAL / 2).is_err());
        assert!(breaker.admit(later + INTERVAL * 2).is_ok());
    }

    #[test]
    fn a_probe_given_up_makes_room_for_another() {
        let now = Instant::now();
        let breaker = open(now);
        let later = now + INTERVAL * 2;
        drop(breaker.admit(later).unwrap());
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn late_answers_do_not_close_it() {
        let now = Instant::now();
        let breaker = Breaker::new(1, INTERVAL);
        let slow = breaker.admit(now).unwrap();
        assert_eq!(breaker.admit(now).unwrap().fail(now), Change::Opened);
        assert_eq!(slow.succeed(), Change::None);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn a_new_connection_may_be_probed_at_once() {
        let now = Instant::now();
        let breaker = open(now);
        breaker.probe_now(now);
        assert!(breaker.admit(now).is_ok());
    }
}
