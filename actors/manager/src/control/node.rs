//! What operators want of nodes.

use super::Control;
use essaim_model::{Change, NodeSpec, Refusal, RefusalKind};
use essaim_wire::{Index, NodeId, Reachability, Role};

impl Control {
    /// Sets what a node shall be, as read at `expect`.
    pub async fn update_node(&self, id: NodeId, expect: Index, spec: NodeSpec) -> Result<(), Refusal> {
        let state = self.read().await?;
        let node = state.node(id).ok_or_else(|| Refusal::not_found("node", id))?;
        if spec.name != node.spec.name && spec.name.is_some() {
            return Err(Refusal::new(
                RefusalKind::Unsupported,
                "a node cannot be given a name: it goes by its host name",
            ));
        }
        let demotes = node.spec.role == Role::Manager && spec.role == Role::Worker;
        if demotes && !self.survives_without(&state, id) {
            let text = "can't remove member from the raft: this would result in a loss of quorum";
            return Err(Refusal::new(RefusalKind::Precondition, text));
        }
        self.commit(vec![Change::SetNode { id, expect, spec }]).await.map(|_| ())
    }

    /// Removes a node: its certificate is refused everywhere from then on. One that is not down only by `force`.
    pub async fn remove_node(&self, id: NodeId, force: bool) -> Result<(), Refusal> {
        let state = self.read().await?;
        let node = state.node(id).ok_or_else(|| Refusal::not_found("node", id))?;
        if node.spec.role == Role::Manager || node.role == Role::Manager {
            let text = format!(
                "node {id} is a cluster manager and is a member of the raft cluster. \
                 It must be demoted to worker before removal"
            );
            return Err(Refusal::new(RefusalKind::Precondition, text));
        }
        // Both tiers read "down" to an operator, and one that removes a node means it.
        let is_down = matches!(node.reachability, Reachability::Unreachable | Reachability::Down);
        if !is_down && !force {
            let text = format!("node {id} is not down and can't be removed");
            return Err(Refusal::new(RefusalKind::Precondition, text));
        }
        // How long that is remembered follows from the certificates that were issued, and is for `apply` to say.
        self.commit(vec![Change::RemoveNode { id, until: self.scope.utc() }]).await.map(|_| ())
    }

    /// Whether the managers that would be left can still agree: a majority of them is reachable.
    fn survives_without(&self, state: &essaim_model::State, id: NodeId) -> bool {
        let left: Vec<_> = state.managers().filter(|node| node.id != id).collect();
        let reachable = left.iter().filter(|node| node.reachability == Reachability::Reachable).count();
        left.is_empty() || reachable * 2 > left.len()
    }
}
