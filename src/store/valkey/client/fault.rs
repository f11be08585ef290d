//! Why a connection or an operation failed.

use redis::RedisError;

use crate::error::StoreError;
use crate::store::StoreState;
use crate::store::valkey::command::{self, Redirect};

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) state: StoreState,
    pub(crate) words: String,
}

impl Fault {
    pub(crate) fn from_redis(error: &RedisError) -> Self {
        let (kind, _remedy) = command::classify(error);
        Self {
            words: command::describe(error),
            ..Self::from(&kind)
        }
    }

    pub(crate) fn unreachable(words: &str) -> Self {
        Self {
            state: StoreState::Unreachable,
            words: words.to_owned(),
        }
    }
}

impl From<&StoreError> for Fault {
    fn from(error: &StoreError) -> Self {
        let state = match error {
            StoreError::Refused => StoreState::Refused,
            StoreError::Server(code)
                if matches!(code.as_str(), "LOADING" | "MASTERDOWN" | "BUSY") =>
            {
                StoreState::Loading
            }
            _ => StoreState::Unreachable,
        };
        Self {
            state,
            words: error.to_string(),
        }
    }
}

/// A failed operation; in a cluster it may be for another node.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: StoreError,
    pub(crate) redirect: Option<Redirect>,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            redirect: None,
        }
    }
}
