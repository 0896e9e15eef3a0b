//! Verdicts as sentences for operators, and on which nodes they are recorded.

use super::Roster;
use essaim_membership::{Downfall, Evidence, Lie, Verdict};
use essaim_wire::{NodeId, Role};

/// Whether this node records the verdict: the accusers, the subject and the managers do.
pub(super) fn is_recorded(verdict: &Verdict, roster: &Roster, role: Role) -> bool {
    let me = roster.me.node;
    let accuses = match verdict {
        Verdict::Suspected { accusers, .. } => accusers.contains(&me),
        Verdict::Unreachable {
            evidence: Evidence::Quorum { accusers, .. } | Evidence::Probed { accusers }, ..
        } => accusers.contains(&me),
        // Only the node that received a lie knows of it.
        Verdict::Lied { .. } => true,
        _ => false,
    };
    role == Role::Manager || accuses || verdict.node().is_none_or(|node| node == me)
}

/// The verdict as a sentence for operators.
pub(super) fn say(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Joined { member } => {
            format!("{} joined from {} as {}, start {}", member.node, member.addr, member.role, member.generation.0)
        }
        Verdict::Suspected { node, accusers } => format!("{node} is suspected by {}", names(accusers)),
        Verdict::Unreachable { node, evidence } => format!("{node} is unreachable: {}", reason(evidence)),
        Verdict::Refuted { node, was } => format!("{node} lives after all; it was taken for {was:?}"),
        Verdict::Down { node, cause } => format!("{node} is down: {}", downfall(*cause)),
        Verdict::Left { node } => format!("{node} left the cluster"),
        Verdict::Restarting { node, until } => format!("{node} restarts, and is missed from {until:?} on"),
        Verdict::Restarted { node, generation } => format!("{node} is back as start {}", generation.0),
        Verdict::Flapping { node } => format!("{node} was unreachable too often lately: no new tasks for now"),
        Verdict::Steady { node } => format!("{node} is steady again"),
        Verdict::Lied { node, about, lie } => {
            let lie = match lie {
                Lie::Unsigned => "passed on a statement that is not signed by it",
                Lie::Farewell => "said that it goes away, without its word for that",
                Lie::Observers => "said that more observers accuse it than there can be",
                Lie::Generation => "said that it was started more often than it can have been",
            };
            format!("{node} lies about {about}: it {lie}; that was not believed")
        }
        Verdict::Isolated => "this node misses most of those it observes: it accuses nobody".into(),
        Verdict::Rejoined => "this node hears most of those it observes again".into(),
    }
}

fn reason(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Quorum { accusers, implicit, needed } if implicit.is_empty() => {
            format!("missed by {} of its observers, {needed} needed ({})", accusers.len(), names(accusers))
        }
        Evidence::Quorum { accusers, implicit, needed } => format!(
            "missed by {} of its observers ({}), and {} more are accused themselves ({}), {needed} needed",
            accusers.len(),
            names(accusers),
            implicit.len(),
            names(implicit)
        ),
        Evidence::Probed { accusers } => format!("it answered no probe of {}", names(accusers)),
        Evidence::Overdue => "it said that it would be back by now".into(),
    }
}

fn downfall(cause: Downfall) -> &'static str {
    match cause {
        Downfall::Grace => "unreachable for the whole grace",
        Downfall::Stopped => "it said so, its tasks have ended",
        Downfall::Told => "others said so when this node joined",
        Downfall::Unheard => "it was expected and never heard of",
    }
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}
