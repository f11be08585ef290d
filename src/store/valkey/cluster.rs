//! A cluster: which node has which key.
//!
//! Each node is a server like any other, with a connection, a supervisor and breakers of its
//! own, so that a dead one costs the hits of its keys and nothing else. The map of the slots is
//! asked for in the background: at first, when a node says that a slot has moved, and, about
//! twice a second, while one does not answer, since a replica may have taken its place.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::ValkeySettings;
use super::client::bounded::BoundedReads;
use super::client::connect::{self, Fault, dial_gap};
use super::client::{Failed, Guard, Manner, Node};
use super::command::{self, Redirect, SlotRange};
use super::url::{Address, Transport};
use crate::base::task;
use crate::error::StoreError;
use crate::store::{Health, StoreState};

/// The nodes, and which has what.
pub(super) struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    settings: ValkeySettings,
    transport: Transport,
    seeds: Vec<Address>,
    /// Of values on all nodes.
    care: Arc<BoundedReads>,
    map: Mutex<Map>,
    changed: Notify,
}

struct Map {
    /// Sorted, without overlap. Empty until the first answer.
    ranges: Vec<SlotRange>,
    /// Slots that were said to have moved since.
    moved: HashMap<u16, Address>,
    nodes: HashMap<Address, Arc<Node>>,
    discovery: Discovery,
    next_question: Instant,
    last_error: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Discovery {
    /// Never asked: whoever comes may wait for the answer.
    Never,
    /// For the first time; operations wait for the answer until then.
    Asking(Instant),
    Done,
    /// Nobody answered: operations fail at once, until somebody does.
    Failed,
}

impl Cluster {
    pub(super) fn new(
        settings: ValkeySettings,
        transport: Transport,
        seeds: Vec<Address>,
        care: Arc<BoundedReads>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                transport,
                seeds,
                care,
                map: Mutex::new(Map {
                    ranges: Vec::new(),
                    moved: HashMap::new(),
                    nodes: HashMap::new(),
                    discovery: Discovery::Never,
                    next_question: Instant::now(),
                    last_error: None,
                }),
                changed: Notify::new(),
            }),
        }
    }

    /// Runs a command about one key on the node that has it, following redirections.
    pub(super) async fn run<T>(
        &self,
        lane: Guard,
        key: &str,
        command: &Cmd,
        deadline: Instant,
        read: impl Fn(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let slot = slot(key.as_bytes());
        let mut node = self.owner(slot, deadline).await?;
        let mut manner = Manner::Plain;
        for _ in 0..MOST_REDIRECTIONS {
            let result = node.run(lane, manner, command, deadline, &read).await;
            let Failed { error, redirect } = match result {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let redirect = redirect.map(|redirect| redirect.seen_from(node.host()));
            (node, manner) = match redirect {
                Some(Redirect::Moved(address)) => {
                    let node = self.shared.moved(slot, address);
                    self.shared.ask();
                    (node, Manner::Plain)
                }
                Some(Redirect::Ask(address)) => (self.shared.node(&address), Manner::Asking),
                None => {
                    self.note(&error);
                    return Err(error);
                }
            };
        }
        Err(StoreError::Unavailable)
    }

    /// The node that has the slot of `key`. Waits for the very first map, and never for a later.
    pub(super) async fn node_of(
        &self,
        key: &str,
        deadline: Instant,
    ) -> Result<Arc<Node>, StoreError> {
        self.owner(slot(key.as_bytes()), deadline).await
    }

    /// Has the map asked for anew if an error may mean that it is outdated.
    pub(super) fn note(&self, error: &StoreError) {
        match error {
            StoreError::Unavailable
            | StoreError::TimedOut
            | StoreError::Suspended
            | StoreError::ReadOnly
            | StoreError::Server(_) => self.shared.ask(),
            StoreError::Busy
            | StoreError::Refused
            | StoreError::Full
            | StoreError::TooLong
            | StoreError::Protocol => {}
        }
    }

    /// The node that has the slot of `key`, if that is known.
    pub(super) fn known_node_of(&self, key: &str) -> Option<Arc<Node>> {
        self.shared.known_owner(slot(key.as_bytes()))
    }

    /// Of the node that has `key`; the counts are those of all nodes.
    pub(super) fn health(&self, key: &str) -> Health {
        let nodes = self.nodes();
        let own = self.known_node_of(key).map(|node| node.supervisor.health());
        let all = nodes.iter().map(|node| node.supervisor.health());
        let mut health = own.unwrap_or_else(|| self.shared.unknown());
        (health.dials, health.mismatches, health.suspensions) = (0, 0, 0);
        for one in all {
            health.dials += one.dials;
            health.mismatches += one.mismatches;
            health.suspensions += one.suspensions;
        }
        health
    }

    fn nodes(&self) -> Vec<Arc<Node>> {
        self.shared.map().nodes.values().cloned().collect()
    }

    async fn owner(&self, slot: u16, deadline: Instant) -> Result<Arc<Node>, StoreError> {
        if let Some(node) = self.shared.known_owner(slot) {
            return Ok(node);
        }
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable);
        }
        let mut changed = pin!(self.shared.changed.notified());
        changed.as_mut().enable();
        self.shared.ask();
        if let Some(until) = self.shared.waited_for() {
            timeout_at(deadline.min(until), changed)
                .await
                .map_err(|_late| StoreError::TimedOut)?;
        }
        self.shared.known_owner(slot).ok_or(StoreError::Unavailable)
    }
}

