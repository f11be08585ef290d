//! A proxy in front of a server that misbehaves on demand.
//!
//! It understands enough of the protocol to know which reply answers which command, and to change
//! single replies.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// How the proxy treats all connections, present and future.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mode {
    /// Forwards everything unchanged.
    Forward,
    /// Resets all connections.
    Refuse,
    /// Takes all bytes, and stays silent.
    Mute,
    /// Holds every batch of replies back for this long, and the replies behind it as well.
    Delay(Duration),
    /// Delays every reply by the first time and by up to the second time more. Pipelined replies
    /// stay pipelined.
    Latency(Duration, Duration),
    /// Lets this many bytes of replies through in a hundredth of a second, on each connection.
    Throttle(usize),
    /// Resets each connection after this many bytes of replies.
    ResetAfter(usize),
    /// Closes each connection in order after this many bytes of replies.
    EndAfter(usize),
    /// Answers every command with these bytes instead.
    Reply(&'static str),
    /// Answers these commands with these bytes instead.
    Answer(&'static [&'static str], Bytes),
    /// Flips a bit in every value that is read.
    Corrupt,
    /// Repeats, drops, or swaps replies to reads, each with this probability.
    Slip(f64),
    /// Tells new connections that there are too many, as long as there are this many.
    Crowded(u64),
    /// Is silent on connections that read the log. The others work.
    CutLog,
}

/// What happens to one reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tamper {
    /// The reply comes twice.
    Duplicate,
    /// The reply does not come.
    Drop,
    /// The reply comes after the next one.
    Swap,
    /// These bytes come instead of the reply.
    Replace(&'static str),
}

/// A TCP proxy on a port of its own. It ends with all its connections when it is dropped.
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
            upstream: AtomicU16::new(upstream),
            mode: watch::Sender::new(Mode::Forward),
            blackholed: watch::Sender::new(0..0),
            tampers: Mutex::default(),
            dice: Mutex::new(fastrand::Rng::with_seed(7)),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            commands: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
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

    /// Connections from now on lead to another port of this machine.
    pub(crate) fn lead_to(&self, upstream: u16) {
        self.shared.upstream.store(upstream, Ordering::SeqCst);
    }

    /// Swallows everything on the connections that exist now, in both directions. Later ones work.
    pub(crate) fn blackhole_existing(&self) {
        let next = self.connections() + 1;
        self.shared.blackholed.send_replace(0..next);
    }

    /// Swallows everything on new connections from now on. Existing ones work.
    pub(crate) fn blackhole_new(&self) {
        let next = self.connections() + 1;
        self.shared.blackholed.send_replace(next..u64::MAX);
    }

    /// Lets new connections work again.
    pub(crate) fn end_blackhole(&self) {
        let next = self.connections() + 1;
        let swallows = |dead: &mut Range<u64>| dead.end = dead.end.min(next);
        self.shared.blackholed.send_modify(swallows);
    }

    /// Tampers with the next reply that is not to be tampered with already.
    pub(crate) fn tamper(&self, tamper: Tamper) {
        self.shared.tampers.lock().unwrap().push_back(tamper);
    }

    /// The number of connections accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The number of commands seen so far, with those that begin a connection.
    pub(crate) fn commands(&self) -> u64 {
        self.shared.commands.load(Ordering::SeqCst)
    }
}

struct Shared {
    upstream: AtomicU16,
    mode: watch::Sender<Mode>,
    /// The numbers of connections that are dead without an end.
    blackholed: watch::Sender<Range<u64>>,
    tampers: Mutex<VecDeque<Tamper>>,
    dice: Mutex<fastrand::Rng>,
    connections: AtomicU64,
    /// The number of connections that have not ended.
    open: AtomicU64,
    commands: AtomicU64,
}

impl Shared {
    fn mode(&self) -> Mode {
        self.mode.borrow().clone()
    }

    fn swallows(&self, number: u64) -> bool {
        self.blackholed.borrow().contains(&number) || *self.mode.borrow() == Mode::Mute
    }

