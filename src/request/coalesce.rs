//! Many requests for the same thing, one call of the handler: which request makes the call, and
//! how the others get its response.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Response};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::entry::{Entry, Head};
use crate::flight::lease::{LeaseAnswer, LeaseStore};
use crate::flight::{Credentials, Follower, Joined, Leader, Role, SharedHead, Stage, Uncacheable};
use crate::key::{Key, KeyBuilder};
use crate::purge::Validity;
use crate::recording::Recording;
use crate::request::decision::{Decision, stale_if_error};
use crate::request::fallback::Fallback;
use crate::request::miss::Miss;
use crate::response::body::ResponseBody;
use crate::response::follower_body::FollowerBody;
use crate::semantics::MethodClass;
use crate::status::{Outcome, Reason};
use crate::store::Lookup;

/// What the requests for the same thing have agreed on for one of them.
pub(crate) enum Coordination<R> {
    Answered(Response<ResponseBody<R>>),
    /// The request calls the handler, and leaves all as it is.
    PassBy(Reason),
    /// The request calls the handler. With a leader, others may wait for its response.
    Fetch(Option<Leader>),
}

impl Miss {
    /// Finds out whether this request calls the handler, or gets its response from one that does.
    /// `joined` is its part in the first flight, if it has joined one already.
    pub(super) async fn coordinate<R>(
        &mut self,
        fallback: &Fallback,
        mut joined: Option<Joined>,
    ) -> Coordination<R> {
        let mut give_up = None;
        for _ in 0..MAX_FLIGHTS_JOINED {
            let joined = joined.take().unwrap_or_else(|| self.join(fallback));
            let mut follower = match joined {
                Joined::Alone => break,
                Joined::Lead(leader) => return self.lead(leader, give_up).await,
                Joined::Follow(follower) => follower,
            };
            let give_up = *give_up.get_or_insert_with(|| self.latest_wait());
            let result = self.follow(&mut follower, fallback, give_up).await;
            self.now = self.cache().now();
            match result {
                FollowResult::Answered(response) => return Coordination::Answered(response),
                FollowResult::PassBy(why) => return Coordination::PassBy(why),
                FollowResult::FetchAlone => break,
                FollowResult::TimedOut => return self.after_timeout(fallback),
                FollowResult::CompeteAgain => {}
                FollowResult::CompeteAs(variant) => self.lookup.variant = Some(variant),
            }
        }
        Coordination::Fetch(None)
    }

    /// Joins the flight for this request, or leads one, if others may share the response.
    pub(super) fn join(&self, fallback: &Fallback) -> Joined {
        let Some(role) = self.role(fallback) else {
            return Joined::Alone;
        };
        let flights = self.cache().flights();
        flights.join_or_lead(self.lookup.key(), &self.join_request(role))
    }

    /// The role that this request may take in a flight, if any. The handler's answer to a request
    /// for a part, or to one with the client's own validator, cannot be shared; if there is a
    /// stored response to validate, the cache asks with its own validator instead.
    fn role(&self, fallback: &Fallback) -> Option<Role> {
        if self.facts.method != MethodClass::Get || self.facts.directives.no_store {
            return None;
        }
        let is_specific = self.facts.range || self.facts.conditional;
        if is_specific && fallback.to_validate().is_none() {
            Some(Role::FollowerOnly)
        } else {
            Some(Role::Any)
        }
    }

    /// The time at which a request that begins to wait now stops waiting.
    fn latest_wait(&self) -> Instant {
        Instant::now() + self.cache().config().follower_wait
    }

    /// Lets the leader fetch, unless another flight has ended between this request's look-up and
    /// its lead, or another instance is fetching and stores the response in time.
    async fn lead<R>(&mut self, mut leader: Leader, give_up: Option<Instant>) -> Coordination<R> {
        self.keep_alive.set();
        let mut found = self.look_in_memory_again();
        if found.is_none() && self.cache().config().lease {
            let give_up = give_up.unwrap_or_else(|| self.latest_wait());
            // Boxed, since its state is large and most caches use no leases.
            found = Box::pin(self.win_lease(&mut leader, give_up, &|_any| true)).await;
        }
        match found {
            Some(found) => Coordination::Answered(self.finish(leader, found)),
            None => Coordination::Fetch(Some(leader)),
        }
    }

