//! Input of a decision: a frozen state, the time, and the nodes that the brake has released.

use essaim_model::{Placement, ServiceSpec, State, Task};
use essaim_wire::{NodeId, Reachability, Timestamp};
use std::collections::BTreeSet;

/// The cluster as one decision sees it.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The replicated state.
    pub state: &'a State,
    /// Time by the leader's clock.
    pub now: Timestamp,
    /// Lost nodes (unreachable or down) whose slots may be filled elsewhere now, as `liveness` decides.
    pub released: &'a BTreeSet<NodeId>,
}

/// Condition of a task that has not ended, by the state of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The task is pending, or its node may keep it.
    Sound,
    /// The task's node drains; until the task is replaced it may go on.
    Leaving,
    /// The task's node changed, and satisfies neither the constraints in force nor those that the task was placed by; or
    /// it has fewer resources than its tasks reserve (see `enforce`); or its daemon was started again with a program that is too old to read the task's spec. (A newer spec that asks for
    /// other nodes is handled by the update, at the service's own pace.)
    Misfit,
    /// The task's node is lost, but the slot may not be filled elsewhere yet.
    Held,
    /// The task's node is unreachable, and the slot may be filled elsewhere. The node may still come back.
    Lost,
    /// The task is written off for this reason: its node is down or was removed.
    Gone(String),
}

impl Scene<'_> {
    /// Condition of a task of a service with this spec.
    pub(crate) fn condition(&self, task: &Task, spec: &ServiceSpec, placement: &Placement) -> Condition {
        let Some(id) = task.node() else { return Condition::Sound };
        let Some(node) = self.state.node(id) else {
            return Condition::Gone("its node was removed from the cluster".into());
        };
        match node.reachability {
            Reachability::Down if self.released.contains(&id) => {
                Condition::Gone(format!("node {} is down", node.name()))
            }
            Reachability::Unreachable if self.released.contains(&id) && !spec.waits_for_down() => Condition::Lost,
            Reachability::Down | Reachability::Unreachable => Condition::Held,
            Reachability::Reachable | Reachability::Unknown => {
                let followed = self.state.spec(task.service, task.spec_version);
                let may_stay = || followed.is_none_or(|it| !task.is_misplaced(node, placement, || it.task.placement()));
                if node.spec.availability == essaim_model::Availability::Drain {
                    Condition::Leaving
                } else if followed.is_none_or(|it| it.level() <= node.level) && may_stay() {
                    Condition::Sound
                } else {
                    Condition::Misfit
                }
            }
        }
    }

    /// Whether the task may run on, unseen, until its worker ends it because its lease has lapsed.
    pub(crate) fn is_adrift(&self, task: &Task) -> bool {
        let leased = || self.state.spec(task.service, task.spec_version).is_some_and(|it| it.stops_on_disconnect());
        !task.observed.state.is_final() && task.node().is_some_and(|node| !self.answers(node)) && leased()
    }

    /// Whether the node answers according to its record: an order reaches it, and it will report the end of its tasks.
    pub(crate) fn answers(&self, id: NodeId) -> bool {
        self.state
            .node(id)
            .is_some_and(|node| matches!(node.reachability, Reachability::Reachable | Reachability::Unknown))
    }
}
