//! Recovery when a quorum is lost for good: a new history with this manager's data, and this manager as its only voter.
//!
//! Every entry of the log is applied, committed or not as far as this manager knows: every acknowledged entry that this
//! manager has is among them, and an unacknowledged one may be applied all the same. The result is written as a
//! snapshot into the folder of the new history, which comes into force by one rename; until then the old history is
//! untouched. From then on managers of the old history are refused by its lineage.

use crate::error::OpenError;
use crate::format::{Body, Command, GroupIdentity, LogId, Membership, Peer, StoredEntry, StoredMembership, Vote};
use crate::identity;
use crate::lifecycle::Start;
use crate::log::database::{LogDatabase, place};
use crate::log::{LogBackend, LogError, Op};
use crate::seal::Sealer;
use crate::snapshot::Image;
use crate::snapshot::folder::Snapshots;
use crate::store::{Store, StoreConfig};
use essaim_model::{Change, Position};
use essaim_wire::{Index, Lineage, Term};
use std::sync::Arc;

impl Store {
    /// Begins a new history with the state on this disk, with this node as its only manager, and opens it.
    pub async fn force_new_cluster(config: StoreConfig) -> Result<Self, OpenError> {
        let old = identity::find(&config.disk)?.ok_or(OpenError::Nothing)?;
        if old.node != config.node {
            return Err(OpenError::OtherNode(old.node));
        }
        let sealer = identity::sealer(&config.disk, &config.seed)?;
        let (mut image, vote) = read_all(&config, old, &sealer)?;
        let last = image.last.unwrap_or(LogId { term: 0, index: 0 });
        // Larger than any number that the old history can have given to a manager.
        let raft_id = last.index + 2;
        let lineage = Lineage { ordinal: old.lineage.ordinal + 1, nonce: config.seed.draw_number() };
        let new = GroupIdentity { node: old.node, raft_id, lineage };
        image.membership = StoredMembership {
            at: image.last,
            membership: Membership {
                voters: vec![vec![raft_id]],
                peers: vec![(raft_id, Peer { node: old.node, addr: config.addr })],
            },
        };

        config.disk.remove_folder(&identity::name(new))?;
        let disk = identity::files(&config.disk, new);
        Snapshots::open(Arc::clone(&disk), Arc::clone(&sealer))?.0.write(&image)?;
        let term = vote.map_or(0, |vote| vote.term).max(last.term);
        let log = LogDatabase::open(&disk, identity::LOG, sealer).map_err(disk_error)?;
        let written = log.commit(&[
            Op::Purge(last),
            Op::Committed(Some(last)),
            Op::Vote(Vote { term, node: raft_id, committed: false }),
        ]);
        log.close();
        written?;
        identity::keep(&config.disk, new)?;

        let store = Self::open(config, Start::Resume).await?;
        let _ = store.raft().trigger().elect(false).await;
        let begin = Change::BeginLineage { lineage, survivor: new.node, raft_id };
        if let Err(refusal) = store.change(vec![begin], None).await {
            store.close().await;
            return Err(OpenError::Raft(refusal.text));
        }
        Ok(store)
    }
}

/// Reads the newest snapshot, applies every entry of the log to it, and returns it with the last vote.
fn read_all(
    config: &StoreConfig,
    identity: GroupIdentity,
    sealer: &Arc<Sealer>,
) -> Result<(Image, Option<Vote>), OpenError> {
    let disk = identity::files(&config.disk, identity);
    let whole = place(&config.disk, "");
    let damaged = |why: String| OpenError::damaged(why, &whole);
    let (_, image) = Snapshots::open(Arc::clone(&disk), Arc::clone(sealer)).map_err(|why| match why.kind() {
        std::io::ErrorKind::InvalidData => damaged(why.to_string()),
        _ => OpenError::Disk(why),
    })?;
    let log = LogDatabase::open(&disk, identity::LOG, Arc::clone(sealer)).map_err(|why| match why {
        LogError::Disk(why) => OpenError::Disk(why),
        LogError::Damaged(why) => damaged(why),
    })?;
    let found = log.load();
    log.close();
    let found = found.map_err(|why| damaged(why.to_string()))?;
    let mut image = image.unwrap_or_default();
    for (index, bytes) in found.entries {
        if image.last.is_some_and(|last| index <= last.index) {
            continue;
        }
        let entry = StoredEntry::open(&bytes).map_err(|why| damaged(format!("entry {index}: {why}")))?;
        let position = Position { term: Term(entry.id.term), index: Index(index) };
        match entry.body {
            Body::Blank | Body::Membership(_) => image.state.pass(position),
            Body::Command(bytes) => match Command::open(&bytes, config.level) {
                Ok(Command::Proposal(proposal)) => drop(image.state.apply(position, &proposal)),
                Ok(Command::Check { .. }) => image.state.pass(position),
                Err(why) if why.is_newer() => return Err(OpenError::Newer(format!("entry {index}: {why}"))),
                Err(why) => return Err(damaged(format!("entry {index}: {why}"))),
            },
        }
        image.last = Some(entry.id);
    }
    Ok((image, found.vote))
}

fn disk_error(why: LogError) -> OpenError {
    match why {
        LogError::Disk(why) => OpenError::Disk(why),
        LogError::Damaged(why) => OpenError::Damaged(why),
    }
}
