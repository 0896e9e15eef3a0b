//! The leader's tree: what decides, on the one manager that leads.
//!
//! It is started when the store says that this manager leads *and* knows the latest state, and stopped when it no
//! longer does, or has not heard of a majority for a lease. Everything in it decides by pure functions of `policy`
//! over the state that the store publishes, and acts by proposals that carry the term: those of a deposed leader are
//! void. It is rebuilt from the state, and holds nothing durable.
//!
//! There is one road. The leader's actor follows the manager's change feed and notifies the actors concerned; each of
//! them looks at the state as it is then, however much has happened since (one mark a mailbox):
//!
//! - [`service`]: one for each service: what it needs, and when to look again.
//! - [`scheduler`]: gathers what services need, finds nodes, proposes. Tasks that wait are tried again here.
//! - [`liveness`]: verdicts of the roster become facts of the state; the brake.
//! - [`roles`]: promotions and demotions, step by step.
//! - [`authority`]: lets machines in and signs certificates.
//! - [`reaper`]: forgets ended tasks.

mod actor;
mod authority;
mod context;
mod liveness;
mod reaper;
mod roles;
mod scheduler;
mod service;
#[cfg(test)]
mod tests;

use crate::ManagerArguments;
use crate::ballots::Ballots;
use crate::feed::Feed;
use actor::{Arguments, Leader};
use essaim_system::ChildSpec;
use essaim_wire::Term;
use std::time::Duration;

/// What it is called below `manager`.
pub(crate) const NAME: &str = "leader";

/// How long the whole tree may take to stop: its children do so at once, since they own nothing.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// The tree of this manager for `term`, which follows its change feed.
pub(crate) fn spec(manager: &ManagerArguments, ballots: &Ballots, feed: &Feed, term: Term) -> ChildSpec {
    let (manager, ballots, feed) = (manager.clone(), ballots.clone(), feed.clone());
    let make = move |scope| {
        let (manager, ballots, feed) = (manager.clone(), ballots.clone(), feed.clone());
        (Leader, Arguments { scope, manager, ballots, feed, term })
    };
    ChildSpec::actor(NAME, make).shutdown(SHUTDOWN)
}
