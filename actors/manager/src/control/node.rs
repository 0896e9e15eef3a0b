//! Requests of operators about nodes.

use super::Control;
use crate::quorum::{agree_without, others};
use essaim_model::{Change, Node, NodeSpec, Refusal, RefusalKind, State};
use essaim_wire::{Generation, Index, NodeId, Reachability, Role};
use std::time::Duration;

/// Upper bound on the wait of a removal until the group has released the manager: a few commits, and an election in
/// between.
const LET_GO_MAX: Duration = Duration::from_secs(10);

impl Control {
    /// Sets a node's spec if it is still the one read at `expect`.
    pub async fn update_node(&self, id: NodeId, expect: Index, spec: NodeSpec) -> Result<(), Refusal> {
        self.commit(vec![Change::SetNode { id, expect, spec }]).await.map(|_| ())
    }

    /// Removes a node: its certificate is refused everywhere from then on. A node that is not down is removed only with
    /// `force`. A manager that is down also needs `force`, and the group releases it first.
    pub async fn remove_node(&self, id: NodeId, force: bool) -> Result<(), Refusal> {
        let state = self.read().await?;
        let node = state.node(id).ok_or_else(|| Refusal::not_found("node", id))?;
        // An operator sees both states as "down", so both count as down for a removal.
        let is_down = matches!(node.reachability, Reachability::Unreachable | Reachability::Down);
        let is_manager = node.role == Role::Manager || (node.spec.role == Role::Manager && !node.has_left());
        if is_manager {
            self.let_go_of(&state, node, force && is_down).await?;
        }
        // `until` is only a lower bound: `apply` decides from the issued certificates how long the removal is
        // remembered.
        self.commit(vec![Change::RemoveNode { id, until: self.scope.utc(), force }]).await.map(|_| ())
    }

    /// Demotes a manager that is to be removed, and waits until the group has released it. The refusal says what to do
    /// instead.
    async fn let_go_of(&self, state: &State, node: &Node, down_and_forced: bool) -> Result<(), Refusal> {
        let id = node.id;
        let refused = |text| Err(Refusal::new(RefusalKind::Precondition, text));
        if !down_and_forced {
            return refused(format!(
                "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before \
                 removal; one that is down is removed with --force as it is"
            ));
        }
        if !agree_without(state, id) {
            let (reachable, left) = others(state, id);
            return refused(format!(
                "node {id} is a cluster manager, and of the {left} that would be left {reachable} can be reached: removing \
                 it would result in a loss of quorum. Bring one of the others back first"
            ));
        }
        if node.spec.role == Role::Manager {
            let spec = NodeSpec { role: Role::Worker, ..node.spec.clone() };
            self.commit(vec![Change::SetNode { id, expect: node.meta.version, spec }]).await?;
        }
        let mut states = self.store.states();
        let let_go = states.wait_for(|state| state.node(id).is_none_or(|node| node.role == Role::Worker));
        match tokio::time::timeout(LET_GO_MAX, let_go).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let text = format!("the group of managers has not let node {id} go yet; remove it again in a moment");
                Err(Refusal::new(RefusalKind::Unknown, text))
            }
        }
    }

    /// Announces that this manager is about to leave, so that the group releases it. `Err` says why the group cannot:
    /// the manager then leaves as a voter.
    pub async fn announce_departure(&self, generation: Generation) -> Result<(), Refusal> {
        let (state, id) = (self.read().await?, self.store.node());
        let (reachable, left) = others(&state, id);
        if left == 0 {
            return Err(Refusal::new(RefusalKind::Precondition, "it is the last manager: the cluster ends with it"));
        }
        if !agree_without(&state, id) {
            let text = format!(
                "of the {left} managers that are left {reachable} can be reached, and they could not agree without this \
                 one; it is let go as soon as they can"
            );
            return Err(Refusal::new(RefusalKind::Precondition, text));
        }
        self.commit(vec![Change::DepartNode { id, generation, left: false }]).await.map(|_| ())
    }
}
