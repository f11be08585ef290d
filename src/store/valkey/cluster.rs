//! A cluster: which node has which key.
//!
//! Each node has a connection and breakers of its own, so that a dead node costs the hits of its
//! keys and nothing else. The map of the slots is fetched in the background: at first, when a
//! node says that a slot has moved, and about twice a second while a node does not answer, since
//! a replica may have taken its place.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::client::connect::{Connector, Fault, Target, dial_gap, without_timeouts};
use super::client::node::{Failed, Node, Operation};
use super::command::{self, Redirect, SlotRange};
use super::url::{Address, Transport};
use crate::base::task;
use crate::error::StoreError;
use crate::store::{Health, StoreState};

/// The nodes of a cluster, and which slots each has.
pub(super) struct Cluster {
    connector: Connector,
    transport: Transport,
    seeds: Vec<Address>,
    map: Mutex<Map>,
    /// Notified when the map was fetched, or could not be.
    changed: Notify,
}

struct Map {
    /// Sorted, without overlap. Empty until the map is fetched for the first time.
    ranges: Vec<SlotRange>,
    /// Slots that a node has said to have moved since the map was fetched.
    moved: HashMap<u16, Address>,
    nodes: BTreeMap<Address, Arc<Node>>,
    discovery: Discovery,
    next_fetch: Instant,
    last_error: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Discovery {
    /// The map was never fetched. Operations may wait for it.
    Never,
    /// The map is fetched for the first time. Operations wait for it until then.
    Asking(Instant),
    Done,
    /// No node answered. Operations fail at once, until one does.
    Failed,
}

impl Cluster {
    pub(super) fn new(
        connector: Connector,
        transport: Transport,
        seeds: Vec<Address>,
    ) -> Arc<Self> {
        Arc::new(Self {
            connector,
            transport,
            seeds,
            map: Mutex::new(Map {
                ranges: Vec::new(),
                moved: HashMap::new(),
                nodes: BTreeMap::new(),
                discovery: Discovery::Never,
                next_fetch: Instant::now(),
                last_error: None,
            }),
            changed: Notify::new(),
        })
    }

