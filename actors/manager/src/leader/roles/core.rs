//! The steps of promotions and demotions that are due, derived from the records of the nodes and the members of the
//! group.

use crate::quorum::agree_without;
use essaim_model::{ManagerStatus, Node, State};
use essaim_store::MemberStatus;
use essaim_wire::{Level, NodeId, Role};
use std::net::SocketAddr;

/// One step of a promotion or demotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Set the node's record to this role and place in the group.
    Record { node: NodeId, role: Role, manager: Option<ManagerStatus> },
    /// Admit the node to the group as a learner, and make it a voter when it has caught up.
    Admit { node: NodeId, raft_id: u64, addr: Option<SocketAddr> },
    /// Release this number from the group.
    LetGo { node: NodeId, raft_id: u64 },
}

/// The level to raise the cluster to, once every manager by record and every member of the group understands it.
pub(super) fn level_due(state: &State, members: &[MemberStatus]) -> Option<Level> {
    // A stray member of the group, whose node is no manager on record, is released first: until then it reads the log.
    let stray = |member: &MemberStatus| state.node(member.node).is_none_or(|node| node.role != Role::Manager);
    state.level_to_raise_to().filter(|_| !members.iter().any(stray))
}

impl Step {
    /// The node of the step; a node takes one step at a time. A step under way is never given up for another one: a change of
    /// the group that is dropped half-way leaves it with the majorities of both configurations to satisfy.
    pub(super) const fn node(&self) -> NodeId {
        match self {
            Self::Record { node, .. } | Self::Admit { node, .. } | Self::LetGo { node, .. } => *node,
        }
    }
}

/// The steps that are due now, one for each node.
pub(super) fn due(state: &State, members: &[MemberStatus]) -> Vec<Step> {
    if state.cluster().is_none() {
        // The first manager is a member of the group before the founding of its cluster is committed.
        return Vec::new();
    }
    let step = |node: &std::sync::Arc<Node>| step_of(node, wished(state, node, members), members);
    let mut steps: Vec<Step> = state.nodes().filter_map(step).collect();
    // Members of the group whose nodes are no longer part of the cluster.
    let strays = members.iter().filter(|member| state.node(member.node).is_none());
    steps.extend(strays.map(|stray| Step::LetGo { node: stray.node, raft_id: stray.raft_id }));
    steps
}

/// The role that a node should have. A node that leaves is released from the group as soon as the other managers can
/// agree without it: releasing it earlier would cost them the quorum for good. From then on it stays a worker, also when too
/// few managers answer later: it may be gone, and would be waited for in the group.
fn wished(state: &State, node: &Node, members: &[MemberStatus]) -> Role {
    let votes = || members.iter().any(|member| member.node == node.id && member.voter);
    match node.departure {
        Some(_) if !votes() || agree_without(state, node.id) => Role::Worker,
        _ => node.spec.role,
    }
}

