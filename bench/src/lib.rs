//! What the measurements share: the apps, what is asked of them, and how rounds are taken.
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
