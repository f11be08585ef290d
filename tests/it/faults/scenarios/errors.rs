//! Every error reply of a server, and some that no server sends.

use std::time::Duration;

use bytes::Bytes;
use tower_response_cache::{Cache, Purge};

use super::through;
use crate::faults::oracle::Question;
use crate::faults::report::Report;
use crate::faults::rig::{Rig, Scale, config, fronted};
use crate::support::cluster::{Nodes, Replicas};
use crate::support::proxy::{Mode, Proxy};

/// Runs all error replies: to commands about values and to all others, from one server and from the
/// nodes of a cluster.
pub(crate) async fn error_replies(scale: Scale) -> Vec<Report> {
    let (server, proxy) = fronted().await;
    let url = server.tcp_url_at(proxy.port());
    let one = Site {
        url,
        proxies: vec![proxy],
    };
    let nodes = Nodes::start(Replicas::None);
    let cluster = Site::cluster(&nodes).await;
    let mut reports = Vec::new();
    for (name, site, commands) in [
        ("every error reply", &one, VALUES),
        ("every error to the rest", &one, REST),
        ("every error reply, cluster", &cluster, VALUES),
        ("every error to the rest, cluster", &cluster, REST),
    ] {
        reports.push(site.answer(name, commands, scale).await);
    }
    if scale == Scale::Long {
        for error in errors() {
            let shown = error[..error.len().min(24)].escape_ascii().to_string();
            let name = format!("error {}", shown.trim_end_matches("\\r\\n"));
            let mode = Mode::Answer(VALUES, error);
            reports.push(through(&name, mode, Scale::Short).await);
        }
    }
    reports
}

/// One or several servers, each behind a proxy.
struct Site {
    url: String,
    proxies: Vec<Proxy>,
}

impl Site {
    async fn cluster(nodes: &Nodes) -> Self {
        let proxies = nodes.behind_proxies().await;
        let ports = proxies.iter().map(|proxy| proxy.port().to_string());
        let url = format!(
            "valkey-cluster://127.0.0.1:{}",
            ports.collect::<Vec<_>>().join(",127.0.0.1:")
        );
        Self { url, proxies }
    }

    fn set(&self, mode: &Mode) {
        for proxy in &self.proxies {
            proxy.set(mode.clone());
        }
    }

    /// Answers the `commands` of a cache of its own with each error in turn.
    async fn answer(&self, name: &str, commands: &'static [&str], scale: Scale) -> Report {
        let mut rig = Rig::new(Cache::new(config(&self.url)));
        let mut slowest = Duration::ZERO;
        for error in errors() {
            self.set(&Mode::Forward);
            rig.renew(Cache::new(config(&self.url)));
            rig.ask(Question::public(1)).await;
            self.set(&Mode::Answer(commands, error));
            let mut dice = fastrand::Rng::with_seed(1);
            for _ in 0..scale.of(30, 300) {
                slowest = slowest.max(rig.ask(Question::random(&mut dice)).await);
            }
            let purged = rig.cache.purge(Purge::tag("none")).await;
            assert!(purged.is_err() || commands == VALUES, "it is told");
        }
        Report {
            note: format!("{} errors; {slowest:.1?} at most", errors().len()),
            ..rig.finish(name).await
        }
    }
}

/// The commands about values, and all others: of the purge log, of removals, of connections.
const VALUES: &[&str] = &["GET", "GETRANGE", "SET"];
const REST: &[&str] = &[
    "XADD", "XREAD", "XINFO", "XRANGE", "XTRIM", "UNLINK", "PING", "ROLE", "HELLO", "CLIENT",
    "CLUSTER", "ASKING",
];

fn errors() -> Vec<Bytes> {
    let mut errors = [
        "-LOADING Valkey is loading the dataset in memory\r\n",
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "-MISCONF Errors writing to disk\r\n",
        "-NOREPLICAS Not enough good replicas to write.\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
        "-BUSY Valkey is busy running a script.\r\n",
        "-NOAUTH Authentication required.\r\n",
        "-WRONGPASS invalid username-password pair\r\n",
        "-NOPERM this user has no permissions\r\n",
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        "-MOVED 3999 127.0.0.1:1\r\n",
        "-ASK 3999 127.0.0.1:1\r\n",
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
        "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        "-ERR max number of clients reached\r\n",
        "-ERR unknown command 'GET', with args beginning with:\r\n",
        "-\r\n",
        "-ERR\r\n",
        "!21\r\nSYNTAX invalid syntax\r\n",
        "_\r\n",
        "*0\r\n",
        "$0\r\n\r\n",
        "$-1\r\n",
        ":-1\r\n",
        "+OK\r\n",
        "$18446744073709551615\r\n",
        "$536870912\r\nshort\r\n",
        "*99999999\r\n",
        "garbage\r\n",
    ]
    .map(Bytes::from)
    .to_vec();
    errors.push([b"-ERR ", &[b'x'; 65536][..], b"\r\n"].concat().into());
    errors.push(Bytes::from_static(b"-ERR \xff\xfe not UTF-8\r\n"));
    errors.push(Bytes::from_static(b"-\xff\xfe\r\n"));
    errors
}
