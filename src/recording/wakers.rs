//! Tasks that wait for one event.

use std::task::{Context, Waker};

/// The wakers of the tasks that wait for an event. They live inside the lock that guards the event.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    wakers: Vec<Option<Waker>>,
    /// The slots of waiters that have left.
    free: Vec<usize>,
    /// How often all waiters were woken. A key of an earlier round is void.
    round: u64,
}

/// The slot of one waiter and the round in which it was taken, so that the waiter is not entered
/// twice and can leave.
#[derive(Debug, Default)]
pub(crate) struct WakerKey(Option<(u64, usize)>);

impl Waiters {
    /// Enters a waiter, or renews its waker.
    pub(crate) fn enter(&mut self, key: &mut WakerKey, context: &Context<'_>) {
        let index = match key.0 {
            Some((round, index)) if round == self.round => index,
            _ => self.free.pop().unwrap_or(self.wakers.len()),
        };
        key.0 = Some((self.round, index));
        if index == self.wakers.len() {
            self.wakers.push(None);
        }
        if let Some(slot) = self.wakers.get_mut(index) {
            match slot {
                Some(waker) => waker.clone_from(context.waker()),
                None => *slot = Some(context.waker().clone()),
            }
        }
    }

    /// Frees a waiter's slot, so that waiters that come and go do not pile up. The caller drops the
    /// waker once it has released the lock: the waker may own the last reference to its task.
    #[must_use]
    pub(crate) fn leave(&mut self, key: &mut WakerKey) -> Option<Waker> {
        let (round, index) = key.0.take()?;
        if round != self.round {
            return None;
        }
        let waker = self.wakers.get_mut(index)?.take();
        self.free.push(index);
        waker
    }

    /// Takes all wakers. The caller wakes them once it has released the lock.
    #[must_use]
    pub(crate) fn take(&mut self) -> Wakers {
        self.round += 1;
        self.free.clear();
        Wakers(std::mem::take(&mut self.wakers))
    }

    /// The number of waiters.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.wakers.len() - self.free.len()
    }
}

/// The wakers to wake once the event can be seen.
#[derive(Debug)]
pub(crate) struct Wakers(Vec<Option<Waker>>);

impl Wakers {
    pub(crate) fn wake(self) {
        self.0.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_waiter_is_woken_once_and_one_that_left_is_not() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let context = Context::from_waker(&waker);
        let mut waiters = Waiters::default();
        let (mut stays, mut leaves) = (WakerKey::default(), WakerKey::default());
        waiters.enter(&mut stays, &context);
        waiters.enter(&mut stays, &context);
        waiters.enter(&mut leaves, &context);
        assert!(waiters.leave(&mut leaves).is_some());
        assert!(waiters.leave(&mut leaves).is_none());
        waiters.take().wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn slots_are_used_again() {
        let context = Context::from_waker(Waker::noop());
        let mut waiters = Waiters::default();
        for _ in 0..1000 {
            let mut key = WakerKey::default();
            waiters.enter(&mut key, &context);
            let _waker = waiters.leave(&mut key);
        }
        assert_eq!((waiters.len(), waiters.wakers.len()), (0, 1));
    }

    #[test]
    fn a_key_of_an_earlier_round_is_void() {
        let context = Context::from_waker(Waker::noop());
        let mut waiters = Waiters::default();
        let (mut old, mut new) = (WakerKey::default(), WakerKey::default());
        waiters.enter(&mut old, &context);
        waiters.take().wake();
        waiters.enter(&mut new, &context);
        assert!(waiters.leave(&mut old).is_none());
        assert_eq!(waiters.len(), 1);
    }
}