    /// Ends the flight with a stored entry, which answers this request and its followers.
    pub(super) fn finish<R>(
        &self,
        leader: Leader,
        (entry, outcome): (Arc<Entry>, Outcome),
    ) -> Response<ResponseBody<R>> {
        leader.finish(&entry, self.lookup.fields());
        self.answer(&entry, outcome)
    }

    /// The response that memory has by now, if it can be served.
    pub(super) fn look_in_memory_again(&mut self) -> Option<(Arc<Entry>, Outcome)> {
        let tiers = self.settings.cache.tiers();
        if !tiers.memory().contains(self.lookup.base.hash()) {
            return None;
        }
        let mut builder = KeyBuilder::of_key(&self.lookup.base);
        let found = tiers.look_in_memory(&mut builder, &self.parts.headers, self.now);
        let entry = found.entry.clone()?;
        let Decision::Serve(outcome) = self.judge(&entry.head) else {
            return None;
        };
        self.lookup = Lookup::new(&builder, found);
        Some((entry, outcome))
    }

    /// The response that the shared store has by now, if it is the wanted one and can be served.
    pub(super) async fn look_in_store_again(
        &mut self,
        is_wanted: &(dyn Fn(&Entry) -> bool + Sync),
        deadline: Instant,
    ) -> Option<(Arc<Entry>, Outcome)> {
        let cache = self.cache().clone();
        self.now = cache.now();
        cache
            .tiers()
            .look_in_store(&mut self.lookup, &self.parts.headers, self.now, deadline)
            .await;
        let entry = self.lookup.entry.clone()?;
        match self.judge(&entry.head) {
            Decision::Serve(outcome) if is_wanted(&entry) => {
                self.promote();
                Some((entry, outcome))
            }
            _ => None,
        }
    }

