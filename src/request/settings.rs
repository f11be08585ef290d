//! What every service of a layer shares.

use crate::cache::Cache;
use crate::config::Policy;

/// What every service of a layer shares.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cache: Cache,
    pub(crate) policy: Policy,
}
