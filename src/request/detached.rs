//! A response to come, which outlives its client while others need it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::base::task;
use crate::response::body::ResponseBody;

/// A response that is there already, or one to come.
pub(crate) enum Answer<R: Send + 'static, E: Send + 'static> {
    Ready(Response<ResponseBody<R>>),
    Pending(Detachable<R, E>),
}

/// A response to come. If it is dropped while its [`KeepAlive`] is set, it goes on as a task of
/// its own until the deadline.
pub(crate) struct Detachable<R: Send + 'static, E: Send + 'static> {
    future: Option<BoxFuture<R, E>>,
    keep_alive: KeepAlive,
    /// How long the future may go on after it was dropped.
    deadline: Duration,
    /// How many such futures may go on at a time after they were dropped.
    most: Option<Arc<Semaphore>>,
    /// Stays set if the future panics, which must not be polled again then.
    is_polling: bool,
}

type BoxFuture<R, E> = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<R>>, E>> + Send>>;

impl<R: Send + 'static, E: Send + 'static> Detachable<R, E> {
    pub(crate) fn new(future: BoxFuture<R, E>, keep_alive: KeepAlive, deadline: Duration) -> Self {
        Self {
            future: Some(future),
            keep_alive,
            deadline,
            most: None,
            is_polling: false,
        }
    }

    /// Bounds how many such futures go on after they were dropped. Others end there and then.
    pub(super) fn at_most(mut self, most: Arc<Semaphore>) -> Self {
        self.most = Some(most);
        self
    }
}

impl<R: Send + 'static, E: Send + 'static> Future for Detachable<R, E> {
    type Output = Result<Response<ResponseBody<R>>, E>;

    #[expect(
        clippy::panic,
        reason = "polling a finished future is the caller's error, as always"
    )]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.is_polling = true;
        if let KeepAlive::OncePolled(polled) = &mut self.keep_alive {
            *polled = true;
        }
        let Some(future) = &mut self.future else {
            panic!("ResponseFuture polled after completion");
        };
        let polled = future.as_mut().poll(context);
        self.is_polling = false;
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }
}

impl<R: Send + 'static, E: Send + 'static> Drop for Detachable<R, E> {
    fn drop(&mut self) {
        if self.is_polling || !self.keep_alive.is_set() {
            return;
        }
        let permit = self.most.take().map(Semaphore::try_acquire_owned);
        if let Some(Err(_too_many)) = &permit {
            return;
        }
        if let Some(future) = self.future.take() {
            let until = Instant::now() + self.deadline;
            // Without a runtime the future is dropped, as if nobody had waited for it.
            let _ = task::spawn(async move {
                if let Ok(Ok(response)) = timeout_at(until, future).await {
                    response.into_body().abandon(until);
                }
                drop(permit);
            });
        }
    }
}

/// Whether other requests need the response.
#[derive(Clone, Debug)]
pub(crate) enum KeepAlive {
    /// The answer is known from the start.
    Fixed(bool),
    /// The future sets the flag once other requests may wait.
    Flag(Arc<AtomicBool>),
    /// They do from the first poll on.
    OncePolled(bool),
}

impl KeepAlive {
    pub(crate) fn flag() -> Self {
        Self::Flag(Arc::default())
    }

    pub(crate) fn set(&mut self) {
        match self {
            Self::Fixed(is_set) | Self::OncePolled(is_set) => *is_set = true,
            Self::Flag(flag) => flag.store(true, Ordering::Release),
        }
    }

    fn is_set(&self) -> bool {
        match self {
            Self::Fixed(is_set) | Self::OncePolled(is_set) => *is_set,
            Self::Flag(flag) => flag.load(Ordering::Acquire),
        }
    }
}
