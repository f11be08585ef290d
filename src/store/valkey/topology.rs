//! Where the keys are: on one server, or on the nodes of a cluster.

use std::sync::Arc;

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::client::node::{Guard, Node};
use super::cluster::Cluster;
use crate::error::StoreError;

/// Where the keys are.
pub(super) enum Topology {
    /// A server, or the primary that Sentinels name.
    One(Arc<Node>),
    Cluster(Cluster),
}

impl Topology {
    /// Runs a command about one key, wherever that key is.
    pub(super) async fn run<T>(
        &self,
        guard: Guard,
        key: &str,
        command: Cmd,
        deadline: Instant,
        read: impl Fn(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self {
            Self::One(node) => node
                .run(guard, false, &command, deadline, read)
                .await
                .map_err(|failed| failed.error),
            // Boxed because it is large, and a round trip costs more.
            Self::Cluster(cluster) => {
                Box::pin(cluster.run(guard, key, &command, deadline, read)).await
            }
        }
    }

    /// A write succeeded, so the server takes writes. A cluster's replicas do not answer at all.
    pub(super) fn note_writable(&self) {
        if let Self::One(node) = self {
            node.supervisor.note_writable();
        }
    }

    /// The node that has `key`, if it is known.
    pub(super) fn known_node_of(&self, key: &str) -> Option<Arc<Node>> {
        match self {
            Self::One(node) => Some(Arc::clone(node)),
            Self::Cluster(cluster) => cluster.known_node_of(key),
        }
    }

    /// The node that has `key`. Waits for the very first map of a cluster.
    pub(super) async fn node_of(
        &self,
        key: &str,
        deadline: Instant,
    ) -> Result<Arc<Node>, StoreError> {
        match self {
            Self::One(node) => Ok(Arc::clone(node)),
            Self::Cluster(cluster) => cluster.node_of(key, deadline).await,
        }
    }
}
