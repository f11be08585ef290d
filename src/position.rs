pub use crate::store::LogPosition;
