//! Asks the Sentinels, for as long as a connection is in use, whether it leads to the primary.

use std::sync::Weak;

use tokio::time::sleep;

use super::connect::{self, ASK_AGAIN};
use super::link::LinkId;
use super::supervisor::Supervisor;
use crate::base::task;
use crate::store::valkey::url::Address;

/// Watches in the background. A primary that is cut off from its Sentinels but not from us
/// takes writes that are lost later; whoever still talks to it has to learn of its successor.
pub(super) fn watch(supervisor: Weak<Supervisor>, id: LinkId, address: Address) {
    let _ends_with_its_runtime = task::spawn(async move {
        for turn in id.0.. {
            sleep(ASK_AGAIN).await;
            let Some(supervisor) = supervisor.upgrade() else {
                return;
            };
            if !supervisor.is_linked_by(id) {
                return;
            }
            // Sentinels that do not answer say nothing against the server.
            if let Ok(primary) = connect::primary(&supervisor.settings, turn).await
                && primary != address
            {
                supervisor.moved(id);
                return;
            }
        }
    });
}
