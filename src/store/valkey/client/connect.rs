//! Where to connect, and as whom: worked out anew for each connection, since a primary moves,
//! credentials rotate and certificates are renewed.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError};
use tokio::time::timeout;

use super::bounded::{Bounded, BoundedReads, ReadCounter};
use super::stream::{self, Endpoint};
use crate::base::task::{self, Owned};
use crate::error::StoreError;
use crate::store::StoreState;
use crate::store::valkey::ValkeySettings;
use crate::store::valkey::command;
use crate::store::valkey::url::{Address, Location, Login, Transport};

/// What is dialled.
pub(crate) struct Target {
    endpoint: Endpoint,
    info: RedisConnectionInfo,
    /// Where, if it had to be found out.
    pub(crate) found_at: Option<Address>,
}

/// A connection, and the task that drives it: that ends with this.
pub(crate) struct Wire {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) heard: Arc<ReadCounter>,
    _driver: Owned,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) state: StoreState,
    pub(crate) words: String,
}

impl Target {
    fn new(endpoint: Endpoint, login: &Login, db: u32) -> Self {
        Self {
            endpoint,
            info: info(login, db),
            found_at: None,
        }
    }

    /// Connects, and logs in.
    pub(crate) async fn connect(
        &self,
        settings: &ValkeySettings,
        config: AsyncConnectionConfig,
        care: Arc<BoundedReads>,
    ) -> Result<Wire, Fault> {
        let failed = |error| Fault::from_redis(&error);
        let stream = stream::open(settings, &self.endpoint).await;
        let stream = stream.map_err(|error| failed(RedisError::from(error)))?;
        // One byte more is asked for when it is to be told whether there is more.
        let longest = settings.longest_value.saturating_add(1);
        let stream = Bounded::new(stream, longest, care);
        let heard = stream.heard();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&self.info, stream, config)
                .await
                .map_err(failed)?;
        Ok(Wire {
            connection,
            heard,
            _driver: task::spawn_owned(driver),
        })
    }
}

/// Finds out where to connect. With several addresses to ask, `turn` says where to begin.
pub(crate) async fn target(settings: &ValkeySettings, turn: u64) -> Result<Target, Fault> {
    let login = login(settings);
    let db = settings.url.db;
    match &settings.url.place {
        Location::Unix { path } => Ok(Target::new(Endpoint::Unix(path.clone()), &login, db)),
        Location::Server(transport, address) => {
            Ok(Target::new(endpoint(*transport, address), &login, db))
        }
        Location::Sentinel { transport, .. } => {
            let primary = primary(settings, turn).await?;
            Ok(Target {
                found_at: Some(primary.clone()),
                ..Target::new(endpoint(*transport, &primary), &login, db)
            })
        }
        // The nodes of a cluster are servers, each with settings of its own.
        Location::Cluster(..) => Err(Fault::unreachable("a cluster is not one server")),
    }
}

/// Asks the Sentinels for the primary, one after the other.
///
/// The first that answers is believed: after a failover some may not know yet, and what they
/// name is then no primary any more, which its role tells.
pub(crate) async fn primary(settings: &ValkeySettings, turn: u64) -> Result<Address, Fault> {
    let Location::Sentinel {
        transport,
        sentinels,
        primary,
        login,
    } = &settings.url.place
    else {
        return Err(Fault::unreachable("there are no Sentinels"));
    };
    // So that there is time left for the server itself if all but the last are silent.
    let each = settings.connect_timeout / (sentinels.len() as u32).saturating_add(1);
    let mut fault = Fault::unreachable("no Sentinel is named");
    let first = usize::try_from(turn).unwrap_or_default() % sentinels.len().max(1);
    for sentinel in sentinels.iter().cycle().skip(first).take(sentinels.len()) {
        let target = Target::new(endpoint(*transport, sentinel), login, 0);
        match timeout(each, ask(settings, &target, primary)).await {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(error)) => fault = error,
            Err(_late) => fault = Fault::unreachable("no Sentinel answered in time"),
        }
    }
    Err(fault)
}

/// A cluster's node, asked once for all slots.
pub(crate) async fn seed(
    settings: &ValkeySettings,
    transport: Transport,
    address: &Address,
) -> Result<Wire, Fault> {
    let target = Target::new(endpoint(transport, address), &login(settings), 0);
    once(settings, &target).await
}

async fn ask(settings: &ValkeySettings, sentinel: &Target, name: &str) -> Result<Address, Fault> {
    let failed = |error| Fault::from_redis(&error);
    let mut wire = once(settings, sentinel).await?;
    let command = command::primary(name);
    let reply = wire.connection.send_packed_command(&command).await;
    let reply = reply
        .and_then(redis::Value::extract_error)
        .map_err(failed)?;
    command::address(&reply)
        .ok_or_else(|| Fault::unreachable("the Sentinels know no primary of that name"))
}

/// A connection for one question, of which no value is read.
async fn once(settings: &ValkeySettings, target: &Target) -> Result<Wire, Fault> {
    let unconcerned = Arc::new(BoundedReads::new());
    target.connect(settings, patient(), unconcerned).await
}

/// The pause between the beginnings of two dials. A server that is back is found within it,
/// even if the last dial still hangs.
pub(crate) fn dial_gap() -> Duration {
    Duration::from_millis(fastrand::u64(500..650))
}

fn login(settings: &ValkeySettings) -> Login {
    match &settings.credentials {
        Some(provider) => provider.login(),
        None => settings.url.login.clone(),
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

/// Every wait has a deadline of its own, given by the caller.
pub(crate) fn patient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
}

fn endpoint(transport: Transport, address: &Address) -> Endpoint {
    match transport {
        Transport::Plain => Endpoint::Tcp(address.clone()),
        Transport::Tls => Endpoint::Tls(address.clone()),
    }
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

/// How often the Sentinels are asked whether the primary is still the one in use.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(2);
