//! The policy, as tables.
