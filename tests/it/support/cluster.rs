//! Three real servers that are one cluster, without replicas.

use std::net::TcpListener;

use tokio::time::Instant;

use super::valkey::{PATIENCE, Valkey};

/// Each node has a third of the slots; without one of them the others go on.
pub(crate) struct Nodes(pub(crate) Vec<Valkey>);

impl Nodes {
    pub(crate) fn start() -> Self {
        let ports = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect::<Vec<_>>();
        let ports = ports
            .into_iter()
            .map(|listener| listener.local_addr().unwrap().port().to_string())
            .collect::<Vec<_>>();
        let nodes = ports.iter().map(|port| {
            let mut node = Valkey::reserve().with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                port,
                "--cluster-node-timeout",
                "1000",
                "--cluster-require-full-coverage",
                "no",
            ]);
            node.start_again();
            node
        });
        let nodes = Self(nodes.collect());
        let thirds = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (place, (node, (first, last))) in nodes.0.iter().zip(thirds).enumerate() {
            let epoch = (place + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            node.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for (node, port) in nodes.0.iter().zip(&ports).skip(1) {
            let own = node.port().to_string();
            nodes.0[0].command(&["CLUSTER", "MEET", "127.0.0.1", &own, port]);
        }
        nodes.until_whole();
        nodes
    }

    /// Waits until every node knows all slots to be served.
    pub(crate) fn until_whole(&self) {
        let started = Instant::now();
        let whole = |node: &Valkey| {
            let info = node.command(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
        };
        while !self.0.iter().all(whole) {
            assert!(started.elapsed() < PATIENCE, "the cluster is not whole");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    pub(crate) fn url(&self) -> String {
        let hosts = self
            .0
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        format!("valkey-cluster://{}", hosts.collect::<Vec<_>>().join(","))
    }

    /// The place of the node that has a key, and the key's slot.
    pub(crate) fn owner(&self, key: &str) -> (usize, String) {
        let slot = self.0[0].command(&["CLUSTER", "KEYSLOT", key]);
        let place = match slot.parse::<u16>().unwrap() {
            0..=5460 => 0,
            5461..=10922 => 1,
            _ => 2,
        };
        (place, slot)
    }

    pub(crate) fn id(&self, place: usize) -> String {
        self.0[place].command(&["CLUSTER", "MYID"])
    }
}
