//! Dials in the background until there is a connection.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::fault::Fault;
use super::link::Link;
use crate::store::BoxFuture;

/// The background task that dials for `D`. Dropped unfinished, it leaves the field to the next.
pub(crate) struct Attempt<D: DialFor> {
    pub(crate) owner: Weak<D>,
    pub(crate) number: u64,
}

/// The owner of the connection: it decides when an attempt dials, and gets the result.
pub(crate) trait DialFor: Send + Sync + 'static {
    /// When the attempt of this number may dial; `None` if it is no longer wanted.
    fn next_dial(&self, number: u64) -> Option<Instant>;
    /// Takes the turn to dial now, unless another dial has it.
    fn reserve_dial(&self, number: u64) -> bool;
    /// Connects once. The future does not keep the owner alive.
    fn make_link(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<Arc<Link>, Fault>> + Send + 'static;
    /// Takes the connection into use.
    fn linked(self: &Arc<Self>, number: u64, link: Arc<Link>) -> Result<(), Fault>;
    /// Notes why a dial failed.
    fn dial_failed(&self, number: u64, fault: Fault);
    /// Notes that the attempt ended without a result: with its runtime, or by a panic.
    fn abandoned(&self, number: u64, panicked: bool);
}

impl<D: DialFor> Attempt<D> {
    /// Holds the owner only between waits, so that dropping the store ends the attempt.
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
                    let Some(owner) = self.owner.upgrade() else { return };
                    if owner.reserve_dial(self.number) {
                        dials.begin(owner.make_link());
                    }
                    continue;
                }
                else => return,
            };
            let Some(owner) = self.owner.upgrade() else {
                return;
            };
            match ended.and_then(|link| owner.linked(self.number, link)) {
                Ok(()) => return,
                Err(fault) => owner.dial_failed(self.number, fault),
            }
        }
    }

    fn next_dial(&self) -> Option<Instant> {
        self.owner.upgrade()?.next_dial(self.number)
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

    /// The result of the first dial that ends.
    async fn ended(&mut self) -> Result<Arc<Link>, Fault> {
        std::future::poll_fn(|context| {
            let ended = self
                .under_way
                .iter_mut()
                .enumerate()
                .find_map(|(index, dial)| match dial.as_mut().poll(context) {
                    Poll::Ready(result) => Some((index, result)),
                    Poll::Pending => None,
                });
            match ended {
                Some((index, result)) => {
                    drop(self.under_way.swap_remove(index));
                    Poll::Ready(result)
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl<D: DialFor> Drop for Attempt<D> {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.abandoned(self.number, std::thread::panicking());
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

/// The pause between the beginnings of two dials. A server that is back is found within it,
/// even if the last dial still hangs.
pub(crate) fn dial_gap() -> Duration {
    Duration::from_millis(fastrand::u64(500..650))
}

/// How many dials may hang at a time. With the longest time that a connection may take by
/// default, there are never more.
const MOST_AT_ONCE: usize = 4;
