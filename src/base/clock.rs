//! Clocks, and the moments that they show.
//!
//! A request reads the [`Clock`] once. Functions that judge freshness take the present moment as a
//! parameter.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest moment. It stands for "never".
    pub const MAX: Self = Self(u64::MAX);

    /// The moment `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The moment `secs` seconds after the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This moment as a [`SystemTime`], for formatting dates.
    #[must_use]
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_millis(self.0))
            .unwrap_or(UNIX_EPOCH)
    }

    /// The moment of a [`SystemTime`]. A time before the epoch becomes the epoch.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// This moment plus `duration`, or [`Timestamp::MAX`] if that is earlier.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// This moment minus `duration`, or the epoch if that is later.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// The time from `earlier` to this moment, or zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A source of the present moment.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The time of day of the operating system, which never goes back.
///
/// This clock runs with the monotonic clock, and looks at the wall clock every second. If the wall
/// clock is ahead, for example after a pause of the machine, this clock jumps to it, so that no
/// response lives too long. If the wall clock was set back, this clock runs slower by a twentieth
/// until the two agree. Lifetimes are longer by a twentieth meanwhile, and no more.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        static STARTED: OnceLock<(Instant, Steady)> = OnceLock::new();
        let wall = || Timestamp::from_system_time(SystemTime::now()).as_millis();
        let (started, steady) = STARTED.get_or_init(|| (Instant::now(), Steady::new(wall())));
        let passed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(steady.read(passed, wall))
    }
}

/// Computes the time of day from the time that has passed on the monotonic clock. All numbers are
/// milliseconds.
#[derive(Debug)]
struct Steady {
    /// The difference between the time of day and the time that has passed.
    offset: AtomicU64,
    /// The time shown when the offset last shrank. No earlier time is shown from then on.
    floor: AtomicU64,
    /// The passed time at which the wall clock is read again.
    next_look: AtomicU64,
}

impl Steady {
    const fn new(wall: u64) -> Self {
        Self {
            offset: AtomicU64::new(wall),
            floor: AtomicU64::new(0),
            next_look: AtomicU64::new(LOOK_EVERY),
        }
    }

    fn read(&self, passed: u64, wall: impl FnOnce() -> u64) -> u64 {
        let next = self.next_look.load(Ordering::Relaxed);
        if passed >= next {
            let later = passed.saturating_add(LOOK_EVERY);
            let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
            let won = self.next_look.compare_exchange(next, later, set, read);
            // Only the thread that moves the mark reads the wall clock.
            if won.is_ok() {
                self.approach(passed, wall());
            }
        }
        let offset = self.offset.load(Ordering::Acquire);
        let floor = self.floor.load(Ordering::Relaxed);
        offset.saturating_add(passed).max(floor)
    }

    fn approach(&self, passed: u64, wall: u64) {
        let offset = self.offset.load(Ordering::Relaxed);
        let shown = offset.saturating_add(passed);
        let offset = match shown.checked_sub(wall) {
            None => offset.saturating_add(wall - shown),
            Some(ahead) => {
                self.floor.fetch_max(shown, Ordering::Relaxed);
                offset.saturating_sub(ahead.min(LOOK_EVERY / 20))
            }
        };
        self.offset.store(offset, Ordering::Release);
    }
}

/// The time between two looks at the wall clock, in milliseconds.
const LOOK_EVERY: u64 = 1000;

/// A clock for tests. It stands still unless the test moves it.
///
/// ```
/// use std::time::Duration;
/// use tower_response_cache::{Clock, TestClock};
///
/// let clock = TestClock::default();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(before), Duration::from_secs(60));
/// ```
#[cfg(feature = "test-util")]
#[derive(Clone, Debug)]
pub struct TestClock(std::sync::Arc<std::sync::atomic::AtomicU64>);

