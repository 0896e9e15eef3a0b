//! The leader's tree on a store of its own, with the real detector among machines on the simulated network. What a
//! worker would report is reported by the test.

mod bed;
mod hostile;
mod stories;
mod trust;

pub(super) use essaim_model::fixtures::{service as spec, worker as node};
use essaim_model::{Authority, Change, Founding, ManagerStatus, fixtures};

/// A cluster with the manager 1, which keeps these as its root of trust.
pub(super) fn founding(certificate: String, key: String) -> Founding {
    let mut founding = fixtures::founding();
    founding.cluster.authority = Authority { certificate, key, rotations: 0 };
    founding.node.manager = Some(ManagerStatus { raft_id: 1, voter: true });
    founding
}

/// The first change of a log in which nobody asks for certificates.
pub(super) fn found() -> Change {
    Change::Found(Box::new(founding(String::new(), String::new())))
}
