//! Quarantine: what a removed network had is given to no other network for a while.
//!
//! Machines that were away, and programs that remember addresses, may still mean the removed network by its VNI or by an
//! address in its subnets. The state keeps both with the time of the removal, by its own time, and forgets them when the
//! time is over. So nothing depends on which manager leads, or on how long it has led. An operator who names a subnet
//! gets it at once.

use crate::noun::network::Allocation;
use crate::{AnyObject, NetworkId, State};
use essaim_wire::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Time for which nothing that was released is given out again: longer than a machine is missed before its tasks are
/// written off, and than programs keep the answer of a name server.
pub const QUARANTINE: Duration = Duration::from_secs(30);

/// What a removed network had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Time of the network's removal, by the state's own time.
    pub since: Timestamp,
    /// VNI and subnets of the network.
    pub allocation: Arc<Allocation>,
}

impl State {
    /// What networks had that were removed within the last [`QUARANTINE`], those removed first before the others.
    pub fn quarantined(&self) -> impl Iterator<Item = Quarantined> + '_ {
        let entries = self.quarantine.iter();
        entries.map(|((since, _), allocation)| Quarantined { since: *since, allocation: Arc::clone(allocation) })
    }

    /// Keeps what a removed network had.
    pub(crate) fn put_into_quarantine(&mut self, removed: &AnyObject) {
        if let AnyObject::Network(network) = removed {
            self.quarantine.insert((self.at, network.id), Arc::new(network.spec.allocation.clone()));
        }
    }

    /// Forgets what was kept long enough. The cost is that of the entries that are forgotten.
    pub(crate) fn end_quarantine(&mut self) {
        let over = |(since, _): &(Timestamp, NetworkId)| *since + QUARANTINE <= self.at;
        while let Some(key) = self.quarantine.get_min().map(|(key, _)| *key).filter(over) {
            self.quarantine.remove(&key);
        }
    }
}
