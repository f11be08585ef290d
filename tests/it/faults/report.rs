//! The measured results of a fault.

use std::fmt;
use std::time::Duration;

/// How long requests took.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    /// Times of the handler without a cache, called in the same moments.
    pub(crate) bare: Vec<Duration>,
    /// Times with the cache, while it still tries the store.
    pub(crate) before: Vec<Duration>,
    /// Times with the cache, while it does not try the store.
    pub(crate) after: Vec<Duration>,
}

impl Latencies {
    /// What the cache added to the bare handler.
    pub(crate) fn added(self) -> Added {
        let Self {
            bare,
            before,
            after,
        } = self;
        let bare = p99(bare).unwrap_or_default();
        let over = |latencies| p99(latencies).map(|latency| latency.saturating_sub(bare));
        Added {
            before: over(before),
            after: over(after),
        }
    }
}

/// What a fault adds to the 99th percentile, over the handler without a cache in the same run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Added {
    /// The addition while the store is tried: no breaker is open, and there is a connection.
    pub(crate) before: Option<Duration>,
    /// The addition while the store is not tried.
    pub(crate) after: Option<Duration>,
}

impl Added {
    fn longest(self) -> Duration {
        self.before.max(self.after).unwrap_or_default()
    }
}

fn p99(mut latencies: Vec<Duration>) -> Option<Duration> {
    latencies.sort_unstable();
    let last = latencies.len().checked_sub(1)?;
    latencies.get(last * 99 / 100).copied()
}

/// One line of the suite's result.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) fault: String,
    pub(crate) checked: u64,
    pub(crate) wrong: u64,
    pub(crate) errors: u64,
    pub(crate) late: u64,
    pub(crate) added: Added,
    pub(crate) dials: u64,
    pub(crate) recovery: Option<Duration>,
    /// A remark.
    pub(crate) note: String,
}

impl Report {
    /// Asserts that nothing is wrong: no wrong response, no error of the cache, no wait beyond the
    /// operation timeout.
    pub(crate) fn assert_good(&self) {
        assert_eq!((self.wrong, self.errors), (0, 0), "{self}");
        assert!(self.checked > 0, "{self}");
        assert!(self.added.longest() < BUDGET + SLACK, "{self}");
        if let Some(recovery) = self.recovery {
            assert!(recovery < Duration::from_secs(10), "{self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fault,
            checked,
            wrong,
            errors,
            late,
            added,
            dials,
            recovery,
            note,
        } = self;
        let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let shown = |time: &Option<Duration>| time.map_or("-".to_owned(), millis);
        let [before, after, recovery] = [&added.before, &added.after, recovery].map(shown);
        write!(
            f,
            "{fault:<36} {checked:>8} {wrong:>5} {errors:>6} {late:>5} {before:>10} {after:>10} \
             {dials:>5} {recovery:>10}  {note}"
        )
    }
}

impl Report {
    /// The heading of the columns.
    #[allow(dead_code, reason = "for the long suite")]
    pub(crate) fn heading() -> String {
        format!(
            "{:<36} {:>8} {:>5} {:>6} {:>5} {:>10} {:>10} {:>5} {:>10}",
            "fault",
            "checked",
            "wrong",
            "errors",
            "late",
            "p99 before",
            "p99 after",
            "dials",
            "recovery"
        )
    }
}

/// How long a response may take: the operation timeout, and 5 ms for all else.
pub(crate) const WITHIN: Duration = Duration::from_millis(55);

const BUDGET: Duration = Duration::from_millis(50);

/// How much a busy machine may add to it.
const SLACK: Duration = Duration::from_millis(400);
