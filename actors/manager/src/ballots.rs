//! Who is linked to some manager, and whom each node accuses: told by every node over its own link, and passed on by each
//! manager to the one that leads.
//!
//! Votes move tasks, so nothing is believed of them but what a node says of itself over its link, and what another manager
//! says of the nodes linked there. They are no part of the log: a new leader is told them anew, at once and whole. What
//! changes follows on the same stream, so a vote is at the leader one message after it is at the manager.
//!
//! Nothing is queued: what a slow leader was not told yet is read from the table when it takes more.

use bincode::{Decode, Encode};
use essaim_policy::liveness::Ballots as Votes;
use essaim_presence::endpoint::Endpoint;
use essaim_store::Store;
use essaim_transport::{Lane, LaneStream, PeerInfo, Serve};
use essaim_wire::{Accusation, NodeId};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Accusations of one node that are kept. A detector makes no more ([`essaim_membership::BALLOT_MAX`]); what a node says
/// beyond them is not heard.
pub(crate) const ACCUSATIONS_MAX: usize = essaim_membership::BALLOT_MAX;

/// Nodes in one message to the leader: with all their accusations it is some 100 KiB.
const NODES_IN_A_MESSAGE: usize = 64;

/// How long to wait before a leader that could not be told is called again, and how often to look whether another one
/// leads: a new leader waits for votes before it moves a task.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// One node, as a manager tells the leader.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Told {
    pub(crate) node: NodeId,
    /// Whom it accuses; `None` when its link has ended.
    pub(crate) accusations: Option<Vec<Accusation>>,
}

/// The table of one manager. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Ballots {
    table: Arc<Mutex<Table>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    nodes: BTreeMap<NodeId, Held>,
    /// Numbers the links and streams, so that the end of an old one takes nothing of a new one.
    sources: u64,
}

#[derive(Debug)]
struct Held {
    source: Source,
    accusations: Arc<[Accusation]>,
}

/// Where something was said: a link of this manager, or the stream of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    number: u64,
    is_own: bool,
}

impl Ballots {
    pub(crate) fn new() -> Self {
        Self { table: Arc::default(), changed: watch::Sender::new(0) }
    }

    /// A link of this manager (`is_own`), or a stream of another.
    pub(crate) fn source(&self, is_own: bool) -> Source {
        let mut table = self.table.lock();
        table.sources += 1;
        Source { number: table.sources, is_own }
    }

    /// A node said hello on a link. What it has accused on the same link stands.
    pub(crate) fn greet(&self, source: Source, node: NodeId) {
        if self.table.lock().nodes.get(&node).is_none_or(|held| held.source != source) {
            self.set(source, node, &[]);
        }
    }

    /// A node is linked, and accuses these.
    pub(crate) fn set(&self, source: Source, node: NodeId, accusations: &[Accusation]) {
        let accusations: Arc<[Accusation]> = accusations.iter().take(ACCUSATIONS_MAX).copied().collect();
        self.table.lock().nodes.insert(node, Held { source, accusations });
        self.mark();
    }

    /// A node's link has ended.
    pub(crate) fn end(&self, source: Source, node: NodeId) {
        let mut table = self.table.lock();
        if table.nodes.get(&node).is_some_and(|held| held.source == source) {
            table.nodes.remove(&node);
        }
        drop(table);
        self.mark();
    }

    /// Whatever was told there is told no longer.
    fn end_all(&self, source: Source) {
        self.table.lock().nodes.retain(|_, held| held.source != source);
        self.mark();
    }

    fn mark(&self) {
        self.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// All nodes that are linked anywhere, as far as this manager was told.
    pub(crate) fn all(&self) -> Votes {
        self.table.lock().nodes.iter().map(|(node, held)| (*node, Arc::clone(&held.accusations))).collect()
    }

    /// The nodes that are linked here.
    fn own(&self) -> Votes {
        let table = self.table.lock();
        let own = table.nodes.iter().filter(|(_, held)| held.source.is_own);
        own.map(|(node, held)| (*node, Arc::clone(&held.accusations))).collect()
    }

    /// Marks whenever something changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Takes in what other managers tell.
pub(crate) struct BallotsServer(pub(crate) Ballots);

impl Serve for BallotsServer {
    fn serve(self: Arc<Self>, _: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let ended = EndsAll { source: self.0.source(false), ballots: self.0.clone() };
            while let Ok(Some(told)) = stream.recv.recv_value::<Vec<Told>>().await {
                for Told { node, accusations } in told {
                    match accusations {
                        Some(accusations) => self.0.set(ended.source, node, &accusations),
                        None => self.0.end(ended.source, node),
                    }
                }
            }
        })
    }
}