fn step_of(node: &Node, wished: Role, members: &[MemberStatus]) -> Option<Step> {
    let id = node.id;
    let own = || members.iter().filter(|member| member.node == id);
    let status = node.manager.filter(|_| wished == Role::Manager);
    // The node has a number in the group that is an earlier one of its numbers, or that it should no longer have.
    if let Some(old) = own().find(|member| status.is_none_or(|status| status.raft_id != member.raft_id)) {
        return Some(Step::LetGo { node: id, raft_id: old.raft_id });
    }
    match (wished, status) {
        (Role::Worker, _) => {
            let is_done = node.role == Role::Worker && node.manager.is_none();
            (!is_done).then_some(Step::Record { node: id, role: Role::Worker, manager: None })
        }
        (Role::Manager, None) => {
            // The number in the group is the log index at which the operator's wish was committed, so no other wish has
            // it.
            let manager = ManagerStatus { raft_id: node.meta.version.0, voter: false };
            Some(Step::Record { node: id, role: Role::Manager, manager: Some(manager) })
        }
        (Role::Manager, Some(status)) => {
            let votes = own().any(|member| member.voter);
            match (votes, status.voter) {
                (true, true) => None,
                (true, false) => {
                    let manager = ManagerStatus { voter: true, ..status };
                    Some(Step::Record { node: id, role: Role::Manager, manager: Some(manager) })
                }
                (false, _) => Some(Step::Admit { node: id, raft_id: status.raft_id, addr: node.addr }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::tests::{found, node};
    use essaim_model::{Change, fixtures};
    use essaim_wire::{Generation, Reachability, Timestamp};

    struct World {
        state: State,
        members: Vec<MemberStatus>,
    }

    fn id(number: u128) -> NodeId {
        NodeId::from_bits(number)
    }

    impl World {
        fn new() -> Self {
            let mut world = Self { state: State::default(), members: vec![] };
            world.member(1, 1, true);
            world.done(found());
            world.done(Change::AcceptNode(Box::new(node(2))));
            world
        }

        fn done(&mut self, change: Change) {
            fixtures::done(&mut self.state, Timestamp::default(), vec![change]);
        }

        fn wish(&mut self, number: u128, role: Role) {
            let node = self.state.node(id(number)).expect("there").clone();
            let spec = essaim_model::NodeSpec { role, ..node.spec.clone() };
            self.done(Change::SetNode { id: id(number), expect: node.meta.version, spec });
        }

        fn member(&mut self, number: u128, raft_id: u64, voter: bool) {
            self.members.retain(|member| member.raft_id != raft_id);
            self.members.push(MemberStatus { node: id(number), raft_id, voter, matched: None, answers: None });
        }

        /// Takes the one step that is due, and changes the record or the group as the store would.
        fn step(&mut self) -> String {
            let due = due(&self.state, &self.members);
            let [step] = due.as_slice() else { panic!("one step: {due:?}") };
            match step.clone() {
                Step::Record { node, role, manager } => {
                    self.done(Change::SetRole { id: node, role, manager });
                    format!("record {} {role} {:?}", node.bits(), manager.map(|it| (it.raft_id, it.voter)))
                }
                Step::Admit { node, raft_id, .. } => {
                    self.member(node.bits(), raft_id, true);
                    format!("admit {} as {raft_id}", node.bits())
                }
                Step::LetGo { node, raft_id } => {
                    self.members.retain(|member| member.raft_id != raft_id);
                    format!("let go {} as {raft_id}", node.bits())
                }
            }
        }
    }

    #[test]
    fn nothing_is_due_when_record_and_group_agree() {
        assert_eq!(due(&World::new().state, &World::new().members), []);
    }

    #[test]
    fn a_promotion_is_recorded_then_admitted_then_recorded_again() {
        let mut world = World::new();
        world.wish(2, Role::Manager);
        let steps = [world.step(), world.step(), world.step()];
        assert_eq!(steps, ["record 2 manager Some((3, false))", "admit 2 as 3", "record 2 manager Some((3, true))"]);
        assert_eq!(due(&world.state, &world.members), []);
    }

    #[test]
    fn a_demotion_leaves_the_group_before_it_is_recorded_and_a_new_promotion_has_a_new_number() {
        let mut world = World::new();
        world.wish(2, Role::Manager);
        (0..3).for_each(|_| drop(world.step()));
        world.wish(2, Role::Worker);
        assert_eq!([world.step(), world.step()], ["let go 2 as 3", "record 2 worker None"]);
        world.wish(2, Role::Manager);
        assert_eq!(world.step(), "record 2 manager Some((8, false))");
        assert_eq!(world.step(), "admit 2 as 8");
    }

    #[test]
    fn a_promotion_that_is_taken_back_half_way_leaves_nothing_behind() {
        let mut world = World::new();
        world.wish(2, Role::Manager);
        world.step();
        world.member(2, 3, false);
        world.wish(2, Role::Worker);
        assert_eq!([world.step(), world.step()], ["let go 2 as 3", "record 2 worker None"]);
        assert_eq!(due(&world.state, &world.members), []);
    }

    #[test]
    fn the_level_is_raised_when_every_manager_of_record_and_group_understands_it() {
        let mut world = World::new();
        world.wish(2, Role::Manager);
        world.step();
        world.member(2, 3, false);
        assert_eq!(level_due(&world.state, &world.members), None, "the cluster was made at the newest level");
        let describe = |id, level| {
            let (generation, addr) = (Generation(1), SocketAddr::from(([127, 0, 0, 1], 2377)));
            Change::DescribeNode { id, generation, addr, level, description: None }
        };
        let next = Level(Level::NEWEST.0 + 1);
        world.done(describe(id(1), next));
        assert_eq!(level_due(&world.state, &world.members), None, "a learner does not understand it");
        world.done(describe(id(2), next));
        assert_eq!(level_due(&world.state, &world.members), Some(next));
        world.member(77, 9, true);
        assert_eq!(level_due(&world.state, &world.members), None, "nobody knows what the stray understands");
    }

    #[test]
    fn a_manager_that_leaves_is_let_go_where_the_others_can_agree_without_it() {
        let mut world = World::new();
        world.wish(2, Role::Manager);
        (0..3).for_each(|_| drop(world.step()));
        let departs = |left| Change::DepartNode { id: id(2), generation: Generation(1), left };
        let reach = |reachability| Change::SetReachability {
            id: id(1),
            generation: Generation(1),
            reachability,
            message: String::new(),
        };
        world.done(reach(Reachability::Down));
        world.done(departs(false));
        assert_eq!(due(&world.state, &world.members), [], "the other one would be without a quorum");
        world.done(reach(Reachability::Reachable));
        assert_eq!([world.step(), world.step()], ["let go 2 as 3", "record 2 worker None"]);
        assert_eq!(due(&world.state, &world.members), []);
        world.done(departs(true));
        assert_eq!(due(&world.state, &world.members), []);
    }

    #[test]
    fn a_manager_that_leaves_and_was_let_go_is_not_taken_in_again_when_others_do_not_answer() {
        let mut world = World::new();
        world.wish(2, Role::Manager);
        (0..3).for_each(|_| drop(world.step()));
        world.done(Change::DepartNode { id: id(2), generation: Generation(1), left: false });
        assert_eq!(world.step(), "let go 2 as 3");
        let (generation, reachability) = (Generation(1), Reachability::Unreachable);
        let message = String::new();
        world.done(Change::SetReachability { id: id(1), generation, reachability, message });
        assert_eq!(world.step(), "record 2 worker None");
        assert_eq!(due(&world.state, &world.members), []);
    }

    #[test]
    fn the_last_manager_stays_one_when_it_leaves() {
        let mut world = World::new();
        world.done(Change::DepartNode { id: id(1), generation: Generation(1), left: true });
        assert_eq!(due(&world.state, &world.members), []);
    }

    #[test]
    fn a_number_of_a_node_that_is_gone_is_let_go() {
        let mut world = World::new();
        world.member(77, 9, true);
        assert_eq!(world.step(), "let go 77 as 9");
    }
}
