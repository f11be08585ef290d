//! A cluster of three real servers, with a replica of each if a test wants it.

use tokio::time::Instant;

use super::eventually;
use super::proxy::Proxy;
use super::valkey::{PATIENCE, Valkey, free_port};

/// The nodes of a cluster. Each of the first three has a third of the slots. If one of them fails,
/// the others go on. The replica of a node, if there is one, is three places behind it.
pub(crate) struct Nodes(pub(crate) Vec<Valkey>);

/// Whether a replica replaces a dead node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replicas {
    None,
    OneEach,
}

impl Nodes {
    pub(crate) fn start(replicas: Replicas) -> Self {
        Self::of(replicas, Valkey::reserve)
    }

    /// Starts nodes without replicas that require a password.
    pub(crate) fn start_with_password(password: &str) -> Self {
        Self::of(Replicas::None, || Valkey::reserve().with_password(password))
    }

    fn of(replicas: Replicas, node: impl Fn() -> Valkey) -> Self {
        let count = match replicas {
            Replicas::None => 3,
            Replicas::OneEach => 6,
        };
        let ports = (0..count)
            .map(|_| free_port().to_string())
            .collect::<Vec<_>>();
        let nodes = ports.iter().map(|port| {
            let mut node = node().with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                port,
                "--cluster-node-timeout",
                "1000",
                "--cluster-require-full-coverage",
                "no",
                "--repl-diskless-sync-delay",
                "0",
            ]);
            node.start_again();
            node
        });
        let nodes = Self(nodes.collect());
        let thirds = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (place, node) in nodes.0.iter().enumerate() {
            let epoch = (place + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
        }
        for (node, (first, last)) in nodes.0.iter().zip(thirds) {
            node.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for (node, port) in nodes.0.iter().zip(&ports).skip(1) {
            let own = node.port().to_string();
            nodes.0[0].command(&["CLUSTER", "MEET", "127.0.0.1", &own, port]);
        }
        nodes.until_whole();
        for place in 3..count {
            let id = nodes.id(place - 3);
            nodes.until("a replica", |nodes| {
                nodes.0[place].command(&["CLUSTER", "REPLICATE", &id]) == "OK"
            });
        }
        nodes.until_copied();
        nodes
    }

    /// Waits until every replica has all data of its master.
    pub(crate) fn until_copied(&self) {
        self.until("copies", |nodes| {
            let copies = |node: &Valkey| {
                let info = node.command(&["INFO", "replication"]);
                info.contains("master_link_status:up")
            };
            nodes.0.iter().skip(3).all(copies)
        });
    }

    /// Waits until the replica of the node at `place` has been elected in its place.
    pub(crate) async fn until_elected(&self, place: usize) {
        eventually("the election", PATIENCE, || async {
            self.0[place + 3].command(&["ROLE"]).starts_with("master")
        })
        .await;
    }

    /// Announces another port for a node to clients. The port leads to the node.
    pub(crate) fn announce(&self, place: usize, port: u16) {
        let port = port.to_string();
        self.0[place].command(&["CONFIG", "SET", "cluster-announce-port", &port]);
        self.until("the port", |nodes| {
            let told = |node: &Valkey| node.command(&["CLUSTER", "SLOTS"]).contains(&port);
            nodes.0.iter().all(told)
        });
    }

    /// Puts a proxy before each node, and announces it to clients.
    pub(crate) async fn behind_proxies(&self) -> Vec<Proxy> {
        let mut proxies = Vec::new();
        for (place, node) in self.0.iter().enumerate() {
            let proxy = Proxy::to(node.port()).await;
            self.announce(place, proxy.port());
            proxies.push(proxy);
        }
        proxies
    }

    fn until(&self, what: &str, check: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !check(self) {
            assert!(started.elapsed() < PATIENCE, "the cluster has not: {what}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits until every node knows all slots to be served.
    pub(crate) fn until_whole(&self) {
        let whole = |node: &Valkey| {
            let info = node.command(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
        };
        self.until("all slots", |nodes| nodes.0.iter().all(whole));
    }

    pub(crate) fn url(&self) -> String {
        let hosts = self
            .0
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        format!("valkey-cluster://{}", hosts.collect::<Vec<_>>().join(","))
    }

    /// The index of the node that has a key, and the key's slot.
    pub(crate) fn owner(&self, key: &str) -> (usize, String) {
        let slot = self.0[0].command(&["CLUSTER", "KEYSLOT", key]);
        let place = match slot.parse::<u16>().unwrap() {
            0..=5460 => 0,
            5461..=10922 => 1,
            _ => 2,
        };
        (place, slot)
    }

    /// Gives an empty slot to another node.
    pub(crate) fn give(&self, slot: &str, from: usize, to: usize) {
        // A node that was importing the slot takes a new epoch for it. Otherwise the next ping of
        // the other node may take the slot back.
        self.0[to].command(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &self.id(from)]);
        self.settle(slot, from, to);
    }

    /// Ends the move of a slot.
    pub(crate) fn settle(&self, slot: &str, from: usize, to: usize) {
        for place in [to, from] {
            self.0[place].command(&["CLUSTER", "SETSLOT", slot, "NODE", &self.id(to)]);
        }
    }

    pub(crate) fn id(&self, place: usize) -> String {
        self.0[place].command(&["CLUSTER", "MYID"])
    }
}
