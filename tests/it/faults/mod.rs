//! A store that dies, stalls and lies: nothing of it reaches a client but latency, and of that
//! no more than the budget.

pub(crate) mod oracle;
pub(crate) mod report;
pub(crate) mod rig;
pub(crate) mod scenarios;