    fn roll<T>(&self, roll: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        roll(&mut self.dice.lock().unwrap())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let upstream = shared.upstream.load(Ordering::SeqCst);
        connections.spawn(serve(client, upstream, number, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut client: TcpStream, upstream: u16, number: u64, shared: Arc<Shared>) {
    let _best_effort = client.set_nodelay(true);
    let others = shared.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(&shared);
    if matches!(shared.mode(), Mode::Crowded(room) if others >= room) {
        let _best_effort = client
            .write_all(b"-ERR max number of clients reached\r\n")
            .await;
        return;
    }
    let mut mode = shared.mode.subscribe();
    let refused = async {
        let _changed = mode.wait_for(|mode| *mode == Mode::Refuse).await;
    };
    // Ends the connection with a reset.
    if !matches!(shared.mode(), Mode::EndAfter(_)) {
        let _best_effort = client.set_zero_linger();
    }
    tokio::select! {
        biased;
        () = refused => {}
        _ended = relay(client, upstream, number, &shared) => {}
    }
}

/// A connection that has not ended.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The state that the two directions of a connection share.
#[derive(Default)]
struct Line {
    /// The commands that have not been answered.
    asked: Mutex<VecDeque<String>>,
}

async fn relay(client: TcpStream, upstream: u16, number: u64, shared: &Shared) -> io::Result<()> {
    let (from_client, to_client) = client.into_split();
    let server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    server.set_nodelay(true)?;
    let (from_server, to_server) = server.into_split();
    let line = Line::default();
    let (replies_out, replies_in) = mpsc::unbounded_channel();
    tokio::select! {
        ended = requests(from_client, to_server, number, shared, &line) => ended,
        ended = replies(from_server, replies_out, number, shared, &line) => ended,
        ended = deliver(replies_in, to_client, shared) => ended,
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    number: u64,
    shared: &Shared,
    line: &Line,
) -> io::Result<()> {
    let mut pending = Vec::new();
    let mut reads_log = false;
    loop {
        if client.read_buf(&mut pending).await? == 0 {
            return Ok(());
        }
        while let Some(length) = frame(&pending) {
            shared.commands.fetch_add(1, Ordering::SeqCst);
            let command = pending.drain(..length).collect::<Vec<_>>();
            let name = name(&command);
            reads_log |= name == "XREAD";
            let cut = reads_log && shared.mode() == Mode::CutLog;
            if !shared.swallows(number) && !cut {
                line.asked.lock().unwrap().push_back(name);
                server.write_all(&command).await?;
            }
        }
    }
}

async fn replies(
    mut server: OwnedReadHalf,
    client: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    number: u64,
    shared: &Shared,
    line: &Line,
) -> io::Result<()> {
    let mut pending = Vec::new();
    let mut held = None;
    loop {
        if server.read_buf(&mut pending).await? == 0 {
            // Bytes that are under way may still arrive.
            drop(client);
            return std::future::pending().await;
        }
        if let Mode::Delay(delay) = shared.mode() {
            sleep(delay).await;
        }
        while let Some(length) = frame(&pending) {
            let reply = pending.drain(..length).collect::<Vec<_>>();
            let asked = match reply.first() {
                Some(b'>') => String::new(),
                _ => line.asked.lock().unwrap().pop_front().unwrap_or_default(),
            };
            if shared.swallows(number) {
                continue;
            }
            let reply = tampered(reply, &asked, &mut held, shared);
            let latency = match shared.mode() {
                Mode::Latency(least, jitter) => {
                    least + jitter.mul_f64(shared.roll(fastrand::Rng::f64))
                }
                _ => Duration::ZERO,
            };
            if client.send((Instant::now() + latency, reply)).is_err() {
                return Ok(());
            }
        }
    }
}

async fn deliver(
    mut replies: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    mut client: OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    let mut sent = 0;
    while let Some((due, mut reply)) = replies.recv().await {
        sleep_until(due).await;
        match shared.mode() {
            Mode::ResetAfter(limit) | Mode::EndAfter(limit) => {
                reply.truncate(limit.saturating_sub(sent));
                client.write_all(&reply).await?;
                sent += reply.len();
                if sent >= limit {
                    return Ok(());
                }
            }
            Mode::Throttle(bytes) => {
                for part in reply.chunks(bytes) {
                    client.write_all(part).await?;
                    sleep(Duration::from_millis(10)).await;
                }
            }
            _ => {
                sent += reply.len();
                client.write_all(&reply).await?;
            }
        }
    }
    Ok(())
}

fn tampered(reply: Vec<u8>, asked: &str, held: &mut Option<Vec<u8>>, shared: &Shared) -> Vec<u8> {
    match shared.mode() {
        Mode::Reply(bytes) => return bytes.into(),
        Mode::Answer(commands, bytes) if commands.contains(&asked) => return bytes.into(),
        Mode::Corrupt if READS.contains(&asked) && reply.len() > 12 => {
            return flipped(reply, shared);
        }
        Mode::Slip(probability)
            if READS.contains(&asked) && shared.roll(fastrand::Rng::f64) < probability =>
        {
            let tampers = [Tamper::Duplicate, Tamper::Drop, Tamper::Swap];
            let which = shared.roll(|dice| dice.usize(..tampers.len()));
            let tamper = tampers[which].clone();
            shared.tampers.lock().unwrap().push_back(tamper);
        }
        _ => {}
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

/// Flips one bit of the value, which lies between the line with its length and its end.
fn flipped(mut reply: Vec<u8>, shared: &Shared) -> Vec<u8> {
    let start = reply.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
    let place = shared.roll(|dice| dice.usize(start..reply.len() - 2));
    reply[place] ^= 1 << shared.roll(|dice| dice.u8(..8));
    reply
}

/// The commands that read a value.
const READS: [&str; 2] = ["GET", "GETRANGE"];

/// The name of a command, which is its first part.
fn name(command: &[u8]) -> String {
    let mut lines = command.split(|byte| *byte == b'\n').skip(2);
    let name = lines.next().unwrap_or_default();
    String::from_utf8_lossy(name).trim().to_ascii_uppercase()
}

/// The length of the first command or reply in `bytes`, once it is complete.
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
