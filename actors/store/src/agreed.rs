//! What the log holds as far as it is applied, place by place, for whoever checks what the managers agreed on.
//!
//! Everybody else reads the state, or follows [`events`](crate::events): these are what became of it.

use crate::format::Command;
use crate::raft::Payload;
use crate::store::Store;
use essaim_model::{Position, Proposal};
use essaim_wire::{Index, Term, decode};
use openraft::EntryPayload;
use std::io;

/// One place of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Where, and who led.
    pub position: Position,
    /// What was proposed; nothing where a leader began, the group changed or states are compared.
    pub proposal: Option<Proposal>,
}

impl Store {
    /// The places after `after` that are applied here, as far as the log still has them.
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
