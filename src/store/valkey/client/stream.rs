//! Streams to a server: TCP, TLS over it, or a Unix socket.

use std::io;
use std::time::Duration;

use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

use crate::store::valkey::settings::ValkeySettings;
use crate::store::valkey::url::Address;

/// The socket on which a server listens.
pub(crate) enum Endpoint {
    Tcp(Address),
    Tls(Address),
    Unix(String),
}

/// A stream of bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects. Reads certificates each time, since they may have been renewed.
pub(crate) async fn open(
    settings: &ValkeySettings,
    endpoint: &Endpoint,
) -> io::Result<Box<dyn Stream>> {
    match endpoint {
        Endpoint::Tcp(address) => Ok(Box::new(tcp(address).await?)),
        #[cfg(feature = "tls")]
        Endpoint::Tls(address) => {
            let connector = super::tls::connector(settings)?;
            let stream = tcp(address).await?;
            Ok(Box::new(
                super::tls::connect(connector, address, stream).await?,
            ))
        }
        #[cfg(not(feature = "tls"))]
        Endpoint::Tls(address) => {
            let url = &settings.url;
            let error = format!("TLS to {address} is not built in, for {url}");
            Err(io::Error::other(error))
        }
        #[cfg(unix)]
        Endpoint::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Endpoint::Unix(_) => Err(io::Error::other("there are no Unix sockets here")),
    }
}

/// Connects to all addresses of a name, and keeps the first that answers: others may never answer.
async fn tcp(address: &Address) -> io::Result<TcpStream> {
    let Address { host, port } = address;
    let mut attempts = JoinSet::new();
    for address in lookup_host((host.as_str(), *port)).await? {
        attempts.spawn(TcpStream::connect(address));
    }
    let mut last = io::Error::other("the name has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(stream)) => return tuned(stream),
            Ok(Err(error)) => last = error,
            Err(_runtime_ended) => {}
        }
    }
    Err(last)
}

/// Turns Nagle's algorithm off, and lets the kernel detect a silent peer.
fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL);
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}

/// How long a connection may be idle before the kernel probes the peer.
const KEEPALIVE_TIME: Duration = Duration::from_secs(15);

/// How long the kernel waits between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How long data sent may stay unacknowledged before the kernel gives the connection up.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const USER_TIMEOUT: Duration = Duration::from_secs(5);
