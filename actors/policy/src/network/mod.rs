//! What a network is given: its VNI, its subnets, and the addresses in them.
//!
//! Addresses in a subnet, and who chooses them:
//!
//! - **The gateway** of each subnet, with the network ([`allocate`]). It is the same address on every node: each node's
//!   bridge has it, answers for it to the tasks of that node, and lets no other node hear of it. So a task has the same
//!   gateway and name server wherever it runs.
//! - **An address for each node** that has tasks on the network, with the first of them: in the proposal that creates the
//!   task, so that the worker waits for nothing. The node needs it beside the gateway because answers must find back: a node
//!   that leads a client to a task on another node, or asks that task something itself, does so from an address that no
//!   other node has.
//! - **An address for each task**, in the proposal that creates it, and **one for each service** (its VIP), in the proposal
//!   that creates or updates it.
//!
//! The last three are given out by [`AddressBook`]. All are pure functions of the state and of what is proposed beside it:
//! two leaders with the same state choose the same. Nothing that was released is given out again for
//! [`QUARANTINE`](essaim_model::quarantine::QUARANTINE); the state itself keeps what was released and when, so a new
//! leader knows it too.
//!
//! - `subnets`: VNIs and subnets for new networks. `addresses`: addresses in one subnet.

mod addresses;
mod subnets;

pub use addresses::{AddressBook, Exhausted, Side};
pub use subnets::{Taken, allocate};
