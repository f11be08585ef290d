//! Tasks that wait for one event.

use std::task::{Context, Waker};

/// The wakers of those who wait. Lives inside whatever lock guards the event.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    wakers: Vec<Waker>,
    /// Counts the times that all were woken, after which their places are void.
    round: u64,
}

/// One waiter's place, so that it is not entered twice.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<(u64, usize)>);

impl Waiters {
    /// Enters, or renews, a waiter.
    pub(crate) fn enter(&mut self, place: &mut Place, context: &Context<'_>) {
        match place.0 {
            Some((round, index)) if round == self.round => {
                if let Some(waker) = self.wakers.get_mut(index) {
                    waker.clone_from(context.waker());
                }
            }
            _ => {
                place.0 = Some((self.round, self.wakers.len()));
                self.wakers.push(context.waker().clone());
            }
        }
    }

    /// All who wait, to be woken once the lock is released.
    #[must_use]
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        self.round += 1;
        std::mem::take(&mut self.wakers)
    }
}

/// Wakes them all.
pub(crate) fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
