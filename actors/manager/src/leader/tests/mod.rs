//! Tests of the leader's tree on a store of its own, with the real detector among machines on a simulated network. The
//! tests make the reports that workers would make.

mod bed;
mod hostile;
mod logs;
mod stories;
mod trust;

pub(super) use essaim_model::fixtures::{service as spec, worker as node};
use essaim_model::{Change, Founding, ManagerStatus, RootCa, fixtures};

/// The founding of a cluster with manager 1, whose root of trust is this certificate and key.
pub(super) fn founding(certificate: String, key: String) -> Founding {
    let mut founding = fixtures::founding();
    founding.cluster.authority = RootCa { certificate, key, rotations: 0 };
    founding.node.manager = Some(ManagerStatus { raft_id: 1, voter: true });
    founding
}

/// The first change of a log, for tests in which no certificate is signed: its root of trust is empty.
pub(super) fn found() -> Change {
    Change::Found(Box::new(founding(String::new(), String::new())))
}
