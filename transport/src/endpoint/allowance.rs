//! Limits on what a peer may occupy of this node: streams, unread bytes, incomplete frames.
//!
//! A worker is trusted to run tasks, not to work correctly: a broken or hostile one must not take a manager's memory,
//! nor the turns of other peers. So every number that a peer can drive up has a limit for each session, low for workers
//! and high for managers, which could stop the cluster anyway. QUIC enforces the first two limits (flow control) before
//! a byte is read; the places of a lane are counted here.

use crate::frame::MAX_FRAME;
use crate::lane::{Lane, Traffic};
use essaim_wire::Role;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Limits of a peer before its identity is known: one stream, for the Hello of a node or the question of a joiner, and
/// the bytes of a few such frames.
pub(crate) const STRANGER: Allowance = Allowance { streams: 1, window: 64 << 10 };

/// Concurrent streams of a worker: twice what [`places`] allows, so that a stream that is about to end does not delay
/// the next one.
const STREAMS_OF_A_WORKER: u32 = 16;

/// Concurrent streams of a manager: between managers, each proposal and each append takes one; on the bulk connection,
/// each task whose log is read.
const STREAMS_OF_A_MANAGER: u32 = 1024;

/// Unread bytes on the control connection of a worker: at a round trip of 1 ms they carry 2 GB/s, and reports and
/// tables fit.
const WINDOW_OF_A_WORKER: u32 = 2 << 20;

/// Unread bytes on other connections (of managers, and for logs): eight streams at their full window, so that a few
/// streams that no task reads at the moment do not hold up the others.
const WINDOW: u32 = 8 << 20;

/// QUIC's limits for a peer on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Concurrent streams that the peer may open. A further one waits at the peer.
    pub streams: u32,
    /// Bytes of the peer that have not been read yet, and bytes for the peer that have not been acknowledged yet.
    pub window: u32,
}

impl Allowance {
    /// Limits of a peer on a session with this node, by the roles of both.
    pub(super) const fn of(here: Role, peer: Role, traffic: Traffic) -> Self {
        match (here, peer, traffic) {
            (_, Role::Manager, Traffic::Bulk) | (Role::Manager, Role::Manager, Traffic::Control) => {
                Self { streams: STREAMS_OF_A_MANAGER, window: WINDOW }
            }
            (Role::Worker, Role::Manager, Traffic::Control) => Self { streams: STREAMS_OF_A_WORKER, window: WINDOW },
            (_, Role::Worker, Traffic::Control) => Self { streams: STREAMS_OF_A_WORKER, window: WINDOW_OF_A_WORKER },
            // A worker opens no bulk lane; what it sends over one was requested by a manager.
            (_, Role::Worker, Traffic::Bulk) => Self { streams: STRANGER.streams, window: WINDOW },
        }
    }
}

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
        (Lane::Raft | Lane::Propose | Lane::Snapshot | Lane::Logs, _) => STREAMS_OF_A_MANAGER as usize,
    }
}

/// Upper bound in bytes on a frame that the server of the lane accepts.
pub(super) const fn frame_max(lane: Lane) -> usize {
    match lane {
        Lane::Link | Lane::Members | Lane::Raft | Lane::Propose | Lane::Snapshot => MAX_FRAME,
        // Some 64 nodes with their accusations.
        Lane::Ballots => 256 << 10,
        // Requests: for a part of a tree or log, or some 250 bytes for a certificate.
        Lane::View | Lane::Enrol | Lane::Logs => 16 << 10,
    }
}

/// Numbers of streams that the peer of one session has open, by lane.
#[derive(Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<Lane, usize>>>);

/// Place of one stream; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    lane: Lane,
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
        Some(Place { lane, places: Arc::clone(&self.0) })
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
    use crate::lane::Direction;

    #[test]
    fn a_worker_occupies_32_mib_of_a_manager_at_most() {
        let windows = [Traffic::Control, Traffic::Bulk]
            .map(|traffic| Allowance::of(Role::Manager, Role::Worker, traffic).window as usize);
        let frames = Lane::ALL
            .into_iter()
            .filter(|lane| lane.least_role(Direction::Incoming) == Role::Worker)
            .map(|lane| places(lane, Role::Worker) * frame_max(lane));
        let bytes = windows.iter().sum::<usize>() + frames.sum::<usize>();
        assert!(bytes <= 32 << 20, "{bytes}");
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
