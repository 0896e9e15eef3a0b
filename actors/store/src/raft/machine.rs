//! The state machine for openraft: passes committed entries to `model::State::apply`, in order, and publishes the
//! results.
//!
//! A batch is published as one frozen state, and only then are the waiting proposals of its entries answered: a caller
//! that has an answer sees its effect. The state is in memory; after a start it is that of the newest snapshot, and
//! openraft applies the committed log from there again.
//!
//! Every [`CHECK_EVERY`] entries the state is hashed, beside the work. The leader puts its hash into the log, and a
//! manager whose own hash differs has diverged, by a bug or by faulty memory, so it stops.

use super::convert::{log_id, meta_in, stored, stored_in};
use super::{Entry, LogId, Payload, Reply, SnapshotMeta, StoredMembership, Types, aside};
use crate::events::{EventsAt, Publisher};
use crate::format::Command;
use crate::raft::log_store::LogStore;
use crate::snapshot::folder::Snapshots;
use crate::snapshot::{Image, invalid};
use essaim_model::{Position, State};
use essaim_wire::{Index, Level, Term};
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, Snapshot};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Entries between two comparisons of the managers' states.
pub(crate) const CHECK_EVERY: u64 = if cfg!(test) { 32 } else { 4096 };

/// Open comparisons: a lagging manager has the leader's hash before its own, and a fast one its own before the
/// leader's.
const CHECKS_MAX: usize = 8;

/// Entries per published batch, so that no caller waits long for the first of them.
const BATCH_MAX: usize = 256;

/// The replicated state, and what is needed to apply entries to it.
pub(crate) struct Machine {
    state: State,
    last: Option<LogId>,
    membership: StoredMembership,
    shared: Arc<MachineShared>,
}

/// The part of the state machine that the store reads.
pub(crate) struct MachineShared {
    pub(crate) publisher: Publisher,
    pub(crate) snapshots: Snapshots,
    pub(crate) checks: Checks,
    pub(crate) log: LogStore,
    /// Value of [`LogStore::grown`] when the newest snapshot was frozen.
    pub(crate) grown_at_snapshot: AtomicU64,
    /// Highest level of the log that this program understands.
    pub(crate) understands: Level,
    /// Description of data of a newer program that this one cannot read, once it was met.
    pub(crate) newer: Mutex<Option<String>>,
}

impl MachineShared {
    /// Notes that a newer program is needed, and returns the error that stops this manager: skipping data of a newer
    /// program would make the states diverge.
    fn stop_for_newer(&self, why: String) -> io::Error {
        *self.newer.lock() = Some(why.clone());
        invalid(why)
    }

    /// Refuses a state of a level that this program does not understand.
    fn check_understands(&self, state: &State) -> io::Result<()> {
        let (level, own) = (state.level(), self.understands);
        if level <= own {
            return Ok(());
        }
        Err(self.stop_for_newer(format!("the level of the cluster is {level}, and this essaim understands {own}")))
    }
}

impl Machine {
    /// Creates the state machine from the newest snapshot.
    pub(crate) fn new(image: Option<Image>, shared: Arc<MachineShared>) -> io::Result<Self> {
        let mut machine = Self { state: State::default(), last: None, membership: StoredMembership::default(), shared };
        if let Some(image) = image {
            machine.become_image(image)?;
        }
        Ok(machine)
    }

    fn become_image(&mut self, image: Image) -> io::Result<()> {
        self.shared.check_understands(&image.state)?;
        self.membership = stored_in(image.membership)?;
        self.last = image.last.map(super::convert::log_id_in);
        self.state = image.state;
        self.shared.publisher.replace(&self.state);
        Ok(())
    }

    fn image(&self) -> Image {
        Image { last: self.last.as_ref().map(log_id), membership: stored(&self.membership), state: self.state.clone() }
    }

    fn apply_one(&mut self, entry: Entry) -> io::Result<(Reply, Option<EventsAt>)> {
        let position = position(&entry.log_id);
        self.last = Some(entry.log_id);
        let applied = match entry.payload {
            EntryPayload::Blank => {
                self.state.pass(position);
                (Reply(None), None)
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                self.state.pass(position);
                (Reply(None), None)
            }
            EntryPayload::Normal(Payload(bytes)) => {
                let command = Command::open(&bytes, self.shared.understands).map_err(|why| {
                    let words = format!("entry {} of the log cannot be read: {why}", position.index.0);
                    if why.is_newer() { self.shared.stop_for_newer(words) } else { invalid(words) }
                })?;
                match command {
                    Command::Proposal(proposal) => {
                        let (outcome, events) = self.state.apply(position, &proposal);
                        self.shared.check_understands(&self.state)?;
                        let happened = EventsAt { index: position.index, events: events.into() };
                        (Reply(Some(outcome)), Some(happened))
                    }
                    Command::Check { index, hash } => {
                        self.state.pass(position);
                        self.shared.checks.claimed(Index(index), hash);
                        (Reply(None), None)
                    }
                }
            }
        };
        if position.index.0.is_multiple_of(CHECK_EVERY) {
            self.shared.checks.freeze(&self.state, &self.shared);
        }
        Ok(applied)
    }
}

