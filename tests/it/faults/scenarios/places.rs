//! Servers that are replaced by others.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_response_cache::{Cache, Purge};

use super::suffer;
use crate::faults::report::Report;
use crate::faults::rig::{Load, Rig, Scale, config};
use crate::support::cluster::{Nodes, Replicas};
use crate::support::sentinel::Sentinel;

/// A primary dies, and its replica takes over. A node of a cluster dies and comes back. Another
/// node dies for good, and its replica takes over.
pub(crate) async fn moved(scale: Scale) -> Vec<Report> {
    let (sentinel, mut primary, _replica) = Sentinel::with_pair();
    let (rig, former) = Rig::warm(Cache::new(config(&sentinel.url())), Load::STEADY).await;
    primary.kill();
    let added = suffer(&rig, scale).await;
    let recovery = rig.recovery(former).await;
    let by_sentinel = Report {
        added,
        recovery: Some(recovery),
        ..rig.finish("primary killed, Sentinel").await
    };

    let mut nodes = Nodes::start(Replicas::None);
    let (log, _slot) = nodes.owner("trc:log");
    let victim = (log + 1) % 3;
    let (rig, former) = Rig::warm(Cache::new(config(&nodes.url())), Load::STEADY).await;
    nodes.0[victim].kill();
    let added = suffer(&rig, scale).await;
    let during = rig.hit_rate(Duration::from_millis(300)).await;
    assert!(
        during > former * 0.3,
        "the other nodes' hits go on: {during}"
    );
    nodes.0[victim].start_again();
    let started = Instant::now();
    // A node that comes back needs two seconds until it serves, by its own clock.
    tokio::task::block_in_place(|| nodes.until_whole());
    let whole = started.elapsed();
    let recovery = rig.recovery(former).await;
    let by_cluster = Report {
        added,
        recovery: Some(recovery),
        note: format!("hit rate {former:.2}, then {during:.2}; whole {whole:.1?} after its start"),
        ..rig.finish("node killed, cluster").await
    };
    vec![
        by_sentinel,
        by_cluster,
        taken_over(scale).await,
        resharded(scale).await,
    ]
}

/// Slots move from one node to another with all that is in them, one after the other.
async fn resharded(scale: Scale) -> Report {
    let nodes = Nodes::start(Replicas::None);
    let (rig, former) = Rig::warm(Cache::new(config(&nodes.url())), Load::STEADY).await;
    let [from, to] = [&nodes.0[0], &nodes.0[1]];
    let (port, ids) = (to.port().to_string(), [nodes.id(0), nodes.id(1)]);
    let keys = from.command(&["KEYS", "trc:3:*"]);
    let slots: BTreeSet<String> = keys.lines().map(|key| nodes.owner(key).1).collect();
    let slots: Vec<_> = slots.into_iter().take(scale.of(10, 1000)).collect();
    for slot in &slots {
        to.command(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &ids[0]]);
        from.command(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &ids[1]]);
        // The client follows a slot that is half moved to its new node.
        sleep(Duration::from_millis(5)).await;
        for key in from
            .command(&["CLUSTER", "GETKEYSINSLOT", slot, "100"])
            .lines()
        {
            from.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "1000"]);
        }
        nodes.settle(slot, 0, 1);
    }
    let added = rig.added();
    let during = rig.hit_rate(Duration::from_millis(200)).await;
    let recovery = rig.recovery(former).await;
    for slot in &slots {
        let left = from.command(&["CLUSTER", "COUNTKEYSINSLOT", slot]);
        assert_eq!(left, "0", "of slot {slot}");
    }
    Report {
        added,
        recovery: Some(recovery),
        note: format!(
            "{} slots; hit rate {former:.2}, then {during:.2}",
            slots.len()
        ),
        ..rig.finish("slots moved, cluster").await
    }
}

/// The master of a cluster that keeps the purge log dies, and its replica is elected.
async fn taken_over(scale: Scale) -> Report {
    let mut nodes = Nodes::start(Replicas::OneEach);
    let (victim, _slot) = nodes.owner("trc:log");
    let cache = Cache::new(config(&nodes.url()));
    let (rig, former) = Rig::warm(cache.clone(), Load::STEADY).await;
    nodes.until_copied();
    nodes.0[victim].kill();
    let killed = Instant::now();
    let watched = async {
        nodes.until_elected(victim).await;
        let elected = killed.elapsed();
        let recovery = rig.recovery(former).await;
        while cache.purge(Purge::tag("none")).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
        (elected, recovery, killed.elapsed())
    };
    let (added, (elected, recovery, purged)) = tokio::join!(suffer(&rig, scale), watched);
    Report {
        added,
        recovery: Some(recovery),
        note: format!(
            "elected {elected:.1?} after the kill; then recovery; purges by {purged:.1?}"
        ),
        ..rig.finish("master killed, replica elected").await
    }
}
