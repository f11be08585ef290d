//! Seeds, for tests that can be repeated.

use crate::base::random;
use crate::{semantics, status};

/// Seeds all random choices of this crate on the current thread: jitter, lease tokens, pauses, and
/// which entries evict each other in caches that are made from now on.
///
/// With a current-thread runtime whose time is paused, a [`TokioClock`](crate::TokioClock), and an
/// [`InProcessStore`](crate::InProcessStore) with a seed of its own, equal seeds then give equal
/// runs. Results that earlier runs on this thread have left in memory are forgotten.
///
/// The random numbers are those of the crate `fastrand`. If an application uses the same thread's
/// generator, its numbers come from the same sequence.
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
