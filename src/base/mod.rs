//! What every room may use: time, locks, tasks, and bytes as they are stored.

pub(crate) mod clock;
pub(crate) mod decimal;
pub(crate) mod frames;
pub(crate) mod lines;
pub(crate) mod position;
pub(crate) mod random;
pub(crate) mod sync;
pub(crate) mod tags;
pub(crate) mod task;