    /// Runs a command about one key on the node that has it, following redirections.
    pub(super) async fn run<T>(
        self: &Arc<Self>,
        key: &str,
        mut operation: Operation,
        read: impl Fn(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let slot = slot(key.as_bytes());
        let mut node = self.owner(slot, operation.deadline).await?;
        for _ in 0..MOST_REDIRECTIONS {
            let Failed { error, redirect } = match node.run(&operation, &read).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let redirect = redirect.map(|redirect| redirect.seen_from(node.host()));
            (node, operation.asking) = match redirect {
                Some(Redirect::Moved(address)) => {
                    let node = self.moved(slot, address);
                    self.fetch_map();
                    (node, false)
                }
                Some(Redirect::Ask(address)) => (self.node(&address), true),
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
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Arc<Node>, StoreError> {
        self.owner(slot(key.as_bytes()), deadline).await
    }

    /// Fetches the map again if an error may mean that it is outdated.
    pub(super) fn note(self: &Arc<Self>, error: &StoreError) {
        match error {
            StoreError::Unavailable
            | StoreError::TimedOut
            | StoreError::Suspended
            | StoreError::ReadOnly
            | StoreError::Server(_) => self.fetch_map(),
            StoreError::Busy
            | StoreError::Refused
            | StoreError::Full
            | StoreError::TooLong
            | StoreError::Protocol => {}
        }
    }

    /// The node that has the slot of `key`, if that is known.
    pub(super) fn known_node_of(&self, key: &str) -> Option<Arc<Node>> {
        self.known_owner(slot(key.as_bytes()))
    }

    /// The health of the node that has `key`, with the counts of all nodes.
    pub(super) fn health(&self, key: &str) -> Health {
        let own = self.known_node_of(key).map(|node| node.health());
        let mut health = own.unwrap_or_else(|| self.unknown());
        (health.dials, health.mismatches, health.suspensions) = (0, 0, 0);
        let nodes: Vec<_> = self.map().nodes.values().cloned().collect();
        for node in nodes {
            let Health {
                dials,
                mismatches,
                suspensions,
                ..
            } = node.health();
            health.dials += dials;
            health.mismatches += mismatches;
            health.suspensions += suspensions;
        }
        health
    }

    async fn owner(
        self: &Arc<Self>,
        slot: u16,
        deadline: Instant,
    ) -> Result<Arc<Node>, StoreError> {
        if let Some(node) = self.known_owner(slot) {
            return Ok(node);
        }
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable);
        }
        let mut changed = pin!(self.changed.notified());
        changed.as_mut().enable();
        self.fetch_map();
        if let Some(until) = self.waited_for() {
            timeout_at(deadline.min(until), changed)
                .await
                .map_err(|_late| StoreError::TimedOut)?;
        }
        self.known_owner(slot).ok_or(StoreError::Unavailable)
    }

    fn known_owner(&self, slot: u16) -> Option<Arc<Node>> {
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
        let node = Node::new(self.connector.at(self.transport, address.clone()));
        map.nodes.insert(address.clone(), Arc::clone(&node));
        node
    }

    fn moved(&self, slot: u16, address: Address) -> Arc<Node> {
        let node = self.node(&address);
        self.map().moved.insert(slot, address);
        node
    }

    /// Until when operations wait for the first map, if they still do: seeds that stay silent
    /// would cost every operation its budget.
    fn waited_for(&self) -> Option<Instant> {
        match self.map().discovery {
            Discovery::Asking(until) if Instant::now() < until => Some(until),
            _ => None,
        }
    }

    /// Fetches the map in the background, one fetch at a time, with a pause between two.
    fn fetch_map(self: &Arc<Self>) {
        let before = {
            let mut map = self.map();
            let now = Instant::now();
            if now < map.next_fetch {
                return;
            }
            let longest = self.connector.settings.connect_timeout + Duration::from_secs(1);
            map.next_fetch = now + longest;
            let before = map.discovery;
            if before == Discovery::Never {
                map.discovery = Discovery::Asking(now + FIRST_MAP);
            }
            before
        };
        let fetch = MapFetch {
            cluster: Arc::clone(self),
            before,
            answer: Err(Fault::unreachable("the runtime ended")),
        };
        // Without a runtime the fetch is dropped, and so has failed.
        let _ = task::spawn(fetch.run());
    }

    /// The addresses of all nodes and seeds, shuffled. Those that there is a connection to come
    /// first, because others may not answer.
    fn addresses_to_ask(&self) -> Vec<Address> {
        let map = self.map();
        let is_new = |seed: &&Address| !map.nodes.contains_key(*seed);
        let seeds = self.seeds.iter().filter(is_new);
        let mut addresses: Vec<_> = map.nodes.keys().chain(seeds).cloned().collect();
        fastrand::shuffle(&mut addresses);
        let is_linked = |node: &Arc<Node>| node.current().is_some();
        addresses.sort_by_cached_key(|address| !map.nodes.get(address).is_some_and(is_linked));
        addresses
    }

    /// The health while no node is known to have the key.
    fn unknown(&self) -> Health {
        let map = self.map();
        let state = match map.discovery {
            Discovery::Never => StoreState::Idle,
            Discovery::Asking(_) => StoreState::Connecting,
            Discovery::Done | Discovery::Failed => StoreState::Unreachable,
        };
        Health {
            last_error: map.last_error.clone(),
            ..Health::new(state, map.next_fetch.into_std())
        }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch of the map. If it is dropped before it ends, it has failed, and the next may begin.
struct MapFetch {
    cluster: Arc<Cluster>,
    before: Discovery,
    answer: Result<Vec<SlotRange>, Fault>,
}

impl MapFetch {
    async fn run(mut self) {
        let each = self.cluster.connector.settings.connect_timeout / 2;
        for address in self.cluster.addresses_to_ask() {
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
        let Cluster {
            connector,
            transport,
            ..
        } = &*self.cluster;
        let target = Target::server(*transport, address, &connector.login(), 0);
        let mut wire = connector.connect(&target, without_timeouts()).await?;
        let reply = wire.connection.send_packed_command(&command::slots()).await;
        let reply = reply
            .and_then(Value::extract_error)
            .map_err(|error| Fault::from_redis(&error))?;
        command::slot_ranges(&reply, address)
            .filter(|ranges| !ranges.is_empty())
            .ok_or_else(|| Fault::unreachable("the cluster has no slots"))
    }
}

impl Drop for MapFetch {
    fn drop(&mut self) {
        let answer = std::mem::replace(&mut self.answer, Ok(Vec::new()));
        let mut gone: Vec<Arc<Node>> = Vec::new();
        {
            let mut map = self.cluster.map();
            map.next_fetch = Instant::now() + dial_gap();
            match answer {
                Ok(ranges) => {
                    let is_owner =
                        |address: &Address| ranges.iter().any(|range| range.owner == *address);
                    map.nodes.retain(|address, node| {
                        let stays = is_owner(address);
                        if !stays {
                            gone.push(Arc::clone(node));
                        }
                        stays
                    });
                    map.ranges = ranges;
                    map.moved.clear();
                    map.discovery = Discovery::Done;
                }
                Err(fault) => {
                    if map.discovery != Discovery::Done {
                        map.discovery = Discovery::Failed;
                        let store = &self.cluster.connector.settings.url;
                        if self.before == Discovery::Never {
                            let error = &fault.words;
                            tracing::warn!(%store, error, "no node of the cluster answers");
                        }
                    }
                    map.last_error = Some(fault.words);
                }
            }
        }
        // Not under the lock: dropping a node ends its connection.
        drop(gone);
        self.cluster.changed.notify_waiters();
    }
}

/// The node that has a slot, in ranges that are sorted.
fn owner(ranges: &[SlotRange], slot: u16) -> Option<&Address> {
    let after = ranges.partition_point(|range| range.first <= slot);
    let range = ranges.get(after.checked_sub(1)?)?;
    (slot <= range.last).then_some(&range.owner)
}

/// The slot of a key, or of its part between the first `{` and the next `}`.
pub(super) fn slot(key: &[u8]) -> u16 {
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

/// How long operations wait for the first map.
const FIRST_MAP: Duration = Duration::from_millis(500);

/// A slot may have moved, and then be moving again. More redirections than that in one operation
/// mean that the cluster is not settled.
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
