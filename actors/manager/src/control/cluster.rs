//! Settings of the cluster, and its join tokens.

use super::Control;
use essaim_model::{Change, ClusterSpec, Refusal};
use essaim_wire::{Index, Role};
use std::time::Duration;

/// The shortest life of a certificate, as in Swarm.
const CERTIFICATE_EXPIRY_MIN: Duration = Duration::from_secs(3600);

/// Which join tokens to replace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotate {
    /// That of workers.
    pub worker: bool,
    /// That of managers.
    pub manager: bool,
}

impl Control {
    /// Sets the cluster's settings, as read at `expect`, and replaces join tokens.
    pub async fn update_cluster(&self, expect: Index, spec: ClusterSpec, rotate: Rotate) -> Result<(), Refusal> {
        if spec.name != "default" {
            return Err(Refusal::invalid("swarm spec must be named \"default\""));
        }
        if spec.certificate_expiry < CERTIFICATE_EXPIRY_MIN {
            return Err(Refusal::invalid("minimum certificate expiry time is: 1h0m0s"));
        }
        if spec.heartbeat.is_zero() {
            return Err(Refusal::invalid("heartbeat time period cannot be a negative duration"));
        }
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
