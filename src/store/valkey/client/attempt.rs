//! The background task that dials.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::task::Poll;

use tokio::time::{Instant, sleep_until};

use super::link::{Fault, Link};
use super::supervisor::{Reserved, Supervisor};
use crate::store::BoxFuture;

/// The background task that dials. Dropped unfinished, it leaves the field to the next.
pub(crate) struct Attempt {
    pub(crate) supervisor: Weak<Supervisor>,
    pub(crate) number: u64,
}

impl Attempt {
    /// Holds the supervisor only between waits, so that dropping the store ends it.
    ///
    /// A dial that hangs does not hold up the next one: a server that was mute when the first
    /// began may never answer that one, and answers another at once.
    pub(crate) async fn run(self, persistence: Persistence) {
        let mut dials = Dials::default();
        loop {
            let next = match persistence {
                Persistence::Once if dials.begun => None,
                Persistence::Once | Persistence::UntilLinked => Some(match self.next_dial() {
                    Some(next) => next,
                    None => return,
                }),
            };
            let ended = tokio::select! {
                biased;
                ended = dials.ended(), if !dials.under_way.is_empty() => ended,
                () = until(next), if next.is_some() && dials.under_way.len() < MOST_AT_ONCE => {
                    let Some(supervisor) = self.supervisor.upgrade() else { return };
                    if supervisor.reserve_dial(&self) == Reserved::Yes {
                        dials.begin(supervisor.make_link());
                    }
                    continue;
                }
                else => return,
            };
            let Some(supervisor) = self.supervisor.upgrade() else {
                return;
            };
            match ended.and_then(|link| supervisor.linked(&self, link)) {
                Ok(()) => return,
                Err(fault) => supervisor.dial_failed(&self, fault),
            }
        }
    }

    fn next_dial(&self) -> Option<Instant> {
        self.supervisor.upgrade()?.next_dial(self)
    }
}

async fn until(instant: Option<Instant>) {
    if let Some(instant) = instant {
        sleep_until(instant).await;
    }
}

/// The dials under way, the oldest first.
#[derive(Default)]
struct Dials {
    begun: bool,
    under_way: Vec<Dial>,
}

type Dial = BoxFuture<'static, Result<Arc<Link>, Fault>>;

impl Dials {
    fn begin(&mut self, dial: impl Future<Output = Result<Arc<Link>, Fault>> + Send + 'static) {
        self.begun = true;
        self.under_way.push(Box::pin(dial));
    }

    /// What the first of them to end comes to.
    async fn ended(&mut self) -> Result<Arc<Link>, Fault> {
        std::future::poll_fn(|context| {
            let ended = self
                .under_way
                .iter_mut()
                .enumerate()
                .find_map(|(place, dial)| match dial.as_mut().poll(context) {
                    Poll::Ready(result) => Some((place, result)),
                    Poll::Pending => None,
                });
            match ended {
                Some((place, result)) => {
                    drop(self.under_way.swap_remove(place));
                    Poll::Ready(result)
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.upgrade() {
            supervisor.abandoned(self.number, std::thread::panicking());
        }
    }
}

/// When an attempt gives up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Once there is a connection.
    UntilLinked,
    /// After one dial.
    Once,
}

/// How many dials may hang at a time. With the longest time that a connection may take by
/// default, there are never more.
const MOST_AT_ONCE: usize = 4;
