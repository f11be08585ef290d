//! A real Sentinel for a test.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::valkey::{PATIENCE, Valkey, ask, free_port, server};

/// A Sentinel that is its own quorum. It watches one primary under the name `main`.
pub(crate) struct Sentinel {
    dir: PathBuf,
    port: u16,
    password: Option<&'static str>,
    process: Child,
}

/// The passwords of a Sentinel and its primary.
#[derive(Clone, Copy)]
pub(crate) struct Passwords {
    pub(crate) sentinel: &'static str,
    pub(crate) primary: &'static str,
}

impl Sentinel {
    pub(crate) fn watching(primary: &Valkey) -> Self {
        Self::watching_at(primary.port(), None)
    }

    /// Starts a Sentinel that watches a primary and knows its replica.
    pub(crate) fn with_pair() -> (Self, Valkey, Valkey) {
        let (primary, replica) = Valkey::start_pair();
        let sentinel = Self::watching(&primary);
        sentinel.until_replicas(1);
        (sentinel, primary, replica)
    }

    /// As [`Sentinel::watching`], for a primary behind a port that leads to it.
    pub(crate) fn watching_at(primary: u16, passwords: Option<Passwords>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("trc-sentinel-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let port = free_port();
        let config = dir.join("sentinel.conf");
        let settings = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\n\
             sentinel monitor main 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds main 400\n\
             sentinel failover-timeout main 3000\n{}",
            dir.display(),
            passwords.map_or_else(String::new, |Passwords { sentinel, primary }| {
                format!("sentinel auth-pass main {primary}\nrequirepass {sentinel}\n")
            })
        );
        fs::write(&config, settings).unwrap();
        let process = Command::new(server())
            .arg(&config)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sentinel = Self {
            dir,
            port,
            password: passwords.map(|passwords| passwords.sentinel),
            process,
        };
        sentinel.until("an answer", || {
            sentinel.try_command(&["PING"]).ok().as_deref() == Some("PONG")
        });
        sentinel
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("valkey-sentinel://127.0.0.1:{}/main", self.port)
    }

    /// Waits until the Sentinel knows this many replicas.
    pub(crate) fn until_replicas(&self, count: usize) {
        let expected = format!("num-slaves\n{count}");
        self.until("the replicas", || {
            self.command(&["SENTINEL", "MASTER", "main"])
                .contains(&expected)
        });
    }

    pub(crate) fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap()
    }

    fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        if let Some(password) = self.password {
            ask(&mut stream, &["AUTH", password])?;
        }
        ask(&mut stream, words)
    }

    fn until(&self, what: &str, check: impl Fn() -> bool) {
        let started = Instant::now();
        while !check() {
            assert!(started.elapsed() < PATIENCE, "the Sentinel has not: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _ended = self.process.wait();
        let _gone = fs::remove_dir_all(&self.dir);
    }
}
