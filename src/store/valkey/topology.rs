//! The nodes behind a URL: one server, or a cluster.

use std::sync::Arc;

use redis::Value;
use tokio::time::Instant;

use super::client::connect::Connector;
use super::client::node::{Node, Operation};
use super::cluster::Cluster;
use super::url::Location;
use crate::error::StoreError;
use crate::store::Health;

pub(crate) enum Topology {
    /// A server, or the primary that Sentinels name.
    One(Arc<Node>),
    Cluster(Arc<Cluster>),
}

impl Topology {
    pub(crate) fn new(connector: Connector) -> Self {
        match &connector.settings.url.location {
            Location::Cluster(transport, seeds) => {
                let (transport, seeds) = (*transport, seeds.clone());
                Self::Cluster(Cluster::new(connector, transport, seeds))
            }
            Location::Server(..) | Location::Unix { .. } | Location::Sentinel { .. } => {
                Self::One(Node::new(connector))
            }
        }
    }

    pub(crate) const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Runs a command about one key, on the node that has it.
    pub(crate) async fn run<T>(
        &self,
        key: &str,
        operation: Operation,
        read: impl Fn(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self {
            Self::One(node) => {
                let result = node.run(&operation, read).await;
                result.map_err(|failed| failed.error)
            }
            // Boxed because it is large, and a round trip costs more.
            Self::Cluster(cluster) => Box::pin(cluster.run(key, operation, read)).await,
        }
    }

    /// The node that has `key`. Waits for the very first map of a cluster.
    pub(crate) async fn node_of(
        &self,
        key: &str,
        deadline: Instant,
    ) -> Result<Arc<Node>, StoreError> {
        match self {
            Self::One(node) => Ok(Arc::clone(node)),
            Self::Cluster(cluster) => cluster.node_of(key, deadline).await,
        }
    }

    /// The node that has `key`, if it is known.
    pub(crate) fn known_node_of(&self, key: &str) -> Option<Arc<Node>> {
        match self {
            Self::One(node) => Some(Arc::clone(node)),
            Self::Cluster(cluster) => cluster.known_node_of(key),
        }
    }

    /// An operation that did not go by [`Topology::run`] failed, perhaps on the wrong node.
    pub(crate) fn note_failed(&self, error: &StoreError) {
        if let Self::Cluster(cluster) = self {
            cluster.note(error);
        }
    }

    /// A write succeeded, so the server takes writes. A cluster's replicas do not answer at all.
    pub(crate) fn note_writable(&self) {
        if let Self::One(node) = self {
            node.note_writable();
        }
    }

    /// Waits for a connection until `deadline`. A cluster's nodes are not waited for.
    pub(crate) async fn until_linked(&self, deadline: Instant) {
        if let Self::One(node) = self {
            node.until_linked(deadline).await;
        }
    }

    /// Whether every operation fails at once. In a cluster that depends on the key.
    pub(crate) fn is_down(&self) -> bool {
        match self {
            Self::One(node) => node.is_down(),
            Self::Cluster(_) => false,
        }
    }

    /// The health of the node that has `key`.
    pub(crate) fn health(&self, key: &str) -> Health {
        match self {
            Self::One(node) => node.health(),
            Self::Cluster(cluster) => cluster.health(key),
        }
    }
}
