//! The faults, a file for each kind.

mod boot;
#[cfg(feature = "zstd")]
mod compressed;
mod damage;
mod errors;
mod line;
mod log;
mod places;
mod server;
#[allow(dead_code, reason = "the long suite measures it")]
mod throughput;
mod values;

use std::time::Duration;

use tokio::time::sleep;
use tower_response_cache::Cache;

use super::report::{Added, Report};
use super::rig::{Load, Rig, Scale, config, fronted};
use crate::support::proxy::Mode;

#[allow(unused_imports, reason = "for the long suite")]
pub(crate) use boot::serve_if_asked;
pub(crate) use boot::{down_at_boot, listening};
#[cfg(feature = "zstd")]
pub(crate) use compressed::{bombs, damaged_compressed_values};
pub(crate) use damage::damaged_values;
pub(crate) use errors::error_replies;
pub(crate) use line::{closed_to_new, desynchronised, half_open, slow, torn};
pub(crate) use log::{late_writes, log_cut};
pub(crate) use places::moved;
pub(crate) use server::{chaos, flushed, full, killed, skewed_clocks, stopped};
pub(crate) use values::{huge_values, wrong_values};

/// Runs all scenarios in the order of the long suite, or those that `wanted` names.
#[allow(dead_code, reason = "the short selection has a test for each")]
pub(crate) async fn all(
    scale: Scale,
    wanted: impl Fn(&str) -> bool,
    mut told: impl FnMut(&Report),
) {
    macro_rules! run {
        ($($(#[$feature:meta])* $scenario:ident),* $(,)?) => {
            $($(#[$feature])*
            {
                if wanted(stringify!($scenario)) {
                    for report in $scenario(scale).await {
                        told(&report);
                        report.assert_good();
                    }
                }
            })*
        };
    }
    use throughput::throughput;
    run!(
        down_at_boot,
        listening,
        killed,
        stopped,
        late_writes,
        half_open,
        closed_to_new,
        slow,
        torn,
        error_replies,
        wrong_values,
        damaged_values,
        #[cfg(feature = "zstd")]
        damaged_compressed_values,
        huge_values,
        #[cfg(feature = "zstd")]
        bombs,
        skewed_clocks,
        flushed,
        full,
        log_cut,
        moved,
        chaos,
        desynchronised,
        throughput,
    );
}

/// A rig with a cache that is under load from its first moment.
pub(super) fn begin(url: &str) -> Rig {
    let mut rig = Rig::new(Cache::new(config(url)));
    rig.load(Load::STEADY);
    rig
}

/// Runs a fault of the connection while the cache is warm and under load.
pub(super) async fn through(name: &str, mode: Mode, scale: Scale) -> Report {
    let (server, proxy) = fronted().await;
    let cache = Cache::new(config(&server.tcp_url_at(proxy.port())));
    let (rig, former) = Rig::warm(cache, Load::STEADY).await;
    proxy.set(mode);
    let added = suffer(&rig, scale).await;
    let during = rig.hit_rate(Duration::from_millis(200)).await;
    proxy.set(Mode::Forward);
    let recovery = rig.recovery(former).await;
    Report {
        added,
        recovery: Some(recovery),
        note: format!("hit rate {former:.2}, then {during:.2}"),
        ..rig.finish(name).await
    }
}

/// Waits while a fault lasts, and returns what it adds to the latency.
pub(super) async fn suffer(rig: &Rig, scale: Scale) -> Added {
    rig.added();
    sleep(scale.of(Duration::from_millis(1200), Duration::from_millis(4500))).await;
    rig.added()
}

const PATIENCE: Duration = Duration::from_secs(20);