impl Shared {
    fn known_owner(self: &Arc<Self>, slot: u16) -> Option<Arc<Node>> {
        let address = {
            let map = self.map();
            match map.moved.get(&slot) {
                Some(address) => address.clone(),
                None => owner(&map.ranges, slot)?.clone(),
            }
        };
        Some(self.node(&address))
    }

    fn node(&self, address: &Address) -> Arc<Node> {
        let mut map = self.map();
        if let Some(node) = map.nodes.get(address) {
            return Arc::clone(node);
        }
        let mut settings = self.settings.clone();
        settings.url = settings.url.at(self.transport, address.clone());
        let node = Arc::new(Node::new(settings, Arc::clone(&self.care)));
        map.nodes.insert(address.clone(), Arc::clone(&node));
        node
    }

    fn moved(&self, slot: u16, address: Address) -> Arc<Node> {
        let node = self.node(&address);
        self.map().moved.insert(slot, address);
        node
    }

    /// Until when the first map is waited for, if it still is: seeds that stay silent would cost
    /// every operation its budget.
    fn waited_for(&self) -> Option<Instant> {
        match self.map().discovery {
            Discovery::Asking(until) if Instant::now() < until => Some(until),
            _ => None,
        }
    }

    /// Asks for the map in the background, not too often, and one at a time.
    fn ask(self: &Arc<Self>) {
        let before = {
            let mut map = self.map();
            let now = Instant::now();
            if now < map.next_question {
                return;
            }
            map.next_question = now + self.settings.connect_timeout + Duration::from_secs(1);
            let before = map.discovery;
            if before == Discovery::Never {
                map.discovery = Discovery::Asking(now + FIRST_MAP);
            }
            before
        };
        let question = Question {
            shared: Arc::clone(self),
            before,
            answer: Err(Fault::unreachable("the runtime ended")),
        };
        let _answered_as_failed_without_a_runtime = task::spawn(question.run());
    }

    /// All nodes that are known, by chance, but those first that there is a connection to: others may
    /// keep a question waiting.
    fn whom_to_ask(&self) -> Vec<Address> {
        let map = self.map();
        let is_new = |seed: &&Address| !map.nodes.contains_key(*seed);
        let seeds = self.seeds.iter().filter(is_new);
        let mut addresses: Vec<_> = map.nodes.keys().chain(seeds).cloned().collect();
        fastrand::shuffle(&mut addresses);
        let is_linked = |node: &Arc<Node>| node.supervisor.current().is_some();
        addresses.sort_by_cached_key(|address| !map.nodes.get(address).is_some_and(is_linked));
        addresses
    }

