//! One leader per key: many requests for the same thing, one call of the handler.
//!
//! ```text
//! join_or_lead ─┬─ Lead ─── share_recording ── finish ──► Complete   followers read the recording
//!               │     ├──── release ────────────────────► Released   followers call the handler
//!               │     └──── dropped ────────────────────► Failed     followers compete again
//!               ├─ Follow ─ wait
//!               └─ Alone    uncacheable, or too many
//! ```
//!
//! A flight stands in the table until its leader is dropped. Requests do not join a flight whose
//! deadline has passed, nor, if they arrive after it began, one that a purge of its URL has outdated
//! since: the next request replaces it with another.

mod follower;
mod hit_for_miss;
mod leader;
pub(crate) mod lease;
mod state;
mod table;

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::key::Key;
use crate::purge::PurgeIndex;

pub(crate) use follower::Follower;
pub(crate) use hit_for_miss::{Credentials, Uncacheable};
pub(crate) use leader::Leader;
pub(crate) use state::{SharedHead, Stage};
pub(crate) use table::{Flights, Limits};

use leader::Purpose;
use state::Flight;
use table::Table;

/// A request that would join a flight or lead one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JoinRequest<'a> {
    pub(crate) credentials: Credentials,
    pub(crate) role: Role,
    pub(crate) purges: &'a PurgeIndex,
    /// The number of flights that had begun when the request arrived.
    pub(crate) arrived: u64,
    pub(crate) now: Timestamp,
}

/// The parts that a request may take in a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Any,
    /// The request asks for a part, or for a 304 to its own validator. The handler's answer to it
    /// is nobody else's, but it can be answered from the response to another request.
    FollowerOnly,
}

/// The part that a request takes.
#[derive(Debug)]
pub(crate) enum Joined {
    Lead(Leader),
    Follow(Follower),
    /// The request calls the handler, and no other waits for it.
    Alone,
}

impl Flights {
    /// Joins the flight for `key`, or begins one.
    pub(crate) fn join_or_lead(
        self: &Arc<Self>,
        key: &Key,
        join_request: &JoinRequest<'_>,
    ) -> Joined {
        let JoinRequest {
            credentials,
            role,
            now,
            ..
        } = *join_request;
        if self.is_hit_for_miss(key, credentials, now) {
            return Joined::Alone;
        }
        let mut table = self.table(key);
        if let Some(flight) = self.joinable(&table, key, join_request) {
            if flight.key != *key {
                return Joined::Alone;
            }
            return Follower::join(flight, self.limits.followers)
                .map_or(Joined::Alone, Joined::Follow);
        }
        if role == Role::FollowerOnly {
            return Joined::Alone;
        }
        self.lead(&mut table, key, join_request, Purpose::Request)
            .map_or(Joined::Alone, Joined::Lead)
    }

    /// Leads a flight for a background refresh, unless there is one already, or the key is backing
    /// off. Nobody waits for it, so it does not matter whether the key is uncacheable.
    pub(crate) fn lead_if_idle(
        self: &Arc<Self>,
        key: &Key,
        join_request: &JoinRequest<'_>,
    ) -> Option<Leader> {
        if self.is_backing_off(key, join_request.now) {
            return None;
        }
        let mut table = self.table(key);
        if self.joinable(&table, key, join_request).is_some() {
            return None;
        }
        self.lead(&mut table, key, join_request, Purpose::Refresh)
    }

    /// The flight that stands for `key`. It is not joined if its deadline has passed, or if a purge
    /// has outdated it and it began before the request arrived. The flight may be another key's if
    /// their hashes collide.
    fn joinable<'a>(
        &self,
        table: &'a Table,
        key: &Key,
        join_request: &JoinRequest<'_>,
    ) -> Option<&'a Arc<Flight>> {
        let JoinRequest {
            purges,
            arrived,
            now,
            ..
        } = *join_request;
        let flight = table.get(&key.hash())?;
        let is_current = flight.number > arrived || !flight.is_outdated(purges);
        let in_time = now.since(flight.began) < self.limits.deadline;
        (is_current && in_time).then_some(flight)
    }

    fn lead(
        self: &Arc<Self>,
        table: &mut Table,
        key: &Key,
        join_request: &JoinRequest<'_>,
        purpose: Purpose,
    ) -> Option<Leader> {
        let JoinRequest { purges, now, .. } = join_request;
        let flight = self.begin(table, key, purges.moment(), *now)?;
        Some(Leader::new(Arc::clone(self), flight, purpose))
    }
}
