//! Where to connect, and as whom: worked out anew for each connection, since a primary moves,
//! credentials rotate and certificates are renewed.

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisResult,
};
use tokio::time::timeout;

use super::ValkeySettings;
use super::command;
use super::link::{self, Fault};
use super::url::{Address, Login, Place, Transport};

/// What is dialled.
pub(super) struct Target {
    pub(super) client: Client,
    /// Where, if it had to be found out.
    pub(super) found_at: Option<Address>,
}

/// Finds out where to connect. With several addresses to ask, `turn` says where to begin.
pub(super) async fn target(settings: &ValkeySettings, turn: u64) -> Result<Target, Fault> {
    let login = match &settings.credentials {
        Some(provider) => provider.login(),
        None => settings.url.login.clone(),
    };
    let db = settings.url.db;
    let (endpoint, found_at) = match &settings.url.place {
        Place::Unix { path } => (ConnectionAddr::Unix(path.into()), None),
        Place::Server(transport, address) => (endpoint(*transport, address), None),
        Place::Sentinel { transport, .. } => {
            let primary = primary(settings, turn).await?;
            (endpoint(*transport, &primary), Some(primary))
        }
        // The nodes of a cluster are servers, each with settings of its own.
        Place::Cluster(..) => return Err(Fault::unreachable("a cluster is not one server")),
    };
    let client = client(settings, endpoint, &login, db, link::tcp_settings())?;
    Ok(Target { client, found_at })
}

/// Asks the Sentinels for the primary, one after the other.
///
/// The first that answers is believed: after a failover some may not know yet, and what they
/// name is then no primary any more, which its role tells.
pub(super) async fn primary(settings: &ValkeySettings, turn: u64) -> Result<Address, Fault> {
    let Place::Sentinel {
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
        let endpoint = endpoint(*transport, sentinel);
        let client = client(settings, endpoint, login, 0, link::tcp_settings())?;
        match timeout(each, ask(&client, primary)).await {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(error)) => fault = error,
            Err(_late) => fault = Fault::unreachable("no Sentinel answered in time"),
        }
    }
    Err(fault)
}

/// A cluster's node, asked once for all slots by `seed`.
pub(super) fn one_shot(
    settings: &ValkeySettings,
    transport: Transport,
    seed: &Address,
) -> Result<Client, Fault> {
    let login = match &settings.credentials {
        Some(provider) => provider.login(),
        None => settings.url.login.clone(),
    };
    let endpoint = endpoint(transport, seed);
    client(settings, endpoint, &login, 0, link::tcp_settings())
}

async fn ask(sentinel: &Client, primary: &str) -> Result<Address, Fault> {
    let failed = |error| Fault::from_redis(&error);
    let mut connection = sentinel
        .get_multiplexed_async_connection_with_config(&patient())
        .await
        .map_err(failed)?;
    let command = command::primary(primary);
    let reply = connection.send_packed_command(&command).await;
    let reply = reply
        .and_then(redis::Value::extract_error)
        .map_err(failed)?;
    command::address(&reply)
        .ok_or_else(|| Fault::unreachable("the Sentinels know no primary of that name"))
}

/// Every wait has a deadline of its own, given by the caller.
pub(super) fn patient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
}

fn endpoint(transport: Transport, address: &Address) -> ConnectionAddr {
    let Address { host, port } = address.clone();
    match transport {
        Transport::Plain => ConnectionAddr::Tcp(host, port),
        Transport::Tls => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    }
}

fn client(
    settings: &ValkeySettings,
    endpoint: ConnectionAddr,
    login: &Login,
    db: u32,
    tcp: TcpSettings,
) -> Result<Client, Fault> {
    let secure = matches!(endpoint, ConnectionAddr::TcpTls { .. });
    let info = info(endpoint, login, db).map_err(|error| Fault::from_redis(&error))?;
    let info = info.set_tcp_settings(tcp);
    match secure {
        true => secured(settings, info),
        false => Client::open(info).map_err(|error| Fault::from_redis(&error)),
    }
}

fn info(endpoint: ConnectionAddr, login: &Login, db: u32) -> RedisResult<ConnectionInfo> {
    let info = endpoint.into_connection_info()?;
    let mut redis = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .set_db(i64::from(db));
    let Login { user, password } = login;
    if let Some(user) = user {
        redis = redis.set_username(user);
    }
    if let Some(password) = password {
        redis = redis.set_password(password);
    }
    Ok(info.set_redis_settings(redis))
}

#[cfg(feature = "tls")]
fn secured(settings: &ValkeySettings, info: ConnectionInfo) -> Result<Client, Fault> {
    use redis::{ClientTlsConfig, TlsCertificates};
    use rustls::crypto::{CryptoProvider, ring};

    // The TLS library panics without one. Late, so that an application's own choice comes first.
    if CryptoProvider::get_default().is_none() {
        let _another_was_faster = ring::default_provider().install_default();
    }
    let files = &settings.url.files;
    let given = settings.tls.clone().unwrap_or_default();
    let root_cert = pem(given.ca, files.ca.as_deref())?;
    let client_cert = pem(given.certificate, files.cert.as_deref())?;
    let client_key = pem(given.key, files.key.as_deref())?;
    let client_tls = client_cert
        .zip(client_key)
        .map(|(client_cert, client_key)| ClientTlsConfig {
            client_cert,
            client_key,
        });
    let certificates = TlsCertificates {
        client_tls,
        root_cert,
    };
    Client::build_with_tls(info, certificates).map_err(|error| Fault::from_redis(&error))
}

/// A small file, read once for a connection.
#[cfg(feature = "tls")]
fn pem(given: Option<Vec<u8>>, path: Option<&str>) -> Result<Option<Vec<u8>>, Fault> {
    match (given, path) {
        (Some(pem), _) => Ok(Some(pem)),
        (None, None) => Ok(None),
        (None, Some(path)) => std::fs::read(path)
            .map(Some)
            .map_err(|error| Fault::unreachable(&format!("{path}: {error}"))),
    }
}

#[cfg(not(feature = "tls"))]
fn secured(_settings: &ValkeySettings, _info: ConnectionInfo) -> Result<Client, Fault> {
    Err(Fault::unreachable("TLS is not built in"))
}

/// How often the Sentinels are asked whether the primary is still the one in use.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(2);
