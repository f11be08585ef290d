//! What clients get: responses made of stored ones, and the bodies that carry them.

pub(crate) mod body;
pub(crate) mod error;
pub(crate) mod follower_body;
pub(crate) mod from_entry;
pub(crate) mod leader_body;
pub(crate) mod passed;
