//! The leader's tree: the actors that decide, on the one manager that leads.
//!
//! The tree is started when the store says that this manager leads *and* knows the latest state. It is stopped when
//! this manager no longer leads, or has not heard of a majority for a lease. Its actors decide by pure functions of
//! `policy` over the state that the store publishes, and act by proposals that carry the term (a fence): proposals of a
//! deposed leader are void. The tree is rebuilt from the state, and holds nothing durable.
//!
//! Every decision is level-triggered. The leader's actor follows the manager's change feed and notifies the actors that
//! the events concern. Each of them looks at the newest state, however many events there were since its last look,
//! because a mailbox holds at most one notification (coalescing):
//!
//! - [`service`]: one actor for each service: decides what the service needs, and when to look again.
//! - [`scheduler`]: gathers what services need, finds nodes, proposes, and tries waiting tasks again.
//! - [`liveness`]: turns verdicts of the roster into facts of the state, and applies the brake.
//! - [`roles`]: promotes and demotes managers, step by step.
//! - [`authority`]: enrols machines and signs certificates.
//! - [`reaper`]: removes ended tasks.
//! - `measure`: which services a leader notifies after events; for benchmarks.

mod actor;
mod authority;
mod context;
mod liveness;
#[cfg(any(test, feature = "checks"))]
mod measure;
mod reaper;
mod roles;
mod scheduler;
mod service;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "checks"))]
pub use measure::ConcernedServices;

use crate::ManagerArguments;
use crate::ballots::BallotBox;
use crate::feed::Feed;
use actor::{Arguments, Leader};
use essaim_system::ChildSpec;
use essaim_wire::Term;
use std::time::Duration;

/// Name of the leader's actor below `manager`.
pub(crate) const NAME: &str = "leader";

/// Upper bound on the time that the tree takes to stop. Its children stop at once, since they own nothing.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Describes the leader's tree of this manager for `term`, which follows the manager's change feed.
pub(crate) fn spec(manager: &ManagerArguments, ballots: &BallotBox, feed: &Feed, term: Term) -> ChildSpec {
    let (manager, ballots, feed) = (manager.clone(), ballots.clone(), feed.clone());
    let make = move |scope| {
        let (manager, ballots, feed) = (manager.clone(), ballots.clone(), feed.clone());
        (Leader, Arguments { scope, manager, ballots, feed, term })
    };
    ChildSpec::actor(NAME, make).shutdown(SHUTDOWN)
}
