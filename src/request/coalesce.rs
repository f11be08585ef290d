//! Many requests for the same thing, one call of the handler: which request makes it, and what
//! the others get of it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Response};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::base::clock::Timestamp;
use crate::entry::{Entry, Head};
use crate::flight::lease::{Lease, LeaseAnswer};
use crate::flight::{
    Credentials, Follower, JoinRequest, Joined, Leader, Role, SharedHead, Stage, Uncacheable,
};
use crate::key::{Key, KeyBuilder};
use crate::recording::Recording;
use crate::request::decision::Decision;
use crate::request::{Fallback, Miss};
use crate::response::body::{FollowerBody, ResponseBody};
use crate::semantics::MethodClass;
use crate::status::{Outcome, Reason};
use crate::store::Lookup;

/// What a request has come to.
pub(crate) enum Coordination<R> {
    Answered(Response<ResponseBody<R>>),
    /// It calls the handler, with others waiting or without.
    Fetch(Option<Leader>),
}

impl Miss {
    /// Finds out whether to fetch, and for whom; or gets the response from one who does.
    pub(crate) async fn coordinate<R>(&mut self, stale: &Fallback) -> Coordination<R> {
        let Some(role) = self.role(stale) else {
            return Coordination::Fetch(None);
        };
        let cache = self.cache().clone();
        let mut give_up = None;
        for _ in 0..MAX_FLIGHTS_JOINED {
            let join_request = self.join_request(role);
            let mut follower = match cache
                .flights()
                .join_or_lead(self.lookup.key(), &join_request)
            {
                Joined::Alone => break,
                Joined::Lead(leader) => return self.lead(leader, give_up).await,
                Joined::Follow(follower) => follower,
            };
            let give_up = *give_up.get_or_insert_with(|| self.patience());
            let waited = self.follow(&mut follower, stale, give_up).await;
            self.now = cache.now();
            match waited {
                Wait::Answered(response) => return Coordination::Answered(response),
                Wait::OnOwn => break,
                Wait::TooLong => return self.waited_too_long(stale),
                Wait::Again => {}
                Wait::AgainAs(variant) => self.lookup.variant = Some(variant),
            }
        }
        Coordination::Fetch(None)
    }

    /// As [`Miss::coordinate`], if nobody is to be waited for.
    pub(crate) fn take_turn<R>(&mut self, stale: &Fallback) -> Option<Coordination<R>> {
        let Some(role) = self.role(stale) else {
            return Some(Coordination::Fetch(None));
        };
        let join_request = self.join_request(role);
        match self
            .cache()
            .flights()
            .join_or_lead(self.lookup.key(), &join_request)
        {
            Joined::Alone => Some(Coordination::Fetch(None)),
            Joined::Lead(leader) => {
                let found = self.look_back();
                Some(self.led(leader, found))
            }
            Joined::Follow(_) => None,
        }
    }

    /// Whether the response to this request may be anybody else's too. A part, or a 304 to the
    /// client's own validator, is not; with a stored response those are asked for by the cache.
    fn role(&self, stale: &Fallback) -> Option<Role> {
        if self.facts.method != MethodClass::Get || self.facts.directives.no_store {
            return None;
        }
        let specific = self.facts.range || self.facts.conditional;
        match specific && stale.validated().is_none() {
            true => Some(Role::FollowerOnly),
            false => Some(Role::Any),
        }
    }

    pub(crate) fn join_request(&self, role: Role) -> JoinRequest {
        let cache = self.cache();
        JoinRequest {
            credentials: self.credentials(),
            role,
            version: cache.log().index().version(),
            now: self.now,
        }
    }

    /// When a request that begins to wait now waits no more.
    fn patience(&self) -> Instant {
        Instant::now() + self.cache().config().follower_wait
    }

    fn credentials(&self) -> Credentials {
        Credentials::of(&self.facts)
    }

