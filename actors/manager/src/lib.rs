//! Who acts on what the managers agreed on.
//!
//! On every manager: an actor for each node that is linked here, and the requests of operators. On the leader alone:
//! the tree that reconciles, places, judges and signs. Everything decided here is a pure function of `policy`, over the
//! state that the store publishes; everything done is a proposal.
//!
//! In suggested reading order:
//!
//! - [`control`]: requests of operators, one file a noun.
//! - `actor`: `/n/manager`, which holds the others.
//! - `node`: one actor for each linked node.
//! - `quorum`: whether the managers that are left could agree.
//! - `reports`: what workers report, merged into few entries.
//! - `leader`: the leader's tree.

mod actor;
mod ballots;
pub mod control;
mod leader;
mod node;
mod quorum;
mod reports;

pub use actor::{Manager, ManagerArguments};
pub use control::Control;
#[cfg(feature = "checks")]
pub use node::LinkedNodes;
