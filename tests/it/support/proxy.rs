//! A server's front that misbehaves on demand.
//!
//! It understands as much of the protocol as it takes to count commands and to tamper with
//! single replies.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How it treats all connections, present and future.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Faithfully.
    Forward,
    /// Resets them.
    Refuse,
    /// Takes what comes, and stays silent.
    Mute,
    /// Holds every batch of replies back for so long.
    Delay(Duration),
    /// Resets each after so many bytes of replies.
    ResetAfter(usize),
    /// Answers every command with these bytes instead.
    Reply(&'static str),
}

/// What becomes of one reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tamper {
    /// It comes twice.
    Duplicate,
    /// It does not come.
    Drop,
    /// It comes after the next one.
    Swap,
    /// These bytes come instead.
    Replace(&'static str),
}

/// A TCP proxy on a port of its own; it ends with all its connections when dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A faithful proxy to a port of this machine.
    pub(crate) async fn to(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            mode: watch::Sender::new(Mode::Forward),
            blackholed: watch::Sender::new(0),
            tampers: Mutex::default(),
            connections: AtomicU64::new(0),
            commands: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, Arc::clone(&shared)));
        Self {
            shared,
            port,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Swallows everything on the connections that exist now, both ways; later ones work.
    pub(crate) fn blackhole_existing(&self) {
        let upto = self.connections();
        self.shared.blackholed.send_replace(upto);
    }

    /// Tampers with the next reply, after those that are to be tampered with already.
    pub(crate) fn tamper(&self, tamper: Tamper) {
        self.shared.tampers.lock().unwrap().push_back(tamper);
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Commands seen so far, those that begin a connection included.
    pub(crate) fn commands(&self) -> u64 {
        self.shared.commands.load(Ordering::SeqCst)
    }
}

struct Shared {
    mode: watch::Sender<Mode>,
    /// Connections up to this number are dead, and do not know it.
    blackholed: watch::Sender<u64>,
    tampers: Mutex<VecDeque<Tamper>>,
    connections: AtomicU64,
    commands: AtomicU64,
}

impl Shared {
    fn mode(&self) -> Mode {
        self.mode.borrow().clone()
    }

    fn swallows(&self, number: u64) -> bool {
        number <= *self.blackholed.borrow() || *self.mode.borrow() == Mode::Mute
    }
}

async fn accept(listener: TcpListener, upstream: u16, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        connections.spawn(serve(client, upstream, number, Arc::clone(&shared)));
    }
}

async fn serve(client: TcpStream, upstream: u16, number: u64, shared: Arc<Shared>) {
    let _best_effort = client.set_nodelay(true);
    let mut mode = shared.mode.subscribe();
    let refused = async {
        let _changed = mode.wait_for(|mode| *mode == Mode::Refuse).await;
    };
    // A reset rather than an orderly end.
    let _best_effort = client.set_zero_linger();
    tokio::select! {
        biased;
        () = refused => {}
        _ended = relay(client, upstream, number, &shared) => {}
    }
}

async fn relay(client: TcpStream, upstream: u16, number: u64, shared: &Shared) -> io::Result<()> {
    let (from_client, mut to_client) = client.into_split();
    let server = match TcpStream::connect(("127.0.0.1", upstream)).await {
        Ok(server) => server,
        Err(error) => return Err(error),
    };
    server.set_nodelay(true)?;
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = requests(from_client, to_server, number, shared) => ended,
        ended = replies(from_server, &mut to_client, number, shared) => ended,
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    number: u64,
    shared: &Shared,
) -> io::Result<()> {
    let mut pending = Vec::new();
    loop {
        if client.read_buf(&mut pending).await? == 0 {
            return Ok(());
        }
        while let Some(length) = frame(&pending) {
            shared.commands.fetch_add(1, Ordering::SeqCst);
            let command = pending.drain(..length).collect::<Vec<_>>();
            if !shared.swallows(number) {
                server.write_all(&command).await?;
            }
        }
    }
}

async fn replies(
    mut server: OwnedReadHalf,
    client: &mut OwnedWriteHalf,
    number: u64,
    shared: &Shared,
) -> io::Result<()> {
    let mut pending = Vec::new();
    let mut sent = 0;
    let mut held = None;
    loop {
        if server.read_buf(&mut pending).await? == 0 {
            return Ok(());
        }
        if let Mode::Delay(delay) = shared.mode() {
            sleep(delay).await;
        }
        while let Some(length) = frame(&pending) {
            let reply = pending.drain(..length).collect::<Vec<_>>();
            if shared.swallows(number) {
                continue;
            }
            let mut reply = tampered(reply, &mut held, shared);
            if let Mode::ResetAfter(limit) = shared.mode() {
                reply.truncate(limit.saturating_sub(sent));
            }
            client.write_all(&reply).await?;
            sent += reply.len();
            if matches!(shared.mode(), Mode::ResetAfter(limit) if sent >= limit) {
                return Ok(());
            }
        }
    }
}

fn tampered(reply: Vec<u8>, held: &mut Option<Vec<u8>>, shared: &Shared) -> Vec<u8> {
    if let Mode::Reply(bytes) = shared.mode() {
        return bytes.into();
    }
    if let Some(earlier) = held.take() {
        return [reply, earlier].concat();
    }
    match shared.tampers.lock().unwrap().pop_front() {
        None => reply,
        Some(Tamper::Duplicate) => reply.repeat(2),
        Some(Tamper::Drop) => Vec::new(),
        Some(Tamper::Swap) => {
            *held = Some(reply);
            Vec::new()
        }
        Some(Tamper::Replace(bytes)) => bytes.into(),
    }
}

/// How long the first command or reply in `bytes` is, once it is complete.
fn frame(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let count = std::str::from_utf8(&bytes[1..line - 2]).ok();
    let count = count.and_then(|text| text.parse::<usize>().ok());
    let items = match (bytes[0], count) {
        (b'$' | b'=' | b'!', Some(length)) => {
            let end = line + length + 2;
            return (bytes.len() >= end).then_some(end);
        }
        (b'*' | b'~' | b'>', Some(count)) => count,
        (b'%', Some(count)) => count * 2,
        _ => 0,
    };
    (0..items).try_fold(line, |end, _| Some(end + frame(&bytes[end..])?))
}
