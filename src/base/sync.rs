//! The lock of the concurrent core: std's, or a model checker's that explores interleavings.

use std::sync::PoisonError;

#[cfg(all(test, shuttle))]
use shuttle::sync as imp;
#[cfg(not(all(test, shuttle)))]
use std::sync as imp;

pub(crate) use imp::MutexGuard;

/// A mutex that a panic does not poison: what it guards is whole whenever it is unlocked.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sixteen of the same, each with a lock of its own: those who come for different hashes seldom
/// wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Striped<T> {
    first: Mutex<T>,
    others: [Mutex<T>; 15],
}

impl<T> Striped<T> {
    /// The one for `hash`.
    pub(crate) fn lock(&self, hash: u128) -> MutexGuard<'_, T> {
        let which = hash as usize % (self.others.len() + 1);
        self.others.get(which).unwrap_or(&self.first).lock()
    }
}
