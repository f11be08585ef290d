//! Connections to a server: where to, as whom, and why there is none.
//!
//! All of this is worked out anew for each connection, since a primary moves, credentials rotate
//! and certificates are renewed.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError};

use super::bounded::{Bounded, BoundedReads, ReadCounter};
use super::stream::{self, Endpoint};
use crate::base::task::{self, Owned};
use crate::error::StoreError;
use crate::store::StoreState;
use crate::store::valkey::command;
use crate::store::valkey::settings::ValkeySettings;
use crate::store::valkey::url::{Address, Login, Transport};

/// Makes the connections of a store.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) settings: ValkeySettings,
    /// One for all nodes of a cluster: the next long value may be on another node.
    pub(crate) bounded_reads: Arc<BoundedReads>,
}

/// A server, and how to log in to it.
pub(crate) struct Target {
    endpoint: Endpoint,
    info: RedisConnectionInfo,
    /// The address that Sentinels have named.
    pub(crate) found_at: Option<Address>,
}

/// A connection, and the task that drives it. Dropping this ends that task.
pub(crate) struct Wire {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) read_counter: Arc<ReadCounter>,
    _driver: Owned,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) state: StoreState,
    pub(crate) words: String,
}

impl Connector {
    pub(crate) fn new(settings: ValkeySettings) -> Self {
        Self {
            settings,
            bounded_reads: Arc::new(BoundedReads::new()),
        }
    }

    /// The connector for one node of a cluster.
    pub(crate) fn at(&self, transport: Transport, address: Address) -> Self {
        let mut settings = self.settings.clone();
        settings.url = settings.url.at(transport, address);
        Self {
            settings,
            bounded_reads: Arc::clone(&self.bounded_reads),
        }
    }

    /// The user and the password for the next connection.
    pub(crate) fn login(&self) -> Login {
        match &self.settings.credentials {
            Some(provider) => provider.login(),
            None => self.settings.url.login.clone(),
        }
    }

    /// Connects, and logs in.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        config: AsyncConnectionConfig,
    ) -> Result<Wire, Fault> {
        let failed = |error| Fault::from_redis(&error);
        let stream = stream::open(&self.settings, &target.endpoint).await;
        let stream = stream.map_err(|error| failed(RedisError::from(error)))?;
        // A bounded read asks for one byte more than the longest value, to notice a longer one.
        let longest = self.settings.longest_value.saturating_add(1);
        let stream = Bounded::new(stream, longest, Arc::clone(&self.bounded_reads));
        let read_counter = stream.read_counter();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&target.info, stream, config)
                .await
                .map_err(failed)?;
        Ok(Wire {
            connection,
            read_counter,
            _driver: task::spawn_owned(driver),
        })
    }
}

impl Target {
    pub(crate) fn server(transport: Transport, address: &Address, login: &Login, db: u32) -> Self {
        let endpoint = match transport {
            Transport::Plain => Endpoint::Tcp(address.clone()),
            Transport::Tls => Endpoint::Tls(address.clone()),
        };
        Self::new(endpoint, login, db)
    }

    pub(crate) fn unix(path: &str, login: &Login, db: u32) -> Self {
        Self::new(Endpoint::Unix(path.to_owned()), login, db)
    }

    fn new(endpoint: Endpoint, login: &Login, db: u32) -> Self {
        Self {
            endpoint,
            info: info(login, db),
            found_at: None,
        }
    }
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

    /// The error of an operation that needed the connection.
    pub(crate) fn error(&self) -> StoreError {
        match self.state {
            StoreState::Refused => StoreError::Refused,
            _ => StoreError::Unavailable,
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

/// A configuration without the library's own timeouts: each caller waits with its deadline.
pub(crate) fn without_timeouts() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
}

/// The pause between the beginnings of two dials. A server that is back is found within it,
/// even if the last dial still hangs.
pub(crate) fn dial_gap() -> Duration {
    Duration::from_millis(fastrand::u64(500..650))
}

fn info(login: &Login, db: u32) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .set_db(i64::from(db));
    let Login { user, password } = login;
    if let Some(user) = user {
        info = info.set_username(user);
    }
    if let Some(password) = password {
        info = info.set_password(password);
    }
    info
}
