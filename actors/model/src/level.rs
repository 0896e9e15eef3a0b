//! The level of the cluster: which changes every manager can read.
//!
//! Managers of several builds share one log while a cluster is upgraded node by node. A manager that meets an entry it
//! cannot read has to stop, because to skip the entry would be to diverge. So the cluster has a level, the lowest that
//! all its managers understand. [`Change::level`] says which level a change needs. A change that is newer than the
//! cluster's level is refused by [`State::apply`], and with the same words by the store before it gets into the log.
//! When every manager understands more, the leader raises the level with a commit. The level never goes down, because
//! the log keeps its entries.
//!
//! A node reports its level over its own link with each start of its daemon; before that, its level comes from its
//! enrolment.

#[cfg(test)]
mod tests;

use crate::{Change, ConfigSpec, Constraint, Node, Noun, Refusal, RefusalKind, ServiceSpec, State};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Level, Role};
use std::fmt::Write;
use std::sync::Arc;

/// Managers that a refusal names; further ones are only counted.
const NAMED_MAX: usize = 3;

impl Change {
    /// The lowest level whose programs can read this change. A new variant needs the level that it was introduced with.
    /// So does a change whose objects use a new version of a record or a new variant of an enum inside it. A test finds
    /// all of these, and compares them with the levels that are listed there.
    pub fn level(&self) -> Level {
        match self {
            Self::Found(_)
            | Self::SetCluster { .. }
            | Self::RotateJoinSecret { .. }
            | Self::BeginLineage { .. }
            | Self::RaiseLevel(_)
            | Self::AcceptNode(_)
            | Self::DescribeNode { .. }
            | Self::SetNode { .. }
            | Self::SetRole { .. }
            | Self::SetReachability { .. }
            | Self::SetSteadiness { .. }
            | Self::RemoveNode { .. }
            | Self::UpdateService { spec: None, .. }
            | Self::SetUpdateStatus { .. }
            | Self::RemoveService { .. }
            | Self::CreateTask(_)
            | Self::AssignTask { .. }
            | Self::PendTask { .. }
            | Self::SetDesired { .. }
            | Self::WriteOffTask { .. }
            | Self::Observe { .. }
            | Self::ForgetTask { .. }
            | Self::CarryOutPlan { .. }
            | Self::DepartNode { .. } => Level::FIRST,
            Self::CreateService { spec, .. } | Self::UpdateService { spec: Some(spec), .. } => spec.level(),
            Self::RollBackService { .. }
            | Self::RunJob { .. }
            | Self::RejectTask { .. }
            | Self::RotatePayload { .. } => Level(2),
            Self::PutObject(put) => put.level(),
            Self::RemoveObject(id) => id.level(),
        }
    }
}

impl ServiceSpec {
    /// The lowest level whose programs can read this spec and give its tasks what it asks for: managers, which store the
    /// spec, and the nodes on which its tasks may run.
    pub fn level(&self) -> Level {
        // A program that knows no secrets and configs would start the task without the files that it reads.
        let payloads = self.task.container.payloads().next().map_or(Level::FIRST, |_| ConfigSpec::LEVEL);
        let sticky = self.sticky().map_or(Level::FIRST, |_| Self::STICKY_LEVEL);
        // A program that does not know the labels would connect elsewhere, and without a header that the task waits for.
        let has_port_labels = self.is_local_first() || !self.proxied().is_empty();
        let ports = if has_port_labels { Self::PORT_LABELS_LEVEL } else { Level::FIRST };
        let constraints = self.task.placement.iter().flat_map(|it| &it.constraints).map(Constraint::level);
        constraints.fold(payloads.max(sticky).max(ports), Level::max)
    }

    /// The lowest level whose programs know on which nodes the data of slots is.
    pub(crate) const STICKY_LEVEL: Level = Level(2);

    /// The lowest level whose programs know the labels about published ports.
    pub(crate) const PORT_LABELS_LEVEL: Level = Level(2);
}

impl State {
    /// The level of the cluster. A state that does not know its cluster yet, as on a manager that was started a moment
    /// ago, has the first one: it must allow nothing that an older manager could not read.
    pub fn level(&self) -> Level {
        self.cluster().map_or(Level::FIRST, |cluster| cluster.level)
    }

    /// Refuses changes that some manager could not read. Called by `apply`, and by the proposer's store, so that no
    /// such change gets into the log. The level only grows, so a change that one manager's state allows can be read by
    /// all managers.
    pub fn check_level(&self, changes: &[Change]) -> Result<(), Refusal> {
        let level = self.level();
        match changes.iter().map(Change::level).max() {
            Some(needed) if needed > level && !planted(Bug::NewerThanTheLevel) => Err(self.too_new(needed)),
            _ => Ok(()),
        }
    }

    /// The highest level that every manager understands, voters and learners, if it is higher than the cluster's level.
    pub fn level_to_raise_to(&self) -> Option<Level> {
        let lowest = if planted(Bug::LevelOfTheFirstManager) {
            self.readers().map(|node| node.level).max()
        } else {
            self.readers().map(|node| node.level).min()
        };
        lowest.filter(|lowest| *lowest > self.level())
    }

    /// Refuses to make a node a manager when its program cannot read the log.
    pub(crate) fn check_reads_log(&self, node: &Node, role: Role) -> Result<(), Refusal> {
        let level = self.level();
        if role == Role::Worker || node.level >= level {
            return Ok(());
        }
        let text = format!(
            "node {} {} and cannot read the log of this cluster (level {level}): upgrade essaim on it, then ask again",
            node.name(),
            older(node.level)
        );
        Err(Refusal::new(RefusalKind::Precondition, text))
    }

    /// The nodes that read the log: managers, and those that an operator wants to be one, without those that left.
    pub(crate) fn readers(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes().filter(|node| node.role.max(node.spec.role) == Role::Manager && !node.has_left())
    }

    /// The refusal of a change that needs level `needed`: names the managers that do not understand the level yet.
    pub(crate) fn too_new(&self, needed: Level) -> Refusal {
        let behind: Vec<&Arc<Node>> = self.readers().filter(|node| node.level < needed).collect();
        let text = match behind.as_slice() {
            [] => format!(
                "this needs level {needed} of the cluster, which is at level {} and will be raised in a moment: ask \
                 again",
                self.level()
            ),
            [first, others @ ..] => {
                let mut text = format!("manager {} {}", first.name(), older(first.level));
                for other in others.iter().take(NAMED_MAX - 1) {
                    let _ = write!(text, ", manager {} {}", other.name(), older(other.level));
                }
                if behind.len() > NAMED_MAX {
                    let _ = write!(text, ", and so do {} others", behind.len() - NAMED_MAX);
                }
                format!("{text}: upgrade it, then ask again (this needs level {needed})")
            }
        };
        Refusal::new(RefusalKind::Precondition, text)
    }
}

fn older(level: Level) -> String {
    match level {
        Level::UNKNOWN => "has not said yet which essaim it runs".into(),
        level => format!("runs an older essaim (level {level})"),
    }
}
