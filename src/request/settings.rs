//! What every service of a layer shares.

use std::sync::Arc;

use http::request::Parts;

use crate::cache::Cache;
use crate::config::{Policy, RequestPredicate};

/// A cache, and the policy for a request.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cache: Cache,
    pub(crate) policy: Policy,
}

/// What every service of a layer shares: the settings, and those of some requests.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) default: Arc<Settings>,
    pub(crate) exceptions: Vec<(RequestPredicate, Arc<Settings>)>,
}

impl Choice {
    /// The settings for a request: those of the first predicate that holds.
    pub(crate) fn of(&self, request: &Parts) -> &Arc<Settings> {
        let holds = |(predicate, _): &&(RequestPredicate, _)| predicate.holds(request);
        let exception = self.exceptions.iter().find(holds);
        exception.map_or(&self.default, |(_, settings)| settings)
    }
}
