//! A memory of the last result, for a function that is often called with the same arguments.

use std::cell::RefCell;

/// The last result of a pure function, with its arguments. Each thread has one of its own, so there
/// is no lock.
#[derive(Debug)]
pub(crate) struct Memo<T>(RefCell<Option<T>>);

impl<T: Clone> Memo<T> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// The kept result, if `is_asked_for` accepts it. Otherwise the result of `make`, which is kept
    /// in its place.
    pub(crate) fn get_or_keep(
        &self,
        is_asked_for: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let mut last = self.0.borrow_mut();
        if let Some(kept) = &*last
            && is_asked_for(kept)
        {
            return Some(kept.clone());
        }
        let made = make()?;
        Some(last.insert(made).clone())
    }

    /// Forgets the last result, so that a seeded run does not depend on those before it.
    #[cfg(feature = "test-util")]
    pub(crate) fn forget(&self) {
        *self.0.borrow_mut() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_result_is_kept_and_a_failure_keeps_the_one_before() {
        let memo = Memo::new();
        let get = |asked: u32, made: Option<u32>| {
            memo.get_or_keep(|(kept, _)| *kept == asked, || Some((asked, made?)))
                .map(|(_, result)| result)
        };
        assert_eq!(get(1, Some(10)), Some(10));
        assert_eq!(get(1, None), Some(10));
        assert_eq!(get(2, None), None);
        assert_eq!(get(1, None), Some(10));
        assert_eq!(get(2, Some(20)), Some(20));
        assert_eq!(get(1, None), None);
    }
}
