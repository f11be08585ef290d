//! The client of one server.
//!
//! | file | holds |
//! |---|---|
//! | `node` | a server: runs commands on it, and keeps one good connection to it |
//! | `dialling` | the background task that dials, and what becomes of its dials |
//! | `state` | what a node knows of its connection |
//! | `guard`, `breaker` | which commands are let through |
//! | `link` | one connection, and whether its replies can be trusted |
//! | `sentinel` | which server is the primary |
//! | `connect` | how a connection is made: endpoint, login, faults |
//! | `bounded` | the stream that refuses replies which are too long |
//! | `stream`, `tls` | sockets |

mod bounded;
mod breaker;
pub(crate) mod connect;
mod dialling;
pub(crate) mod guard;
pub(crate) mod link;
pub(crate) mod node;
mod sentinel;
mod state;
mod stream;
#[cfg(feature = "tls")]
mod tls;
