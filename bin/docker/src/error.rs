//! Refusals in Docker's words and numbers: one table from the kind of refusal to HTTP status.

use essaim_model::{Refusal, RefusalKind};
use serde::{Deserialize, Serialize};

/// The body of every answer that reports an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Cause of the error and next step, for people.
    pub message: String,
}

/// Texts of refusals that Swarm answers with status 500 although the request was wrong, because the layer below its API
/// gave them no code. Clients depend on it, and the recordings are the contract.
const SAID_WITH_500: [&str; 4] =
    ["constraint expected", "key '", "invalid join token", "remote CA does not match fingerprint"];

/// The HTTP status of a refusal.
pub fn status(refusal: &Refusal) -> u16 {
    if SAID_WITH_500.iter().any(|start| refusal.text.starts_with(start)) {
        return 500;
    }
    status_of(refusal.kind)
}

/// HTTP status of each kind of refusal.
const fn status_of(kind: RefusalKind) -> u16 {
    match kind {
        RefusalKind::Invalid | RefusalKind::Precondition | RefusalKind::Denied => 400,
        RefusalKind::NotFound => 404,
        RefusalKind::AlreadyExists => 409,
        // Swarm's status for it; clients look for the words "update out of sequence" and read the object again.
        RefusalKind::OutOfSequence => 500,
        RefusalKind::NotManager | RefusalKind::AlreadyInCluster => 503,
        RefusalKind::NoQuorum | RefusalKind::Unknown | RefusalKind::Internal => 500,
        RefusalKind::Unsupported => 501,
    }
}

/// Texts of Swarm's that several routes share.
pub mod texts {
    use essaim_model::{Refusal, RefusalKind};

    /// Refusal of a cluster request by a node that is in no cluster.
    pub fn no_swarm() -> Refusal {
        Refusal::new(
            RefusalKind::NotManager,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
             node to swarm and try again.",
        )
    }

    /// Refusal of a manager's request by a worker.
    pub fn worker() -> Refusal {
        Refusal::new(
            RefusalKind::NotManager,
            "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please \
             run this command on a manager node or promote the current node to a manager.",
        )
    }

    /// Refusal of `init` or `join` by a node that is in a cluster.
    pub fn already_in_swarm() -> Refusal {
        Refusal::new(
            RefusalKind::AlreadyInCluster,
            "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another \
             one.",
        )
    }

    /// Refusal of `leave` by a node that is in no cluster.
    pub fn not_in_swarm() -> Refusal {
        Refusal::new(RefusalKind::NotManager, "This node is not part of a swarm")
    }

    /// Refusal of `leave` without force by the last manager.
    pub fn last_manager_leaves() -> Refusal {
        Refusal::new(
            RefusalKind::NotManager,
            "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last \
             manager erases all current state of the swarm. Use `--force` to ignore this message. ",
        )
    }

    /// Refusal of `leave` without force by a manager, when `reachable` of `managers` managers can be reached.
    /// Unlike in Swarm, a manager that leaves is removed from the Raft group, as long as a
    /// majority of the others can be reached.
    pub fn manager_leaves(reachable: usize, managers: usize) -> Refusal {
        let (left, others) = (reachable.saturating_sub(1), managers.saturating_sub(1));
        let consequence = if left * 2 > others {
            "The group of managers lets it go first, and goes on without it.".to_owned()
        } else {
            "Without a Raft quorum your swarm will be inaccessible. The only way to restore a swarm that has lost consensus \
             is to reinitialize it with `--force-new-cluster`."
                .to_owned()
        };
        Refusal::new(
            RefusalKind::NotManager,
            format!(
                "You are attempting to leave the swarm on a node that is participating as a manager. Removing this node \
                 leaves {left} managers out of {managers}. {consequence} Use `--force` to suppress this message."
            ),
        )
    }

    /// Warning of `info` about a cluster with two managers.
    pub const TWO_MANAGERS: &str = "WARNING: Running Swarm in a two-manager configuration. This configuration provides\n         \
         no fault tolerance, and poses a high risk to lose control over the cluster.\n         Refer to \
         https://docs.docker.com/engine/swarm/admin_guide/ to configure the\n         Swarm for fault-tolerance.";

    /// Refusal of a whole command of Swarm's that Essaim does not have yet: there is nothing to leave out of it. `way` says
    /// what to do instead; it may be empty.
    pub fn missing(command: &str, way: &str) -> Refusal {
        let way = if way.is_empty() { String::new() } else { format!(": {way}") };
        Refusal::new(RefusalKind::Unsupported, format!("Essaim does not have {command} yet{way}"))
    }

    /// Refusal of a setting of Swarm's that has no effect in Essaim yet.
    pub fn unsupported(setting: &str) -> Refusal {
        Refusal::new(RefusalKind::Unsupported, format!("{setting} is not supported by Essaim yet; leave it out"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_there_is_told_apart_from_a_flag() {
        assert_eq!(
            texts::missing("docker swarm ca --rotate", "").text,
            "Essaim does not have docker swarm ca --rotate yet"
        );
        assert!(texts::missing("x", "do y").text.ends_with(" yet: do y"));
        assert!(texts::unsupported("--autolock").text.ends_with("leave it out"));
    }

    #[test]
    fn an_invalid_constraint_has_the_status_that_swarm_gives_it() {
        assert_eq!(status(&Refusal::invalid("constraint expected one operator from ==, !=")), 500);
        assert_eq!(status(&Refusal::invalid("name must be valid as a DNS name component")), 400);
    }
}