#[cfg(feature = "test-util")]
impl TestClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(std::sync::Arc::new(now.as_millis().into()))
    }

    /// Moves the clock forward by `duration`.
    pub fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.0
            .fetch_add(millis, std::sync::atomic::Ordering::SeqCst);
    }

    /// Sets the clock to `now`, which may be earlier.
    pub fn set(&self, now: Timestamp) {
        self.0
            .store(now.as_millis(), std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(feature = "test-util")]
impl Default for TestClock {
    /// A clock that stands at the real present.
    fn default() -> Self {
        Self::new(SystemClock.now())
    }
}

#[cfg(feature = "test-util")]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

/// A clock that follows tokio's time, so that a test that pauses it decides how much time passes.
///
/// It shows the same moment at first, whenever the test runs. Copies that are
/// [`ahead`](Self::ahead) or [`behind`](Self::behind) are the clocks of other machines.
///
/// ```
/// use std::time::Duration;
/// use tower_response_cache::{Clock, TokioClock};
///
/// # tokio::runtime::Builder::new_current_thread()
/// #     .enable_time()
/// #     .start_paused(true)
/// #     .build()?
/// #     .block_on(async {
/// let clock = TokioClock::default();
/// let (before, late) = (clock.now(), clock.behind(Duration::from_secs(30)));
/// tokio::time::sleep(Duration::from_secs(60)).await;
/// assert_eq!(clock.now().since(before), Duration::from_secs(60));
/// assert_eq!(late.now().since(before), Duration::from_secs(30));
/// # });
/// # Ok::<_, std::io::Error>(())
/// ```
#[cfg(feature = "test-util")]
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    began: tokio::time::Instant,
    start: Timestamp,
}

#[cfg(feature = "test-util")]
impl TokioClock {
    /// A clock that shows `start` now. Make it within the runtime whose time it follows.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        let began = tokio::time::Instant::now();
        Self { began, start }
    }

    /// A copy that is ahead by `offset`.
    #[must_use]
    pub fn ahead(self, offset: Duration) -> Self {
        let start = self.start.saturating_add(offset);
        Self { start, ..self }
    }

    /// A copy that is behind by `offset`.
    #[must_use]
    pub fn behind(self, offset: Duration) -> Self {
        let start = self.start.saturating_sub(offset);
        Self { start, ..self }
    }
}

#[cfg(feature = "test-util")]
impl Default for TokioClock {
    /// A clock that shows the beginning of 2026 now.
    fn default() -> Self {
        Self::new(Timestamp::from_secs(1_767_225_600))
    }
}

#[cfg(feature = "test-util")]
impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start.saturating_add(self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_comes_back_to_the_wall_clock() {
        const START: u64 = 1_000_000;
        const MINUTE: u64 = 60_000;
        // Columns: the error of the wall clock, the time that passes, the error of the time shown.
        for (off, passed, expected) in [
            (0, 999, 0),
            (5_000, 1_000, 0),
            (5_000, 999, -5_000),
            (-50, 2_000, 0),
            (-1_000, 10_000, 500),
            (-1_000, 20_000, 0),
            (-(MINUTE as i64), 20 * MINUTE, 0),
        ] {
            let steady = Steady::new(START);
            let wall = |passed: u64| (START + passed).saturating_add_signed(off);
            let mut last = START;
            for passed in 0..=passed {
                let shown = steady.read(passed, || wall(passed));
                assert!(shown >= last, "{off}: {shown} after {last}");
                last = shown;
            }
            let shown = last as i64 - wall(passed) as i64;
            let all_but_the_look = (expected - 50..=expected + 50).contains(&shown);
            assert!(all_but_the_look, "{off} after {passed}: {shown}");
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_back_lengthens_lifetimes_by_a_twentieth_at_most() {
        let steady = Steady::new(10_000_000);
        let before = steady.read(0, || 0);
        let after = (0..=60_000).map(|passed| steady.read(passed, || 0)).last();
        let lived = after.unwrap() - before;
        assert!((57_000..=60_000).contains(&lived), "{lived}");
    }
}
