//! The locks of the concurrent core. The model checker replaces them by its own, so that it can
//! explore interleavings.

use std::sync::PoisonError;

#[cfg(all(test, shuttle))]
use shuttle::sync as imp;
#[cfg(not(all(test, shuttle)))]
use std::sync as imp;

pub(crate) use imp::{MutexGuard, RwLockReadGuard, RwLockWriteGuard, atomic};

/// A mutex that a panic does not poison. The value is consistent whenever a user unlocks it.
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

/// A lock for many readers or one writer, which a panic does not poison either.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(imp::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Several values with a lock each, so that threads with different hashes seldom wait for each
/// other.
#[derive(Debug, Default)]
pub(crate) struct Striped<T>([Mutex<T>; STRIPES]);

impl<T> Striped<T> {
    /// Locks the value for `hash`.
    #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
    pub(crate) fn lock(&self, hash: u128) -> MutexGuard<'_, T> {
        self.0[hash as usize % STRIPES].lock()
    }
}

const STRIPES: usize = 16;