    /// Fetches, unless another flight has landed between this request's look-up and its turn, or
    /// another instance is fetching and stores the response in time.
    async fn lead<R>(&mut self, mut leader: Leader, give_up: Option<Instant>) -> Coordination<R> {
        self.awaited.set();
        let mut found = self.look_back();
        if found.is_none() && self.cache().config().lease {
            let give_up = give_up.unwrap_or_else(|| self.patience());
            // In a box, since most flows have none.
            found = Box::pin(self.win_lease(&mut leader, give_up, &|_any| true)).await;
        }
        self.led(leader, found)
    }

    /// The leader's turn: it fetches, unless what is wanted has been found.
    fn led<R>(&self, leader: Leader, found: Option<(Arc<Entry>, Outcome)>) -> Coordination<R> {
        let Some((entry, outcome)) = found else {
            return Coordination::Fetch(Some(leader));
        };
        leader.land_stored(&entry, self.lookup.fields());
        Coordination::Answered(self.answer(&entry, outcome))
    }

    /// What memory has by now.
    fn look_back(&mut self) -> Option<(Arc<Entry>, Outcome)> {
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
        self.lookup = Lookup {
            traces: self.lookup.traces.take(),
            ..Lookup::new(&builder, found)
        };
        Some((entry, outcome))
    }

