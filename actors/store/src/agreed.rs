//! The applied part of the log, entry by entry, for checks of what the managers agreed on.
//!
//! All other readers use the state, or follow [`events`](crate::events), which result from these entries.

use crate::format::Command;
use crate::raft::Payload;
use crate::store::Store;
use essaim_model::{Position, Proposal};
use essaim_wire::{Index, Term, decode};
use openraft::EntryPayload;
use std::io;

/// One applied entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Index of the entry, and the term of its leader.
    pub position: Position,
    /// The proposal in the entry; none in an entry that begins a term, changes the membership or compares states.
    pub proposal: Option<Proposal>,
}

impl Store {
    /// The entries after `after` that are applied here, as far as the log still has them.
    pub fn agreed(&self, after: Index) -> io::Result<Vec<Agreed>> {
        let applied = self.state().applied().index;
        let entries = self.machine().log.between(after.0 + 1, applied.0 + 1)?;
        let agreed = entries.into_iter().map(|entry| {
            let position =
                Position { term: Term(entry.log_id.committed_leader_id().term), index: Index(entry.log_id.index()) };
            let proposal = match entry.payload {
                EntryPayload::Normal(Payload(bytes)) => match decode(&bytes) {
                    Ok(Command::Proposal(proposal)) => Some(proposal),
                    Ok(Command::Check { .. }) => None,
                    Err(why) => return Err(io::Error::new(io::ErrorKind::InvalidData, why)),
                },
                EntryPayload::Blank | EntryPayload::Membership(_) => None,
            };
            Ok(Agreed { position, proposal })
        });
        agreed.collect()
    }
}