/// Forgets what was told by a stream when nobody reads it any more, however that came.
struct EndsAll {
    source: Source,
    ballots: Ballots,
}

impl Drop for EndsAll {
    fn drop(&mut self) {
        self.ballots.end_all(self.source);
    }
}

/// Tells whichever manager leads, for as long as somebody holds what this returns to.
pub(crate) async fn tell_leader(ballots: Ballots, store: Store, endpoint: Endpoint) {
    let mut leadership = store.leadership();
    let mut changes = ballots.changes();
    loop {
        changes.borrow_and_update();
        leadership.borrow_and_update();
        let leader = store.leader().filter(|leader| *leader != endpoint.node());
        let Some(leader) = leader else {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = leadership.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN_AFTER) => (),
            }
            continue;
        };
        if let Ok(stream) = endpoint.lane(leader, Lane::Ballots).await {
            tell(&ballots, stream, &store, leader).await;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Tells one leader until it leads no longer, or the stream ends.
async fn tell(ballots: &Ballots, mut stream: LaneStream, store: &Store, leader: NodeId) {
    let mut changes = ballots.changes();
    let mut known = Votes::new();
    loop {
        changes.borrow_and_update();
        let now = ballots.own();
        let gone = known.keys().filter(|node| !now.contains_key(node));
        let gone = gone.map(|node| Told { node: *node, accusations: None });
        let news = now.iter().filter(|(node, said)| known.get(node) != Some(said));
        let news = news.map(|(node, said)| Told { node: *node, accusations: Some(said.to_vec()) });
        let told: Vec<Told> = gone.chain(news).collect();
        for message in told.chunks(NODES_IN_A_MESSAGE) {
            if stream.send.send_value(&message.to_vec()).await.is_err() {
                return;
            }
        }
        known = now;
        loop {
            if store.leader() != Some(leader) {
                return;
            }
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                // The leader says nothing on it: whatever comes is its end.
                _ = stream.recv.recv() => return,
                () = tokio::time::sleep(AGAIN_AFTER) => (),
            }
        }
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("ballots": Told);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::{Generation, encode};

    fn accusation(node: u128) -> Accusation {
        Accusation { node: NodeId::from_bits(node), generation: Generation(1), incarnation: 2 }
    }

    #[test]
    fn the_end_of_an_old_link_takes_nothing_of_the_new_one() {
        let (ballots, node) = (Ballots::new(), NodeId::from_bits(7));
        let (old, new) = (ballots.source(true), ballots.source(true));
        ballots.set(old, node, &[accusation(1)]);
        ballots.set(new, node, &[]);
        ballots.end(old, node);
        assert_eq!(ballots.all().len(), 1);
        ballots.end(new, node);
        assert!(ballots.all().is_empty());
    }

    #[test]
    fn a_node_that_accuses_everybody_is_heard_as_far_as_an_honest_one_would_go() {
        let (ballots, node) = (Ballots::new(), NodeId::from_bits(7));
        let many: Vec<Accusation> = (0..10_000).map(accusation).collect();
        ballots.set(ballots.source(true), node, &many);
        assert_eq!(ballots.all()[&node].len(), ACCUSATIONS_MAX);
    }

    #[test]
    fn only_what_is_linked_here_is_passed_on_and_what_another_manager_told_ends_with_its_stream() {
        let ballots = Ballots::new();
        let (own, other) = (ballots.source(true), ballots.source(false));
        ballots.set(own, NodeId::from_bits(1), &[]);
        ballots.set(other, NodeId::from_bits(2), &[]);
        assert_eq!((ballots.own().len(), ballots.all().len()), (1, 2));
        ballots.end_all(other);
        assert_eq!(ballots.all().len(), 1);
    }

    #[test]
    fn the_bytes_to_the_leader_never_change() {
        let told = [
            Told { node: NodeId::from_bits(5), accusations: Some(vec![accusation(7)]) },
            Told { node: NodeId::from_bits(6), accusations: None },
        ];
        assert_eq!(encode(&told.to_vec()), [2, 5, 1, 1, 7, 1, 2, 6, 0]);
    }
}
