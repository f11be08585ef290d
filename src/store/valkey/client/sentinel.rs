//! Asks Sentinels which server is the primary.

use redis::Value;
use tokio::time::timeout;

use super::connect::{Connector, Fault, Target, without_timeouts};
use crate::store::valkey::command;
use crate::store::valkey::url::{Address, Location};

/// Asks the Sentinels for the primary, one after the other, beginning with the one at `first`.
///
/// The first answer is believed. After a failover some Sentinels still name the old primary; a
/// new connection to it is refused, because its role says that it is a replica.
pub(crate) async fn primary(connector: &Connector, first: u64) -> Result<Address, Fault> {
    let settings = &connector.settings;
    let Location::Sentinel {
        transport,
        sentinels,
        primary,
        login,
    } = &settings.url.location
    else {
        return Err(Fault::unreachable("there are no Sentinels"));
    };
    // If all Sentinels but the last are silent, time is left for the server itself.
    let each = settings.connect_timeout / (sentinels.len() as u32).saturating_add(1);
    let mut fault = Fault::unreachable("no Sentinel is named");
    let first = usize::try_from(first).unwrap_or_default() % sentinels.len().max(1);
    for sentinel in sentinels.iter().cycle().skip(first).take(sentinels.len()) {
        let target = Target::server(*transport, sentinel, login, 0);
        match timeout(each, ask(connector, &target, primary)).await {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(error)) => fault = error,
            Err(_late) => fault = Fault::unreachable("no Sentinel answered in time"),
        }
    }
    Err(fault)
}

async fn ask(connector: &Connector, sentinel: &Target, name: &str) -> Result<Address, Fault> {
    let mut wire = connector.connect(sentinel, without_timeouts()).await?;
    let command = command::primary(name);
    let reply = wire.connection.send_packed_command(&command).await;
    let reply = reply
        .and_then(Value::extract_error)
        .map_err(|error| Fault::from_redis(&error))?;
    command::address(&reply)
        .ok_or_else(|| Fault::unreachable("the Sentinels know no primary of that name"))
}