    fn unknown(&self) -> Health {
        let map = self.map();
        let state = match map.discovery {
            Discovery::Never => StoreState::Idle,
            Discovery::Asking(_) => StoreState::Connecting,
            Discovery::Done | Discovery::Failed => StoreState::Unreachable,
        };
        Health {
            last_error: map.last_error.clone(),
            ..Health::new(state, map.next_question.into_std())
        }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The map being asked for. Dropped unfinished, it has failed, and the next may ask.
struct Question {
    shared: Arc<Shared>,
    before: Discovery,
    answer: Result<Vec<SlotRange>, Fault>,
}

impl Question {
    async fn run(mut self) {
        let each = self.shared.settings.connect_timeout / 2;
        for address in self.shared.whom_to_ask() {
            self.answer = match timeout(each, self.ask(&address)).await {
                Ok(answer) => answer,
                Err(_late) => Err(Fault::unreachable("no node answered in time")),
            };
            if self.answer.is_ok() {
                return;
            }
        }
    }

    async fn ask(&self, address: &Address) -> Result<Vec<SlotRange>, Fault> {
        let failed = |error| Fault::from_redis(&error);
        let Shared {
            settings,
            transport,
            ..
        } = &*self.shared;
        let mut wire = connect::seed(settings, *transport, address).await?;
        let reply = wire.connection.send_packed_command(&command::slots()).await;
        let reply = reply.and_then(Value::extract_error).map_err(failed)?;
        command::slot_ranges(&reply, address)
            .filter(|ranges| !ranges.is_empty())
            .ok_or_else(|| Fault::unreachable("the cluster has no slots"))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let answer = std::mem::replace(&mut self.answer, Ok(Vec::new()));
        let mut gone = Vec::new();
        {
            let mut map = self.shared.map();
            map.next_question = Instant::now() + dial_gap();
            match answer {
                Ok(ranges) => {
                    let kept =
                        |address: &Address| ranges.iter().any(|range| range.owner == *address);
                    let left = map.nodes.keys().filter(|address| !kept(address));
                    for address in left.cloned().collect::<Vec<_>>() {
                        gone.extend(map.nodes.remove(&address));
                    }
                    map.ranges = ranges;
                    map.moved.clear();
                    map.discovery = Discovery::Done;
                }
                Err(fault) => {
                    if map.discovery != Discovery::Done {
                        map.discovery = Discovery::Failed;
                        let store = &self.shared.settings.url;
                        if self.before == Discovery::Never {
                            let error = &fault.words;
                            tracing::warn!(%store, error, "no node of the cluster answers");
                        }
                    }
                    map.last_error = Some(fault.words);
                }
            }
        }
        // Not under the lock: connections end with their nodes.
        drop(gone);
        self.shared.changed.notify_waiters();
    }
}

/// The node that has a slot, of ranges in order.
fn owner(ranges: &[SlotRange], slot: u16) -> Option<&Address> {
    let after = ranges.partition_point(|range| range.first <= slot);
    let range = ranges.get(after.checked_sub(1)?)?;
    (slot <= range.last).then_some(&range.owner)
}

/// The slot of a key: of the part between the first `{` and the next `}`, if there is one.
fn slot(key: &[u8]) -> u16 {
    let tag = key
        .iter()
        .position(|byte| *byte == b'{')
        .and_then(|open| key.get(open + 1..))
        .and_then(|rest| {
            let close = rest.iter().position(|byte| *byte == b'}')?;
            rest.get(..close)
        })
        .filter(|tag| !tag.is_empty());
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

const SLOTS: u16 = 16384;

/// How long the first map is waited for.
const FIRST_MAP: Duration = Duration::from_millis(500);

/// Moved, and then on its way: more than that in one operation is a cluster in turmoil.
const MOST_REDIRECTIONS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn every_slot_has_its_owner() {
        let node = |port| Address {
            host: "h".to_owned(),
            port,
        };
        let range = |first, last, port| SlotRange {
            first,
            last,
            owner: node(port),
        };
        let ranges = [range(0, 10, 1), range(11, 11, 2), range(20, 30, 3)];
        for (slot, port) in [(0, 1), (10, 1), (11, 2), (20, 3), (30, 3)] {
            assert_eq!(owner(&ranges, slot), Some(&node(port)));
        }
        for slot in [12, 19, 31] {
            assert_eq!(owner(&ranges, slot), None);
        }
        assert_eq!(owner(&[], 0), None);
    }
}
