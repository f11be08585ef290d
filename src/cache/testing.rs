//! What makes tests repeatable.

use crate::base::random;
use crate::{semantics, status};

/// Seeds all chance of this crate on the current thread: jitter, lease tokens, pauses, and which
/// entries evict each other in the caches that are made from now on.
///
/// With a current-thread runtime whose time is paused, a [`TokioClock`](crate::TokioClock), and an
/// [`InProcessStore`](crate::InProcessStore) with a seed of its own, equal seeds then give equal
/// runs. What earlier runs on this thread have left in memos is forgotten.
///
/// The random numbers are those of the crate `fastrand`: an application that takes its own from
/// its thread's generator takes them from the same sequence.
///
/// ```
/// use tower_response_cache::testing;
///
/// let draw = || {
///     testing::seed(42);
///     fastrand::u64(..)
/// };
/// assert_eq!(draw(), draw());
/// ```
pub fn seed(seed: u64) {
    random::set_seed(seed);
    semantics::vary::forget_memo();
    semantics::syntax::dates::forget_memo();
    status::forget_memo();
}
