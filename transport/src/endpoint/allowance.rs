//! What a peer may occupy of this node: streams, bytes that were not read yet, frames that are half here.
//!
//! A worker is trusted to run tasks, not to be well: a broken or hostile one must not take a manager's memory, nor the
//! turns of others. So every number that a peer can drive up has a limit for each session, low for workers and high
//! for managers, who could stop the cluster anyhow. QUIC keeps the first two limits before a byte is read; the places
//! of a lane are counted here.

use crate::frame::MAX_FRAME;
use crate::lane::{Lane, Traffic};
use essaim_wire::Role;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a peer may do before it is known who it is: one stream, for the Hello of a node or the question of a joiner,
/// and the bytes of a few such frames.
pub(crate) const STRANGER: Allowance = Allowance { streams: 1, window: 64 << 10 };

/// Streams of a worker at once: twice what [`places`] lets it use, so that one stream that is about to end is not in
/// the way of the next.
const STREAMS_OF_A_WORKER: u32 = 16;

/// Streams of a manager at once: between managers, each proposal and each append takes one; on the bulk connection,
/// each task whose log is read.
const STREAMS_OF_A_MANAGER: u32 = 1024;

/// Bytes that were not read yet on the control connection of a worker: at 1 ms of round trip they carry 2 GB/s, and
/// reports and tables fit.
const WINDOW_OF_A_WORKER: u32 = 2 << 20;

/// The same for managers, and for logs: eight streams at their full window, so that a few that nobody reads at the
/// moment do not hold up the others.
const WINDOW: u32 = 8 << 20;

/// What QUIC lets a peer do on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Streams of the peer that are open at once. One more waits at the peer.
    pub streams: u32,
    /// Bytes of the peer that were not read yet, and bytes for it that were not acknowledged yet.
    pub window: u32,
}

impl Allowance {
    /// What a peer may do on a session with this node, by the role of either.
    pub(super) const fn of(here: Role, peer: Role, traffic: Traffic) -> Self {
        match (here, peer, traffic) {
            (_, Role::Manager, Traffic::Bulk) | (Role::Manager, Role::Manager, Traffic::Control) => {
                Self { streams: STREAMS_OF_A_MANAGER, window: WINDOW }
            }
            (Role::Worker, Role::Manager, Traffic::Control) => Self { streams: STREAMS_OF_A_WORKER, window: WINDOW },
            (_, Role::Worker, Traffic::Control) => Self { streams: STREAMS_OF_A_WORKER, window: WINDOW_OF_A_WORKER },
            // A worker opens no bulk lane; what it sends there is asked for by a manager.
            (_, Role::Worker, Traffic::Bulk) => Self { streams: STRANGER.streams, window: WINDOW },
        }
    }
}

/// How many streams of a lane a peer may have open at once.
const fn places(lane: Lane, peer: Role) -> usize {
    match (lane, peer) {
        // One is enough; a new one may stand before the end of the old one was noticed.
        (Lane::Link | Lane::Ballots, _) => 3,
        // A detector compares tables with one peer after the other.
        (Lane::Members, _) => 2,
        // A manager forwards what strangers ask: as many at once as it takes in.
        (Lane::Enrol, Role::Manager) => 128,
        (Lane::Enrol, Role::Worker) => 2,
        // One for each operator who looks at the cluster through this manager.
        (Lane::View, _) => 16,
        (Lane::Raft | Lane::Propose | Lane::Snapshot | Lane::Logs, _) => STREAMS_OF_A_MANAGER as usize,
    }
}

/// The longest frame that whoever serves the lane takes.
pub(super) const fn frame_max(lane: Lane) -> usize {
    match lane {
        Lane::Link | Lane::Members | Lane::Raft | Lane::Propose | Lane::Snapshot => MAX_FRAME,
        // Some 64 nodes with the accusations of each.
        Lane::Ballots => 256 << 10,
        // Questions: which part of a tree or log, or some 250 bytes of a request for a certificate.
        Lane::View | Lane::Enrol | Lane::Logs => 16 << 10,
    }
}

/// The streams of one session, by lane.
#[derive(Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<Lane, usize>>>);

/// The place of one stream; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    lane: Lane,
    places: Arc<Mutex<BTreeMap<Lane, usize>>>,
}

impl Places {
    /// A place for one more stream of the lane; `None` when the peer has as many as it may have.
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
