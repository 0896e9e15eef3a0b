//! Integration of openraft: everything that knows openraft is in this folder.
//!
//! openraft (an alpha, pinned) decides; this folder gives it a log ([`log_store`]), a state machine ([`machine`]), a
//! network ([`network`], and [`serve`] at the other end) and its configuration ([`settings`]). Its types never leave
//! the folder: what goes to disk or over the wire is translated by [`convert`] into the frozen types of `format`.
//!
//! Its randomness (election timeouts) comes from the node's seed: the runtime is wrapped so that every task that it
//! spawns carries a generator of its own. Our tasks that make openraft spawn therefore run inside [`seeded`].

pub(crate) mod convert;
pub(crate) mod log_store;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod serve;

use crate::format::Peer;
use bytes::Bytes;
use essaim_model::Outcome;
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft::{Config, SnapshotPolicy};
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// The tokio runtime, as openraft sees it.
#[allow(deprecated, reason = "the new home of this type is a crate that openraft does not re-export")]
type Tokio = openraft::impls::TokioRuntime;

openraft::declare_raft_types!(
    /// Types of the Raft group. There is one leader per term, so the term alone is the fence.
    pub(crate) Types:
        D = Payload,
        R = Reply,
        NodeId = u64,
        Node = Peer,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = DeterministicRng<Tokio>,
);

pub(crate) type Raft = openraft::Raft<Types, machine::Machine>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type Metrics = openraft::RaftMetrics<Types>;

/// Interval of a leader's heartbeats.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(50);

/// Shortest election timeout: a follower that heard nothing for this long (and up to twice as long, drawn anew each
/// time) asks for votes.
pub(crate) const ELECTION_MIN: Duration = Duration::from_millis(150);

/// Lease of a leader: when a majority has not answered for this long, there may be a successor, and the leader must no
/// longer act on its own.
pub(crate) const LEASE: Duration = Duration::from_millis(300);

/// An encoded command, opaque to openraft.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Result of applying an entry: an outcome for a proposal, none for other entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply(pub(crate) Option<Outcome>);

/// Configuration of openraft. Snapshots are triggered by the size of the log, in `housekeeping`, not by the number of
/// entries.
pub(crate) fn settings(cluster: String, entries_kept: u64) -> Config {
    Config {
        cluster_name: cluster,
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min: millis(ELECTION_MIN),
        election_timeout_max: millis(LEASE),
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: entries_kept,
        // Time for a whole snapshot to arrive and be installed; the transfer itself reports when it stalls.
        install_snapshot_timeout: 600_000,
        // A leader that restarts may not know how far it had committed, so it asks for votes like every other manager.
        enable_leader_restore: Some(false),
        // A follower whose disk lost the end of its log gets the entries again, instead of stopping the leader.
        allow_log_reversion: Some(true),
        backoff: "20ms 40ms 80ms ...500ms".into(),
        api_channel_size: Some(4096),
        notification_channel_size: Some(4096),
        ..Config::default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("settings are short")
}

/// Runs a future in which openraft may spawn tasks and draw random numbers.
pub(crate) fn seeded<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
    DeterministicRng::<Tokio>::scope(seed, future)
}

/// Runs `work` on a thread for blocking work when the disk blocks, else right here.
pub(crate) async fn aside<T: Send + 'static>(blocks: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
    if !blocks {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}
