//! What a decision may look at: a frozen state, the time, and which nodes' slots the brake has released.

use essaim_model::{Placement, ServiceSpec, State, Task};
use essaim_wire::{NodeId, Reachability, Timestamp};
use std::collections::BTreeSet;

/// The world as one decision sees it.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// What the managers agree on.
    pub state: &'a State,
    /// The leader's clock.
    pub now: Timestamp,
    /// The lost nodes (unreachable or down) whose slots may be filled elsewhere now; `liveness` says which.
    pub released: &'a BTreeSet<NodeId>,
}

/// How a task that has not ended stands, by its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It waits for a node, or its node may keep it.
    Sound,
    /// Its node gives away what it has; until then it may go on.
    Leaving,
    /// Its node changed, and satisfies neither the constraints in force nor those that the task was placed by. (That
    /// a newer spec asks for other nodes is a matter of the update, which is as the service says.)
    Misfit,
    /// Its node is lost, but its place may not be filled elsewhere yet.
    Held,
    /// Its node is unreachable, and its place may be filled elsewhere. It may still come back.
    Lost,
    /// Its node is gone for good as far as its tasks are concerned, and why.
    Gone(String),
}

impl Scene<'_> {
    /// How a task of a service with this spec stands.
    pub(crate) fn standing(&self, task: &Task, spec: &ServiceSpec, placement: &Placement) -> Standing {
        let Some(id) = task.node() else { return Standing::Sound };
        let Some(node) = self.state.node(id) else {
            return Standing::Gone("its node was removed from the cluster".into());
        };
        match node.reachability {
            Reachability::Down if self.released.contains(&id) => {
                Standing::Gone(format!("node {} is down", node.name()))
            }
            Reachability::Unreachable if self.released.contains(&id) && !spec.waits_for_down() => Standing::Lost,
            Reachability::Down | Reachability::Unreachable => Standing::Held,
            Reachability::Reachable | Reachability::Unknown => {
                let followed = || self.state.spec(task.service, task.spec_version).map(|spec| spec.task.placement());
                if node.spec.availability == essaim_model::Availability::Drain {
                    Standing::Leaving
                } else if placement.allows(node) || followed().is_none_or(|placement| placement.allows(node)) {
                    Standing::Sound
                } else {
                    Standing::Misfit
                }
            }
        }
    }

    /// Whether a node answers, as far as its record tells: an order will reach it, and its end will be heard of.
    pub(crate) fn answers(&self, id: NodeId) -> bool {
        self.state
            .node(id)
            .is_some_and(|node| matches!(node.reachability, Reachability::Reachable | Reachability::Unknown))
    }
}
