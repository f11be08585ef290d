//! The short form of the faults, a minute long. The long form is `cargo test --release --test
//! faults`.

use tokio::sync::Mutex;

use crate::faults::report::Report;
use crate::faults::rig::Scale;
use crate::faults::scenarios;

fn judge(reports: Vec<Report>) {
    for report in reports {
        println!("{report}");
        report.assert_good();
    }
}

/// Runs one test at a time. The tests measure short times, and would slow each other down.
static TURN: Mutex<()> = Mutex::const_new(());

macro_rules! short {
    ($($(#[$feature:meta])* $name:ident => $scenario:ident),* $(,)?) => {
        $($(#[$feature])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let _turn = TURN.lock().await;
            judge(scenarios::$scenario(Scale::Short).await);
        })*
    };
}

short! {
    a_server_that_is_down_at_boot_costs_hits_only => down_at_boot,
    a_killed_server_costs_hits_only => killed,
    a_stopped_server_costs_hits_only => stopped,
    a_process_answers_at_once_whatever_its_store_does => listening,
    what_a_stopped_server_writes_later_does_not_undo_a_purge => late_writes,
    a_half_open_connection_costs_hits_only => half_open,
    a_server_that_takes_no_more_connections_costs_hits_only => closed_to_new,
    a_slow_server_costs_the_budget_at_most => slow,
    a_torn_reply_is_a_miss => torn,
    slipped_replies_are_misses => desynchronised,
    every_error_reply_is_a_miss => error_replies,
    damaged_foreign_and_transplanted_values_are_misses => wrong_values,
    no_damaged_value_is_believed => damaged_values,
    #[cfg(feature = "zstd")]
    no_damaged_compressed_value_is_believed => damaged_compressed_values,
    #[cfg(feature = "zstd")]
    what_is_compressed_too_well_is_a_miss => bombs,
    a_huge_value_of_someone_else_s_takes_no_memory => huge_values,
    what_comes_from_the_future_is_a_miss => skewed_clocks,
    a_server_that_is_emptied_costs_hits_only => flushed,
    a_full_server_costs_hits_only => full,
    what_is_purged_out_of_sight_is_not_served_beyond_the_bound => log_cut,
    a_failover_costs_hits_only => moved,
    chaos_costs_hits_only => chaos,
}
