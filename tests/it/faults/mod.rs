//! A store that dies, stalls and falsifies. Clients notice latency only, and no more than the
//! operation timeout.

pub(crate) mod oracle;
pub(crate) mod report;
pub(crate) mod rig;
pub(crate) mod scenarios;
