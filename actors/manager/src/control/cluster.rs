//! Requests about the cluster's settings and its join tokens.

use super::Control;
use essaim_model::{Change, ClusterSpec, Refusal};
use essaim_wire::{Index, Role};

/// Selection of the join tokens to replace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotate {
    /// Replace the join token of workers.
    pub worker: bool,
    /// Replace the join token of managers.
    pub manager: bool,
}

impl Control {
    /// Sets the cluster's settings if they are still those read at `expect`, and replaces join tokens.
    pub async fn update_cluster(&self, expect: Index, spec: ClusterSpec, rotate: Rotate) -> Result<(), Refusal> {
        let mut changes = vec![Change::SetCluster { expect, spec }];
        for (role, wanted) in [(Role::Worker, rotate.worker), (Role::Manager, rotate.manager)] {
            if wanted {
                let bytes = self.scope.env.seed.draw_id().to_be_bytes();
                changes.push(Change::RotateJoinSecret { role, secret: bytes });
            }
        }
        self.commit(changes).await.map(|_| ())
    }
}
