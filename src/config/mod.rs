//! The settings of a cache, and the policy of a layer.
//!
//! `settings` holds the table of a cache's settings. `env` and `serde` go over that table, so a
//! setting's name, default, bounds, documentation and variable stand in its row and nowhere else.

mod bounds;
mod bypass;
mod credential_settings;
mod credentials;
mod env;
mod from_text;
mod policy;
#[cfg(feature = "serde")]
mod serde;
mod settings;
mod table;

pub use bypass::CacheBypass;
pub(crate) use policy::RequestPredicate;
pub use policy::{Policy, PolicyBuilder};
pub use settings::{CacheConfig, CacheConfigBuilder};

#[cfg(test)]
mod tests;