    /// What the shared store has by now, if it is what is wanted, and fresh.
    pub(crate) async fn look_again(
        &mut self,
        wanted: &(dyn Fn(&Entry) -> bool + Sync),
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
            Decision::Serve(outcome) if wanted(&entry) => Some((entry, outcome)),
            _ => None,
        }
    }

    /// Wins the lease for the leader, or finds what its holder has stored; neither if that takes
    /// too long, or there is no asking: then the leader goes on as if there were no leases.
    pub(crate) async fn win_lease(
        &mut self,
        leader: &mut Leader,
        give_up: Instant,
        wanted: &(dyn Fn(&Entry) -> bool + Sync),
    ) -> Option<(Arc<Entry>, Outcome)> {
        let mut pause = FIRST_POLL;
        let mut deadline = self.budget();
        loop {
            let answer = Lease::ask(self.cache(), leader.key(), deadline).await;
            let wait = match answer {
                LeaseAnswer::Unavailable => return None,
                LeaseAnswer::Held => true,
                LeaseAnswer::Granted(lease) => {
                    leader.hold(lease);
                    false
                }
            };
            // Whoever had it until now may have stored what is wanted.
            let found = self.look_again(wanted, deadline).await;
            if found.is_some() || !wait || Instant::now() >= give_up {
                return found;
            }
            let next = Instant::now() + pause.mul_f32(0.5 + fastrand::f32());
            sleep_until(next.min(give_up)).await;
            // Whoever waits for another instance has time to ask again.
            deadline = self.cache().deadline();
            pause = (pause * 2).min(LAST_POLL);
        }
    }

    async fn follow<R>(
        &self,
        follower: &mut Follower,
        stale: &Fallback,
        give_up: Instant,
    ) -> Wait<R> {
        let Ok(stage) = timeout_at(give_up, follower.wait()).await else {
            return Wait::TooLong;
        };
        match stage {
            Stage::Waiting | Stage::Failed => Wait::Again,
            Stage::Released(whom) => self.released(whom),
            Stage::Landed(entry, fields) => self.answer_landed(&entry, &fields, stale),
            Stage::Shared(shared, recording) => {
                let answer = self.answer_fill(&shared, recording, stale);
                match timeout_at(give_up, answer).await {
                    Ok(Some(answered)) => answered,
                    Ok(None) => self.fill_failed(&follower.stage()),
                    Err(_elapsed) => Wait::TooLong,
                }
            }
        }
    }

    /// The leader's response was not to be shared. Where that was for its credentials, others'
    /// responses may be.
    fn released<R>(&self, whom: Option<Uncacheable>) -> Wait<R> {
        match (whom, self.credentials()) {
            (Some(Uncacheable::ForCredentialed), Credentials::Anonymous) => Wait::Again,
            _ => Wait::OnOwn,
        }
    }

    /// The recording came to nothing before anything of it was served to this request.
    fn fill_failed<R>(&self, stage: &Stage) -> Wait<R> {
        match stage {
            Stage::Released(whom) => self.released(*whom),
            _ => Wait::Again,
        }
    }

    /// The answer from another's complete response, if it is this request's to have.
    fn answer_landed<R>(&self, entry: &Entry, fields: &[HeaderName], stale: &Fallback) -> Wait<R> {
        match self.collapsed(&entry.head, fields, stale) {
            Ok(outcome) => Wait::Answered(self.answer(entry, outcome)),
            Err(not) => not.into_wait(),
        }
    }

    /// As [`Miss::answer_landed`], of a response whose body is still coming. `None` if it fails.
    async fn answer_fill<R>(
        &self,
        shared: &SharedHead,
        recording: Arc<Recording>,
        stale: &Fallback,
    ) -> Option<Wait<R>> {
        let outcome = match self.collapsed(&shared.head, &shared.fields, stale) {
            Ok(outcome) => outcome,
            Err(not) => return Some(not.into_wait()),
        };
        let asked = self.asked();
        if asked.is_not_modified(&shared.head) {
            return Some(Wait::Answered(asked.not_modified(&shared.head, outcome)));
        }
        let response = match recording.declared() {
            Some(length) if !self.facts.range => {
                let body = FollowerBody::new(recording, length);
                asked.answer_growing(&shared.head, body, outcome)
            }
            _ => asked.answer(&shared.head, &recording.whole().await.ok()?, outcome),
        };
        Some(Wait::Answered(response))
    }

    /// Whether another's response may answer this request: of the same variant, not purged since,
    /// and fresh; or stale, where that stands in for a failure.
    fn collapsed(
        &self,
        head: &Head,
        fields: &[HeaderName],
        stale: &Fallback,
    ) -> Result<Outcome, NotMine> {
        let mine = if fields.is_empty() {
            self.lookup.base.clone()
        } else {
            self.lookup.base.variant(fields, &self.parts.headers)
        };
        if head.key != mine {
            return Err(NotMine::OtherVariant(mine));
        }
        let now = self.cache().now();
        match self.settings.judge(head, &self.facts, now) {
            Decision::Serve(_) => Ok(stale.outcome().collapsed()),
            Decision::Useless(_) => Err(NotMine::Outdated),
            Decision::ServeAndRefresh(_) | Decision::Revalidate(..) => {
                if self.may_stand_in(head, now) {
                    let ttl = head.lifetimes.remaining(now);
                    Ok(Outcome::stale(ttl, Reason::StaleIfError))
                } else {
                    Err(NotMine::Stale)
                }
            }
        }
    }

    pub(crate) fn may_stand_in(&self, head: &Head, now: Timestamp) -> bool {
        self.settings.may_stand_in(head, &self.facts, now)
    }

    /// RFC 5861 4 counts a handler that does not answer as one that fails.
    fn waited_too_long<R>(&self, stale: &Fallback) -> Coordination<R> {
        let now = self.cache().now();
        match stale.entry() {
            Some(entry) if self.may_stand_in(&entry.head, now) => {
                let ttl = entry.head.lifetimes.remaining(now);
                let outcome = Outcome::stale(ttl, Reason::StaleIfError);
                Coordination::Answered(self.answer(entry, outcome))
            }
            _ => Coordination::Fetch(None),
        }
    }
}

enum Wait<R> {
    Answered(Response<ResponseBody<R>>),
    /// The response was not this one's to have.
    OnOwn,
    /// The leader has not answered in time.
    TooLong,
    /// The leader failed, or its response was purged meanwhile: compete for its place.
    Again,
    /// The response varies: compete with those who want the same variant.
    AgainAs(Key),
}

/// Why another's response is not this request's.
enum NotMine {
    OtherVariant(Key),
    Outdated,
    Stale,
}

impl NotMine {
    fn into_wait<R>(self) -> Wait<R> {
        match self {
            Self::OtherVariant(mine) => Wait::AgainAs(mine),
            Self::Outdated => Wait::Again,
            Self::Stale => Wait::OnOwn,
        }
    }
}

/// A request whose leaders keep failing calls the handler itself.
const MAX_FLIGHTS_JOINED: usize = 3;

/// How long the first pause lasts while another instance fetches; each is twice as long.
const FIRST_POLL: Duration = Duration::from_millis(10);
const LAST_POLL: Duration = Duration::from_millis(200);
