//! The parts that all measurements share: the apps, the requests, and the rounds.
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml                   # every table
//! cargo bench --manifest-path bench/Cargo.toml --bench peers     # one of them
//! ```

pub mod apps;
pub mod ask;
#[cfg(feature = "peers")]
pub mod peers;
pub mod rounds;