    /// Wins the lease for the leader, or finds the response that its holder has stored. If both
    /// take too long, or the store does not answer, the leader goes on as if there were no leases.
    pub(super) async fn win_lease(
        &mut self,
        leader: &mut Leader,
        give_up: Instant,
        is_wanted: &(dyn Fn(&Entry) -> bool + Sync),
    ) -> Option<(Arc<Entry>, Outcome)> {
        let mut pause = FIRST_PAUSE;
        let mut deadline = self.store_deadline();
        loop {
            let is_granted = match self.lease_store()?.ask(leader.key(), deadline).await {
                LeaseAnswer::Unavailable => return None,
                LeaseAnswer::Held => false,
                LeaseAnswer::Granted(lease) => {
                    leader.hold(lease);
                    true
                }
            };
            // The holder, or the one before this request, may have stored the response.
            let found = self.look_in_store_again(is_wanted, deadline).await;
            if found.is_some() || is_granted || Instant::now() >= give_up {
                return found;
            }
            let next = Instant::now() + pause.mul_f32(0.5 + fastrand::f32());
            sleep_until(next.min(give_up)).await;
            // The wait for another instance leaves time to ask again.
            deadline = self.cache().deadline();
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn lease_store(&self) -> Option<LeaseStore<'_>> {
        let config = self.cache().config();
        let store = self.cache().tiers().store().filter(|_| config.lease)?;
        Some(LeaseStore {
            store,
            prefix: &config.prefix,
            ttl: config.follower_wait,
            timeout: config.operation_timeout,
        })
    }

    async fn follow<R>(
        &self,
        follower: &mut Follower,
        fallback: &Fallback,
        give_up: Instant,
    ) -> FollowResult<R> {
        let Ok(stage) = timeout_at(give_up, follower.wait()).await else {
            return FollowResult::TimedOut;
        };
        match stage {
            Stage::Waiting | Stage::Failed => FollowResult::CompeteAgain,
            Stage::Released(whom) => self.after_release(whom),
            Stage::Complete(entry, fields) => {
                match self.share_outcome(&entry.head, &fields, follower, fallback) {
                    Ok(outcome) => FollowResult::Answered(self.answer(&entry, outcome)),
                    Err(result) => result,
                }
            }
            Stage::Recording(shared, recording) => {
                let SharedHead { head, fields } = shared;
                let outcome = match self.share_outcome(&head, &fields, follower, fallback) {
                    Ok(outcome) => outcome,
                    Err(result) => return result,
                };
                let answer = self.answer_from_recording(&head, recording, outcome);
                match timeout_at(give_up, answer).await {
                    Ok(Some(response)) => FollowResult::Answered(response),
                    Ok(None) => self.after_failed_recording(&follower.stage()),
                    Err(_elapsed) => FollowResult::TimedOut,
                }
            }
        }
    }

    /// The leader's response cannot be shared. If its credentials are the reason, the responses to
    /// requests without any may be.
    fn after_release<R>(&self, whom: Option<Uncacheable>) -> FollowResult<R> {
        match (whom, self.credentials()) {
            (Some(Uncacheable::ForCredentialed), Credentials::Anonymous) => {
                FollowResult::CompeteAgain
            }
            _ => FollowResult::FetchAlone,
        }
    }

    /// The recording failed before this request served anything of it.
    fn after_failed_recording<R>(&self, stage: &Stage) -> FollowResult<R> {
        match stage {
            Stage::Released(whom) => self.after_release(*whom),
            _ => FollowResult::CompeteAgain,
        }
    }

    /// The response from another request's recording. `None` if the recording fails.
    async fn answer_from_recording<R>(
        &self,
        head: &Head,
        recording: Arc<Recording>,
        outcome: Outcome,
    ) -> Option<Response<ResponseBody<R>>> {
        let builder = self.response_builder();
        if builder.is_not_modified(head) {
            return Some(builder.not_modified(head, outcome));
        }
        match recording.declared() {
            Some(length) if !self.facts.range => {
                let body = FollowerBody::new(recording, length);
                Some(builder.answer_growing(head, body, outcome))
            }
            _ => Some(builder.answer(head, &recording.whole().await.ok()?, outcome)),
        }
    }

    /// The outcome of serving another request's response to this one. It must be of the same
    /// variant, not purged since, and fresh, or stale where a stale response may replace a failed
    /// fetch. A response that was fetched after this request had arrived answers it whatever was
    /// purged since: the purge came while both were under way.
    #[expect(
        clippy::result_large_err,
        reason = "the error is handed on as the result, and never stored"
    )]
    fn share_outcome<R>(
        &self,
        head: &Head,
        fields: &[HeaderName],
        follower: &Follower,
        fallback: &Fallback,
    ) -> Result<Outcome, FollowResult<R>> {
        let own_key = if fields.is_empty() {
            self.lookup.base.clone()
        } else {
            self.lookup.base.variant(fields, &self.parts.headers)
        };
        if head.key != own_key {
            return Err(FollowResult::CompeteAs(own_key));
        }
        let now = self.cache().now();
        let validity = if follower.is_later_than(self.arrived) {
            Validity::Valid
        } else {
            self.cache().validity(head, now)
        };
        if validity == Validity::Purged {
            follower.refuse_as_purged();
        }
        match self.settings.judge_valid(head, &self.facts, now, validity) {
            Decision::Serve(_) => Ok(fallback.outcome().collapsed()),
            Decision::PassBy(why) => Err(FollowResult::PassBy(why)),
            Decision::Useless(_) => Err(FollowResult::CompeteAgain),
            Decision::ServeAndRefresh(_) | Decision::Revalidate(..)
                if self.may_serve_on_error(head, now) =>
            {
                Ok(stale_if_error(head, now))
            }
            Decision::ServeAndRefresh(_) | Decision::Revalidate(..) => {
                Err(FollowResult::FetchAlone)
            }
        }
    }

    /// RFC 5861 4 counts a handler that does not answer as one that fails.
    fn after_timeout<R>(&self, fallback: &Fallback) -> Coordination<R> {
        let now = self.cache().now();
        match fallback.entry() {
            Some(entry) if self.may_serve_on_error(&entry.head, now) => {
                Coordination::Answered(self.answer_on_error(entry, now))
            }
            _ => Coordination::Fetch(None),
        }
    }
}

/// How following another request's fetch ended.
enum FollowResult<R> {
    Answered(Response<ResponseBody<R>>),
    /// The response is stored for others, and this requester may not have it.
    PassBy(Reason),
    /// This request may not have the response, so it calls the handler.
    FetchAlone,
    /// The leader has not answered in time.
    TimedOut,
    /// The leader failed, or its response was purged meanwhile, so another leader is needed.
    CompeteAgain,
    /// The response varies, so this request competes with the requests for the same variant.
    CompeteAs(Key),
}

/// A request whose leaders keep failing calls the handler itself.
const MAX_FLIGHTS_JOINED: usize = 3;

/// The first pause while another instance fetches. Each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(200);
