//! The manager's work: it acts on the state that the managers have agreed on.
//!
//! Every manager has an actor for each node that is linked to it, and serves the requests of operators. The leader
//! alone has the tree that reconciles, places, judges and signs. Decisions are pure functions of `policy` over the
//! state that the store publishes; actions are proposals.
//!
//! In suggested reading order:
//!
//! - [`control`]: requests of operators, one file for each noun.
//! - `actor`: `/n/manager`, the parent of the other actors. `arguments`: the parts of a node that it works with.
//! - `node`: one actor for each linked node.
//! - `interests`: which linked nodes are told of the backends of which services.
//! - `quorum`: whether the remaining managers could agree.
//! - `reports`: reports of workers, merged into few log entries.
//! - `leader`: the leader's tree.

mod actor;
mod arguments;
mod ballots;
pub mod control;
mod feed;
mod interests;
mod leader;
mod node;
mod quorum;
mod reports;

pub use actor::Manager;
pub use arguments::ManagerArguments;
pub use control::Control;
#[cfg(any(test, feature = "checks"))]
pub use leader::ConcernedServices;
#[cfg(feature = "checks")]
pub use node::LinkedNodes;
