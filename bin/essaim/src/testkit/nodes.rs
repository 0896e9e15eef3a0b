//! The nodes of a run by number: their names, addresses and ids, and which of them run.

use crate::testkit::fault::Number;
use essaim_node::Handle;
use essaim_wire::{NodeId, Timestamp};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::time::Instant;

/// UTC time at which a run starts: the 14th of November 2023.
pub(crate) const UTC_START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// The running nodes by number, for clients and operators. Clones share one map.
pub type Running = Arc<Mutex<BTreeMap<Number, Handle>>>;

/// The present node id of each machine; a machine that is in no cluster has none.
pub(crate) type Ids = Arc<Mutex<BTreeMap<Number, NodeId>>>;

/// A node's host name.
pub fn name(number: Number) -> String {
    format!("n{number}")
}

/// A node's IP address: 10.0.0.1 is the first node's.
pub(crate) fn ip(number: Number) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low).into()
}

/// The address and port on which a node listens.
pub(crate) fn place(number: Number) -> String {
    format!("{}:2377", ip(number))
}

/// True UTC at this moment of the run, whatever a machine's clock says.
pub(crate) fn utc(begun: Instant) -> Timestamp {
    UTC_START + begun.elapsed()
}
