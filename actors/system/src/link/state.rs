//! The state of a link: exported actors, imported actors, and calls that wait for their replies.

use ractor::{ActorCell, ActorId, RpcReplyPort};
use std::collections::BTreeMap;
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct State {
    /// Actors of this side that the peer may address, by key.
    pub(super) exports: BTreeMap<u64, ActorCell>,
    keys: BTreeMap<ActorId, u64>,
    last_key: u64,
    /// Actors that the peer exported, by the name under which each was exported last.
    pub(super) imports: BTreeMap<String, Import>,
    /// Proxies of the peer's actors, by the peer's key.
    pub(super) proxies: BTreeMap<u64, ActorCell>,
    /// Calls of this side that wait for the peer's reply, by tag, with their deadlines.
    pending: BTreeMap<u64, (Instant, RpcReplyPort<Vec<u8>>)>,
    last_tag: u64,
    /// Number of the peer's calls that wait for an actor of this side.
    pub(super) served: usize,
}

pub(super) struct Import {
    pub(super) key: u64,
    pub(super) cell: ActorCell,
    /// Name of the message type of the imported actor.
    pub(super) hears: String,
}

impl State {
    /// Exports an actor and returns its key. An actor that is exported twice keeps its key.
    pub(super) fn export(&mut self, cell: &ActorCell) -> u64 {
        if let Some(&key) = self.keys.get(&cell.get_id()) {
            return key;
        }
        self.last_key += 1;
        self.exports.insert(self.last_key, cell.clone());
        self.keys.insert(cell.get_id(), self.last_key);
        self.last_key
    }

    /// Withdraws an exported actor and returns the key it had.
    pub(super) fn withdraw(&mut self, id: ActorId) -> Option<u64> {
        let key = self.keys.remove(&id)?;
        self.exports.remove(&key);
        Some(key)
    }

    pub(super) fn remove_proxy(&mut self, key: u64) -> Option<ActorCell> {
        self.imports.retain(|_, import| import.key != key);
        self.proxies.remove(&key)
    }

    /// Keeps the reply port of a call until the reply arrives. Returns the tag of the call.
    pub(super) fn await_reply(&mut self, deadline: Instant, port: RpcReplyPort<Vec<u8>>) -> u64 {
        self.last_tag += 1;
        self.pending.insert(self.last_tag, (deadline, port));
        self.last_tag
    }

    pub(super) fn take_pending(&mut self, tag: u64) -> Option<RpcReplyPort<Vec<u8>>> {
        self.pending.remove(&tag).map(|(_, port)| port)
    }

    /// Drops the reply ports of overdue calls, which ends these calls at their callers. Returns whether calls are left.
    pub(super) fn drop_overdue(&mut self, now: Instant) -> bool {
        self.pending.retain(|_, (deadline, _)| *deadline > now);
        !self.pending.is_empty()
    }

    /// Ends all calls and withdraws all actors, because the link has ended. Returns the proxies that are left.
    pub(super) fn clear(&mut self) -> Vec<ActorCell> {
        self.pending.clear();
        self.exports.clear();
        self.keys.clear();
        self.imports.clear();
        std::mem::take(&mut self.proxies).into_values().collect()
    }
}
