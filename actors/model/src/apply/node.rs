//! Changes of nodes.

use super::Made;
use crate::loopback::SUBNETS;
use crate::{Departure, Event, ManagerStatus, Meta, Node, NodeDescription, NodeSpec, Refusal, RefusalKind, State};
use essaim_wire::{Generation, Index, Level, NodeId, Reachability, Role, Timestamp};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Time that a node's removal is remembered beyond the life of its certificate: clocks differ, and a leader that is
/// behind may sign with a lifetime that was shortened a moment ago.
const REMOVED_MARGIN: Duration = Duration::from_secs(24 * 3600);

impl State {
    /// Adds a node that was enrolled. A node that exists already is left unchanged, so an enrolment can be repeated.
    pub(super) fn accept_node(&mut self, node: &Node, events: &mut Vec<Event>) -> Made {
        if self.removed.contains(node.id) {
            return Err(Refusal::new(RefusalKind::Denied, format!("node {} was removed from the cluster", node.id)));
        }
        if self.nodes.contains_key(&node.id) {
            return Ok(());
        }
        self.check_reads_log(node, node.role.max(node.spec.role))?;
        let mut taken = vec![false; usize::from(SUBNETS)];
        for node in self.nodes.values() {
            if let Some(taken) = taken.get_mut(usize::from(node.loopback)) {
                *taken = true;
            }
        }
        let Some(loopback) = (0..SUBNETS).find(|share| !taken[usize::from(*share)]) else {
            return Err(Refusal::new(RefusalKind::Precondition, format!("a cluster has at most {SUBNETS} nodes")));
        };
        let meta = Meta::new(self.applied.index, self.at);
        let manager = node.manager.map(|manager| self.numbered(manager));
        let node = Arc::new(Node { meta, loopback, manager, since: self.at, ..node.clone() });
        self.put_node(Arc::clone(&node));
        events.push(Event::Node { old: None, new: Some(node) });
        Ok(())
    }

    pub(super) fn describe_node(
        &mut self,
        id: NodeId,
        generation: Generation,
        addr: SocketAddr,
        level: Level,
        description: Option<&NodeDescription>,
        events: &mut Vec<Event>,
    ) -> Made {
        if !self.is_in_force(id, generation)? {
            return Ok(());
        }
        description.map_or(Ok(()), NodeDescription::check)?;
        self.change_node(id, false, events, |node| {
            node.start_again(generation);
            node.addr = Some(addr);
            node.level = level;
            if let Some(description) = description {
                node.description = Some(description.clone());
            }
        })
    }

    pub(super) fn set_node(&mut self, id: NodeId, expect: Index, spec: &NodeSpec, events: &mut Vec<Event>) -> Made {
        let node = self.existing_node(id)?;
        if node.meta.version != expect {
            return Err(Refusal::out_of_sequence());
        }
        if node.spec.role == Role::Worker {
            self.check_reads_log(node, spec.role)?;
        }
        if spec.name.is_some() && spec.name != node.spec.name {
            let text = "a node cannot be given a name: it goes by its host name";
            return Err(Refusal::new(RefusalKind::Unsupported, text));
        }
        let demotes = node.spec.role == Role::Manager && spec.role == Role::Worker;
        let stays =
            |other: &&Arc<Node>| other.id != id && other.spec.role == Role::Manager && other.departure.is_none();
        if demotes && self.nodes.values().find(stays).is_none() {
            return Err(Refusal::new(RefusalKind::Precondition, "attempting to demote the last manager of the swarm"));
        }
        if demotes && !self.agrees_without(id) {
            let text = "can't remove member from the raft: this would result in a loss of quorum";
            return Err(Refusal::new(RefusalKind::Precondition, text));
        }
        self.change_node(id, true, events, |node| node.spec = spec.clone())
    }

    /// Whether the managers other than `id` have a quorum: a majority of them is reachable, or there are none.
    fn agrees_without(&self, id: NodeId) -> bool {
        let left: Vec<_> = self.managers().filter(|node| node.id != id).collect();
        let reachable = left.iter().filter(|node| node.reachability == Reachability::Reachable).count();
        left.is_empty() || reachable * 2 > left.len()
    }

    pub(super) fn set_role(
        &mut self,
        id: NodeId,
        role: Role,
        manager: Option<ManagerStatus>,
        events: &mut Vec<Event>,
    ) -> Made {
        let manager = manager.map(|manager| self.numbered(manager));
        let node = self.existing_node(id)?;
        if node.role == Role::Worker {
            self.check_reads_log(node, role)?;
        }
        self.change_node(id, false, events, |node| {
            node.role = role;
            node.manager = manager;
        })
    }

    /// Whether `generation` is the last known start of the node or a later one; a change about an earlier start has no
    /// effect. A start more than [`Generation::JUMP_MAX`] ahead is refused: generations only grow, so a wrong one that is
    /// committed cannot be taken back.
    fn is_in_force(&self, id: NodeId, generation: Generation) -> Result<bool, Refusal> {
        let known = self.existing_node(id)?.generation;
        if generation.0.saturating_sub(known.0) > Generation::JUMP_MAX {
            let text = format!("node {id} cannot be in start {}: the last one known is {}", generation.0, known.0);
            return Err(Refusal::invalid(text));
        }
        Ok(generation >= known)
    }

