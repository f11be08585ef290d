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
//! A flight stands in the table until its leader is dropped. Requests do not join a flight that
//! began before the last purge, or whose deadline has passed: the next request replaces it with
//! another.

mod follower;
mod hit_for_miss;
mod leader;
pub(crate) mod lease;
mod state;
mod table;

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::key::Key;

pub(crate) use follower::Follower;
pub(crate) use hit_for_miss::{Credentials, Uncacheable};
pub(crate) use leader::Leader;
pub(crate) use state::{SharedHead, Stage};
pub(crate) use table::{Flights, Limits};

use leader::Purpose;
use table::Table;

/// A request that would join a flight or lead one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JoinRequest {
    pub(crate) credentials: Credentials,
    pub(crate) role: Role,
    /// The version of the purge index.
    pub(crate) version: u64,
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
    pub(crate) fn join_or_lead(self: &Arc<Self>, key: &Key, join_request: &JoinRequest) -> Joined {
        let JoinRequest {
            credentials,
            role,
            version,
            now,
        } = *join_request;
        if self.is_hit_for_miss(key, credentials, now) {
            return Joined::Alone;
        }
        let mut table = self.table(key);
        if let Some(flight) = self.joinable(&table, key, version, now) {
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

    /// Leads a flight for a background refresh, unless there is one already, or the key is
    /// uncacheable or backing off.
    pub(crate) fn lead_if_idle(
        self: &Arc<Self>,
        key: &Key,
        join_request: &JoinRequest,
    ) -> Option<Leader> {
        let JoinRequest {
            credentials,
            version,
            now,
            ..
        } = *join_request;
        if self.is_backing_off(key, now) || self.is_hit_for_miss(key, credentials, now) {
            return None;
        }
        let mut table = self.table(key);
        if self.joinable(&table, key, version, now).is_some() {
            return None;
        }
        self.lead(&mut table, key, join_request, Purpose::Refresh)
    }

    fn lead(
        self: &Arc<Self>,
        table: &mut Table,
        key: &Key,
        join_request: &JoinRequest,
        purpose: Purpose,
    ) -> Option<Leader> {
        let flight = self.begin(table, key, join_request.version, join_request.now)?;
        Some(Leader::new(Arc::clone(self), flight, purpose))
    }
}
