//! Fetching a stored response anew in the background.

use std::sync::Arc;

use http::Method;
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use crate::base::task;
use crate::entry::Entry;
use crate::flight::{Leader, Role};
use crate::request::fallback::Fallback;
use crate::request::fetch::Fetch;
use crate::request::handler::{Content, Handler, Inner};
use crate::request::miss::Miss;
use crate::semantics::MethodClass;

impl Miss {
    /// Fetches an entry anew in the background, unless another request does so already or the
    /// last fetch failed a moment ago.
    pub(super) fn refresh<S, B, R>(mut self: Box<Self>, inner: Inner<S, B>, entry: Arc<Entry>)
    where
        S: Handler<B, R>,
        B: Body + Send + 'static,
        R: Content,
    {
        if self.facts.directives.no_store {
            return;
        }
        // A HEAD finds the entry as stale as a GET does, and does not bring its content.
        self.parts.method = Method::GET;
        self.facts.method = MethodClass::Get;
        let join_request = self.join_request(Role::Any);
        let flights = self.cache().flights();
        let Some(mut leader) = flights.lead_if_idle(self.lookup.key(), &join_request) else {
            return;
        };
        let until = Instant::now() + self.cache().config().fill_deadline;
        let refresh = async move {
            if self.is_refreshed(&entry, &mut leader).await {
                return;
            }
            self.now = self.cache().now();
            let fallback = Fallback::Refreshing(entry);
            if let Ok(response) = Fetch::new(*self, fallback, Some(leader), inner).await {
                // The cache alone wants the response, whose body goes on being recorded.
                response.into_body().abandon(until);
            }
        };
        // Without a runtime, or after the deadline, the leader is dropped and the key backs off.
        let _ = task::spawn(async move {
            let _ = timeout_at(until, refresh).await;
        });
    }

    /// Whether another instance has refreshed the entry already. Then memory has its response.
    async fn is_refreshed(&mut self, entry: &Entry, leader: &mut Leader) -> bool {
        let give_up = Instant::now() + self.cache().config().follower_wait;
        let served = entry.head.lifetimes.stored;
        let is_newer = |found: &Entry| found.head.lifetimes.stored > served;
        // No client waits for this fetch, so the store may take its time once more.
        self.store_deadline = None;
        let deadline = self.store_deadline();
        let mut found = self.look_in_store_again(&is_newer, deadline).await;
        if found.is_none() && self.cache().config().lease {
            found = self.win_lease(leader, give_up, &is_newer).await;
        }
        if found.is_none() {
            return false;
        }
        if let Some(found) = &self.lookup.entry {
            leader.share_entry(Arc::clone(found), self.lookup.fields());
        }
        true
    }
}