    /// Gives a manager without a Raft number the index of this log entry as its number, which is unique and never
    /// reused.
    const fn numbered(&self, manager: ManagerStatus) -> ManagerStatus {
        match manager.raft_id {
            0 => ManagerStatus { raft_id: self.applied.index.0, ..manager },
            _ => manager,
        }
    }

    pub(super) fn set_reachability(
        &mut self,
        id: NodeId,
        generation: Generation,
        reachability: Reachability,
        message: &str,
        events: &mut Vec<Event>,
    ) -> Made {
        let at = self.at;
        if !self.is_in_force(id, generation)? {
            return Ok(());
        }
        self.change_node(id, false, events, |node| {
            if node.reachability != reachability {
                node.since = at;
            }
            node.start_again(generation);
            node.reachability = reachability;
            node.message = message.into();
        })
    }

    /// Records that a node leaves or has left. A node that has left no longer changes to merely leaving.
    pub(super) fn depart_node(
        &mut self,
        id: NodeId,
        generation: Generation,
        left: bool,
        events: &mut Vec<Event>,
    ) -> Made {
        let at = self.at;
        if !self.is_in_force(id, generation)? || self.existing_node(id)?.has_left() {
            return Ok(());
        }
        let departure = if left { Departure::Left { at } } else { Departure::Announced };
        self.change_node(id, false, events, |node| {
            node.start_again(generation);
            node.departure = Some(departure);
        })
    }

    pub(super) fn set_steadiness(&mut self, id: NodeId, unsteady: bool, events: &mut Vec<Event>) -> Made {
        self.change_node(id, false, events, |node| node.unsteady = unsteady)
    }

    /// Removes a node and writes off its tasks, because no worker will report on them any more. The record of the
    /// removal is kept until every certificate that the node may hold has expired, and at least until `until`.
    pub(super) fn remove_node(&mut self, id: NodeId, until: Timestamp, force: bool, events: &mut Vec<Event>) -> Made {
        let node = Arc::clone(self.existing_node(id)?);
        if node.role == Role::Manager || (node.spec.role == Role::Manager && !node.has_left()) {
            let text = format!(
                "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"
            );
            return Err(Refusal::new(RefusalKind::Precondition, text));
        }
        // Operators see both unreachable and down as "down", so a node in either tier can be removed without `force`.
        let is_down = matches!(node.reachability, Reachability::Unreachable | Reachability::Down);
        if !is_down && !force {
            let text = format!("node {id} is not down and can't be removed");
            return Err(Refusal::new(RefusalKind::Precondition, text));
        }
        let tasks: Vec<_> = self.tasks_on(id).map(|task| task.id).collect();
        for task in tasks {
            self.write_off_task(task, "its node was removed from the cluster", events)?;
        }
        let homes = self.homes.iter().filter(|(_, node)| **node == id);
        for slot in homes.map(|(slot, _)| *slot).collect::<Vec<_>>() {
            self.homes.remove(&slot);
        }
        self.nodes.remove(&id);
        self.manager_nodes.remove(&id);
        self.assignments.remove(&id);
        self.requests.remove(&id);
        let now = self.at;
        let expired = self.cluster.as_ref().map(|cluster| cluster.certificates_expired_at(now) + REMOVED_MARGIN);
        let until = expired.map_or(until, |expired| until.max(expired));
        self.forget_removals(now);
        self.put_removal(id, until);
        events.push(Event::Node { old: Some(node), new: None });
        Ok(())
    }

    pub(super) fn existing_node(&self, id: NodeId) -> Result<&Arc<Node>, Refusal> {
        self.nodes.get(&id).ok_or_else(|| Refusal::not_found("node", id))
    }

    /// Changes a node. With `by_operator` its version grows, so that an operator who read the node before must read it
    /// again. What a machine reports and what managers conclude leaves the version as it is.
    pub(super) fn change_node(
        &mut self,
        id: NodeId,
        by_operator: bool,
        events: &mut Vec<Event>,
        change: impl FnOnce(&mut Node),
    ) -> Made {
        let old = Arc::clone(self.existing_node(id)?);
        let mut new = (*old).clone();
        change(&mut new);
        if new != *old {
            let version = if by_operator { self.applied.index } else { old.meta.version };
            new.meta.touch(version, self.at);
            let new = Arc::new(new);
            self.put_node(Arc::clone(&new));
            events.push(Event::Node { old: Some(old), new: Some(new) });
        }
        Ok(())
    }
}

impl Node {
    /// Records the daemon start `generation`. A start newer than the one that left means that the node is back in the
    /// cluster.
    fn start_again(&mut self, generation: Generation) {
        if generation > self.generation {
            self.departure = None;
        }
        self.generation = generation;
    }
}
