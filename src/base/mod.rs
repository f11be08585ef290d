//! Shared by all modules: time, locks, tasks, and the stored form of fields and tags.

pub(crate) mod clock;
pub(crate) mod decimal;
pub(crate) mod frames;
pub(crate) mod lines;
pub(crate) mod memo;
pub(crate) mod position;
pub(crate) mod random;
pub(crate) mod sync;
pub(crate) mod tags;
pub(crate) mod task;