fn position(id: &LogId) -> Position {
    Position { term: Term(id.committed_leader_id().term), index: Index(id.index()) }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut happened = Vec::new();
        let mut told: Vec<(ApplyResponder<Types>, Reply)> = Vec::new();
        let mut batch = 0;
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let (reply, events) = self.apply_one(entry)?;
            happened.extend(events);
            told.extend(responder.map(|responder| (responder, reply)));
            batch += 1;
            if batch == BATCH_MAX {
                self.publish(&mut happened, &mut told);
                batch = 0;
            }
        }
        self.publish(&mut happened, &mut told);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { image: self.image(), grown: self.shared.log.grown(), shared: Arc::clone(&self.shared) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> io::Result<()> {
        let snapshots = self.shared.snapshots.clone();
        let meta = super::convert::meta(meta);
        let grown = self.shared.log.grown();
        let image = aside(snapshots.blocks(), move || {
            let (_, reader) = data.folder.reader(&data.name)?;
            let image = reader.image(meta.clone())?;
            match data.draft {
                Some(len) if data.folder.is(&snapshots) => drop(snapshots.keep(&data.name, meta, len)?),
                None if data.folder.is(&snapshots) => (),
                _ => drop(snapshots.write(&image)?),
            }
            io::Result::Ok(image)
        })
        .await?;
        self.shared.grown_at_snapshot.store(grown, Ordering::Relaxed);
        self.become_image(image)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<CommittedTerm, u64, Peer, SnapshotData>>> {
        let Some(newest) = self.shared.snapshots.newest() else { return Ok(None) };
        let snapshot = SnapshotData { folder: self.shared.snapshots.clone(), name: newest.name, draft: None };
        Ok(Some(Snapshot { meta: meta_in(newest.meta)?, snapshot }))
    }
}

pub(crate) type CommittedTerm = openraft::type_config::alias::CommittedLeaderIdOf<Types>;
type Peer = crate::format::Peer;

impl Machine {
    fn publish(&self, happened: &mut Vec<EventsAt>, told: &mut Vec<(ApplyResponder<Types>, Reply)>) {
        self.shared.publisher.publish(happened.drain(..), &self.state);
        for (responder, reply) in told.drain(..) {
            responder.send(reply);
        }
    }
}

/// A snapshot in a file: one of this manager's, or a draft that has just arrived and has no final name yet.
pub(crate) struct SnapshotData {
    pub(crate) folder: Snapshots,
    pub(crate) name: String,
    /// Length of the file in bytes while it is a draft.
    pub(crate) draft: Option<u64>,
}

/// Writes a snapshot of a frozen state, concurrently with other work.
pub(crate) struct Builder {
    image: Image,
    grown: u64,
    shared: Arc<MachineShared>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<CommittedTerm, u64, Peer, SnapshotData>> {
        let (image, snapshots) = (self.image.clone(), self.shared.snapshots.clone());
        let stored = aside(snapshots.blocks(), move || snapshots.write(&image)).await?;
        self.shared.grown_at_snapshot.store(self.grown, Ordering::Relaxed);
        let snapshot = SnapshotData { folder: self.shared.snapshots.clone(), name: stored.name, draft: None };
        Ok(Snapshot { meta: meta_in(stored.meta)?, snapshot })
    }
}

/// Compares this manager's hashes with the leader's.
pub(crate) struct Checks {
    open: Mutex<BTreeMap<Index, Hashes>>,
    /// The latest own hash, which the leader may put into the log.
    hashed: watch::Sender<Option<(Index, u64)>>,
    diverged: watch::Sender<Option<Index>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Hashes {
    own: Option<u64>,
    leader: Option<u64>,
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self { open: Mutex::default(), hashed: watch::Sender::new(None), diverged: watch::Sender::new(None) }
    }

    /// Watches the latest own hash.
    pub(crate) fn hashed(&self) -> watch::Receiver<Option<(Index, u64)>> {
        self.hashed.subscribe()
    }

    /// Watches for the index at which this manager was found to differ from the leader.
    pub(crate) fn diverged(&self) -> watch::Receiver<Option<Index>> {
        self.diverged.subscribe()
    }

    fn freeze(&self, state: &State, shared: &Arc<MachineShared>) {
        let (state, shared) = (state.clone(), Arc::clone(shared));
        let work = move || {
            let (index, hash) = (state.applied().index, state.hash());
            shared.checks.note(index, |hashes| hashes.own = Some(hash));
            shared.checks.hashed.send_replace(Some((index, hash)));
        };
        if self.is_aside() { drop(tokio::task::spawn_blocking(work)) } else { work() }
    }

    /// Whether hashing runs on another thread, as it takes a while for a large state. A runtime with one thread is a
    /// simulation or a test, which must be repeatable.
    fn is_aside(&self) -> bool {
        tokio::runtime::Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread)
    }

    pub(crate) fn claimed(&self, index: Index, hash: u64) {
        self.note(index, |hashes| hashes.leader = Some(hash));
    }

    fn note(&self, index: Index, set: impl FnOnce(&mut Hashes)) {
        let mut open = self.open.lock();
        let hashes = open.entry(index).or_default();
        set(hashes);
        if let Hashes { own: Some(own), leader: Some(leader) } = *hashes {
            open.remove(&index);
            if own != leader {
                tracing::error!(index = index.0, own, leader, "this manager's state differs from the leader's");
                self.diverged.send_replace(Some(index));
            }
        }
        while open.len() > CHECKS_MAX {
            open.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hashes_are_forgotten_and_different_ones_are_told() {
        let checks = Checks::new();
        let diverged = checks.diverged();
        checks.note(Index(4096), |hashes| hashes.own = Some(7));
        checks.claimed(Index(4096), 7);
        assert_eq!(*diverged.borrow(), None);
        checks.claimed(Index(8192), 8);
        checks.note(Index(8192), |hashes| hashes.own = Some(9));
        assert_eq!(*diverged.borrow(), Some(Index(8192)));
    }
}
