//! The client of one server: a connection that is kept good, and breakers before it.

pub(crate) mod bounded;
pub(crate) mod breaker;
pub(crate) mod connect;
pub(crate) mod dialling;
pub(crate) mod fault;
pub(crate) mod link;
pub(crate) mod node;
pub(crate) mod state;
pub(crate) mod stream;
pub(crate) mod supervisor;
#[cfg(feature = "tls")]
pub(crate) mod tls;
