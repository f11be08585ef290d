//! The commands that are sent, and how their replies and errors are read.

mod errors;
mod log;
mod nodes;
mod resp;
mod values;

pub(crate) use errors::{Remedy, classify, describe};
pub(crate) use log::{
    bounds, log_append, log_append_at, log_bounds, log_look, log_read, log_trim, position,
    presence, records, wait,
};
pub(crate) use nodes::{
    Redirect, SlotRange, address, asking, is_primary, primary, redirect, role, slot_ranges, slots,
};
pub(crate) use values::{
    count, get, get_bounded, lease, leased, okay, ping, pong, release, set, unlink, value,
};
