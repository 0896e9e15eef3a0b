//! Places: how many streams of each lane a peer may have open on one session, and how large its frames may be.
//!
//! These are the limits of a peer on lanes, beside what QUIC enforces for the whole connection
//! ([`Allowance`](crate::Allowance)).

use crate::allowance::{PORT_STREAMS, STREAMS_OF_A_MANAGER};
use crate::frame::MAX_FRAME;
use crate::lane::Lane;
use essaim_wire::Role;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of streams of a lane that a peer may have open at once.
const fn places(lane: Lane, peer: Role) -> usize {
    match (lane, peer) {
        // One stream is enough; a new one may be open before the end of the old one was noticed.
        (Lane::Link | Lane::Ballots, _) => 3,
        // A detector compares tables with one peer after the other.
        (Lane::Members, _) => 2,
        // A manager forwards the requests of strangers: as many at once as it accepts.
        (Lane::Enrol, Role::Manager) => 128,
        (Lane::Enrol, Role::Worker) => 2,
        // One for each operator that views the cluster through this manager.
        (Lane::View, _) => 16,
        // One for each operator that runs a program through this manager: each is a process or more.
        (Lane::Exec, _) => 32,
        (Lane::Port, _) => PORT_STREAMS as usize,
        (Lane::Raft | Lane::Propose | Lane::Snapshot | Lane::Logs, _) => STREAMS_OF_A_MANAGER as usize,
    }
}

/// Upper bound in bytes on a frame that the server of the lane accepts.
pub(super) const fn frame_max(lane: Lane) -> usize {
    match lane {
        Lane::Link | Lane::Members | Lane::Raft | Lane::Propose | Lane::Snapshot => MAX_FRAME,
        // Some 64 nodes with their accusations.
        Lane::Ballots => 256 << 10,
        // A command with its environment, or a piece of input.
        Lane::Exec => 128 << 10,
        // Requests: for a part of a tree or log, or some 250 bytes for a certificate.
        Lane::View | Lane::Enrol | Lane::Logs => 16 << 10,
        // The request alone, of some 70 bytes, is a frame; the bytes of the connection follow it.
        Lane::Port => 192,
    }
}

/// Numbers of streams that the peer of one session has open, by lane.
#[derive(Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<Lane, usize>>>);

/// Place of one stream; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    lane: Lane,
    /// Number of streams of the lane that were open when it was taken, this one among them.
    pub(super) number: usize,
    places: Arc<Mutex<BTreeMap<Lane, usize>>>,
}

impl Places {
    /// Takes a place for one more stream of the lane; `None` when the peer has used all of its places.
    pub(super) fn take(&self, lane: Lane, peer: Role) -> Option<Place> {
        let mut taken = self.0.lock();
        let taken = taken.entry(lane).or_default();
        if *taken >= places(lane, peer) {
            return None;
        }
        *taken += 1;
        Some(Place { lane, number: *taken, places: Arc::clone(&self.0) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(taken) = self.places.lock().get_mut(&self.lane) {
            *taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowance::Allowance;
    use crate::lane::{Direction, Traffic};

    #[test]
    fn a_worker_occupies_48_mib_of_a_manager_at_most() {
        let windows = [Traffic::Control, Traffic::Bulk]
            .map(|traffic| Allowance::of(Role::Manager, Role::Worker, traffic).window as usize);
        let frames = Lane::ALL
            .into_iter()
            .filter(|lane| lane.least_role(Direction::Incoming) == Role::Worker)
            .map(|lane| places(lane, Role::Worker) * frame_max(lane));
        let bytes = windows.iter().sum::<usize>() + frames.sum::<usize>();
        assert!(bytes <= 48 << 20, "{bytes}");
    }

    #[test]
    fn a_worker_gets_a_stream_for_every_place() {
        let streams: usize = Lane::ALL
            .into_iter()
            .filter(|lane| lane.least_role(Direction::Incoming) == Role::Worker)
            .filter(|lane| lane.traffic() == Traffic::Control && *lane != Lane::View)
            .map(|lane| places(lane, Role::Worker))
            .sum();
        let allowed = Allowance::of(Role::Manager, Role::Worker, Traffic::Control).streams as usize;
        assert!(streams <= allowed, "{streams} of {allowed}");
    }

    #[test]
    fn a_place_is_free_again_when_its_stream_has_ended() {
        let places = Places::default();
        let held: Vec<_> = (0..3).map(|_| places.take(Lane::Link, Role::Worker).expect("a place")).collect();
        assert!(places.take(Lane::Link, Role::Worker).is_none());
        assert!(places.take(Lane::Members, Role::Worker).is_some(), "each lane has its own");
        drop(held);
        assert!(places.take(Lane::Link, Role::Worker).is_some());
    }
}
