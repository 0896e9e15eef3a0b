//! Ballots: which nodes are linked to some manager, and which nodes each of them accuses. Every node sends its ballot
//! over its own link, and each manager passes the ballots of its nodes on to the leader.
//!
//! Ballots move tasks, so the only source of a node's ballot is that node's own link, or another manager for the nodes
//! linked there. Ballots are no part of the log: a new leader is sent all of them at once. Changes follow on the same
//! stream, so a vote reaches the leader one message after it reached the manager.
//!
//! There is no queue: a slow leader is sent the table's present content when it reads again.

use bincode::{Decode, Encode};
use essaim_policy::liveness::Ballots;
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

/// Accusations that are kept of one node at most. A detector makes no more ([`essaim_membership::BALLOT_MAX`]); further
/// accusations are ignored.
pub(crate) const ACCUSATIONS_MAX: usize = essaim_membership::BALLOT_MAX;

/// Nodes in one message to the leader: with all their accusations it is some 100 KiB.
const NODES_IN_A_MESSAGE: usize = 64;

/// Wait before a leader that could not be reached is called again, and between checks whether another manager leads: a
/// new leader waits for votes before it moves a task.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// One node's ballot, as a manager sends it to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct NodeBallot {
    pub(crate) node: NodeId,
    /// The nodes that it accuses; `None` when its link has ended.
    pub(crate) accusations: Option<Vec<Accusation>>,
}

/// The ballots that one manager knows. Clones share one table.
#[derive(Debug, Clone)]
pub(crate) struct BallotBox {
    table: Arc<Mutex<Table>>,
    changed: watch::Sender<u64>,
}

/// The ballots of each node by the source that told them. A node that moves from one manager to another has two for a
/// while, and the end of either source leaves the other one's: a manager that was cut off may tell of a link that has ended
/// after the new link was made.
#[derive(Debug, Default)]
struct Table {
    nodes: BTreeMap<(NodeId, u64), StoredBallot>,
    /// Numbers the links and streams.
    sources: u64,
    /// Numbers the ballots in the order in which they were told.
    told: u64,
}

#[derive(Debug)]
struct StoredBallot {
    source: Source,
    told: u64,
    accusations: Arc<[Accusation]>,
}

impl Table {
    /// Of each node the ballot that was told last, among those of the sources that `counts` names.
    fn latest(&self, counts: impl Fn(Source) -> bool) -> Ballots {
        let mut latest: BTreeMap<NodeId, &StoredBallot> = BTreeMap::new();
        for ((node, _), held) in self.nodes.iter().filter(|(_, held)| counts(held.source)) {
            let known = latest.entry(*node).or_insert(held);
            if held.told > known.told {
                *known = held;
            }
        }
        latest.into_iter().map(|(node, held)| (node, Arc::clone(&held.accusations))).collect()
    }
}

/// The origin of a ballot: a link of this manager, or the stream of another manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    number: u64,
    is_own: bool,
}

impl BallotBox {
    pub(crate) fn new() -> Self {
        Self { table: Arc::default(), changed: watch::Sender::new(0) }
    }

    /// A new source: a link of this manager (`is_own`), or a stream of another manager.
    pub(crate) fn source(&self, is_own: bool) -> Source {
        let mut table = self.table.lock();
        table.sources += 1;
        Source { number: table.sources, is_own }
    }

    /// A node said hello on a link. A ballot that it has already sent on the same link stays.
    pub(crate) fn greet(&self, source: Source, node: NodeId) {
        let is_new = !self.table.lock().nodes.contains_key(&(node, source.number));
        if is_new {
            self.set(source, node, &[]);
        }
    }

    /// Stores the ballot of a linked node.
    pub(crate) fn set(&self, source: Source, node: NodeId, accusations: &[Accusation]) {
        let accusations: Arc<[Accusation]> = accusations.iter().take(ACCUSATIONS_MAX).copied().collect();
        let mut table = self.table.lock();
        table.told += 1;
        let told = table.told;
        table.nodes.insert((node, source.number), StoredBallot { source, told, accusations });
        drop(table);
        self.mark();
    }

    /// Removes what this source told of a node whose link has ended.
    pub(crate) fn end(&self, source: Source, node: NodeId) {
        self.table.lock().nodes.remove(&(node, source.number));
        self.mark();
    }

    /// Removes all ballots of this source.
    fn end_all(&self, source: Source) {
        self.table.lock().nodes.retain(|_, held| held.source != source);
        self.mark();
    }

    fn mark(&self) {
        self.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// The ballots of all linked nodes that this manager knows.
    pub(crate) fn all(&self) -> Ballots {
        self.table.lock().latest(|_| true)
    }

    /// The ballots of the nodes that are linked to this manager.
    fn own(&self) -> Ballots {
        self.table.lock().latest(|source| source.is_own)
    }

    /// A counter that grows with every change of the table.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Serves the `ballots` lane: stores the ballots that other managers send.
pub(crate) struct BallotsServer {
    ballots: BallotBox,
    /// Closed when the manager's actor has ended.
    over: watch::Receiver<()>,
}

impl BallotsServer {
    /// A server whose streams end when the returned sender is dropped: the actor that owns the box keeps it. Other
    /// managers then open a stream to the actor's successor, which begins with an empty box.
    pub(crate) fn new(ballots: BallotBox) -> (Self, watch::Sender<()>) {
        let (serving, over) = watch::channel(());
        (Self { ballots, over }, serving)
    }
}

impl Serve for BallotsServer {
    fn serve(self: Arc<Self>, _: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // A manager takes the end of the writing half, which says nothing, for the end of the stream: a block that
            // does not name it would drop it at once.
            let LaneStream { send: _open, mut recv, .. } = stream;
            let ballots = &self.ballots;
            let ended = EndsAll { source: ballots.source(false), ballots: ballots.clone() };
            let reading = async {
                while let Ok(Some(told)) = recv.recv_value::<Vec<NodeBallot>>().await {
                    for NodeBallot { node, accusations } in told {
                        match accusations {
                            Some(accusations) => ballots.set(ended.source, node, &accusations),
                            None => ballots.end(ended.source, node),
                        }
                    }
                }
            };
            let mut over = self.over.clone();
            tokio::select! {
                () = reading => (),
                _ = over.changed() => (),
            }
        })
    }
}

/// Removes the ballots of a stream when its reader ends, in whatever way.
struct EndsAll {
    source: Source,
    ballots: BallotBox,
}

impl Drop for EndsAll {
    fn drop(&mut self) {
        self.ballots.end_all(self.source);
    }
}

/// Sends this manager's ballots to the leader, whichever manager leads, until this future is dropped.
pub(crate) async fn tell_leader(ballots: BallotBox, store: Store, endpoint: Endpoint) {
    let me = endpoint.node();
    let leader = || store.leader().filter(|leader| *leader != me);
    follow_leader(leader, |leader| {
        let (ballots, endpoint) = (ballots.clone(), endpoint.clone());
        async move {
            if let Ok(stream) = endpoint.lane(leader, Lane::Ballots).await {
                tell(&ballots, stream).await;
            }
        }
    })
    .await;
}

/// Runs `serve` for each leader in turn, and again when it returns. It is given up as soon as `leader` names another
/// one: a leader that was cut off answers nothing for seconds, and its successor moves no task before it has the ballots.
async fn follow_leader<F: Future<Output = ()>>(leader: impl Fn() -> Option<NodeId>, serve: impl Fn(NodeId) -> F) {
    loop {
        if let Some(current) = leader() {
            let deposed = async {
                while leader() == Some(current) {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            };
            tokio::select! {
                () = deposed => continue,
                () = serve(current) => (),
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Sends this manager's ballots to one leader, until the stream ends.
async fn tell(ballots: &BallotBox, mut stream: LaneStream) {
    let mut changes = ballots.changes();
    let mut known = Ballots::new();
    loop {
        changes.borrow_and_update();
        let now = ballots.own();
        let gone = known.keys().filter(|node| !now.contains_key(node));
        let gone = gone.map(|node| NodeBallot { node: *node, accusations: None });
        let news = now.iter().filter(|(node, said)| known.get(node) != Some(said));
        let news = news.map(|(node, said)| NodeBallot { node: *node, accusations: Some(said.to_vec()) });
        let told: Vec<NodeBallot> = gone.chain(news).collect();
        for message in told.chunks(NODES_IN_A_MESSAGE) {
            if stream.send.send_value(&message.to_vec()).await.is_err() {
                return;
            }
        }
        known = now;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            // The leader sends nothing on this stream, so whatever is read is its end.
            _ = stream.recv.recv() => return,
        }
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("ballots": NodeBallot);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_transport::network::{RecvStream, SendStream};
    use essaim_transport::{FrameReceiver, FrameSender, PeerIdentity, Serial, SessionId};
    use essaim_wire::{ClusterId, Generation, Index, Lineage, Role, Timestamp, WireVersion, encode};
    use tokio::io::duplex;

    fn accusation(node: u128) -> Accusation {
        Accusation { node: NodeId::from_bits(node), generation: Generation(1), incarnation: 2 }
    }

    #[test]
    fn the_end_of_an_old_link_takes_nothing_of_the_new_one() {
        let (ballots, node) = (BallotBox::new(), NodeId::from_bits(7));
        let (old, new) = (ballots.source(true), ballots.source(true));
        ballots.set(old, node, &[accusation(1)]);
        ballots.set(new, node, &[]);
        ballots.end(old, node);
        assert_eq!(ballots.all().len(), 1);
        ballots.end(new, node);
        assert!(ballots.all().is_empty());
    }

    #[test]
    fn a_manager_that_tells_late_of_a_link_that_has_ended_takes_nothing_of_the_new_one() {
        let (ballots, node) = (BallotBox::new(), NodeId::from_bits(7));
        let (own, other) = (ballots.source(true), ballots.source(false));
        ballots.set(own, node, &[accusation(1)]);
        // The manager was cut off when the node left it: its table, and the end of the link, arrive afterwards.
        ballots.set(other, node, &[]);
        ballots.end(other, node);
        assert_eq!(ballots.all()[&node].len(), 1, "the node is linked here");
        ballots.end(own, node);
        assert!(ballots.all().is_empty());
    }

    #[test]
    fn a_node_that_accuses_everybody_is_heard_as_far_as_an_honest_one_would_go() {
        let (ballots, node) = (BallotBox::new(), NodeId::from_bits(7));
        let many: Vec<Accusation> = (0..10_000).map(accusation).collect();
        ballots.set(ballots.source(true), node, &many);
        assert_eq!(ballots.all()[&node].len(), ACCUSATIONS_MAX);
    }

    #[test]
    fn only_what_is_linked_here_is_passed_on_and_what_another_manager_told_ends_with_its_stream() {
        let ballots = BallotBox::new();
        let (own, other) = (ballots.source(true), ballots.source(false));
        ballots.set(own, NodeId::from_bits(1), &[]);
        ballots.set(other, NodeId::from_bits(2), &[]);
        assert_eq!((ballots.own().len(), ballots.all().len()), (1, 2));
        ballots.end_all(other);
        assert_eq!(ballots.all().len(), 1);
    }

    /// Both ends of a `ballots` lane, over memory.
    fn lane() -> (LaneStream, LaneStream) {
        let (node, role, generation) = (NodeId::from_bits(2), Role::Manager, Generation(1));
        let serial = Serial { granted: Index(1), nonce: 1 };
        let (not_before, not_after) = (Timestamp::default(), Timestamp::from_micros(u64::MAX));
        let addr = ([10, 0, 0, 2], 2377).into();
        let peer = PeerInfo {
            session: SessionId(1),
            node,
            role,
            generation,
            lineage: Lineage::default(),
            wire: WireVersion::NEWEST,
            remote: addr,
            advertise: addr,
            traffic: Lane::Ballots.traffic(),
            identity: PeerIdentity { cluster: ClusterId::from_bits(1), node, role, not_before, not_after, serial },
        };
        let ((near_send, far_recv), (far_send, near_recv)) = (duplex(64 << 10), duplex(64 << 10));
        let end = |send, recv| LaneStream {
            lane: Lane::Ballots,
            peer: peer.clone(),
            send: FrameSender::new(Box::new(send) as Box<dyn SendStream>),
            recv: FrameReceiver::new(Box::new(recv) as Box<dyn RecvStream>),
        };
        (end(near_send, near_recv), end(far_send, far_recv))
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_keeps_one_stream_open_and_knows_the_ballots_as_long_as_it_lasts() {
        let (own, leader) = (BallotBox::new(), BallotBox::new());
        let (near, far) = lane();
        let source = own.source(true);
        own.set(source, NodeId::from_bits(7), &[accusation(1)]);
        let (server, serving) = BallotsServer::new(leader.clone());
        tokio::spawn(Arc::new(server).serve(far.peer.clone(), far));
        let ballots = own.clone();
        let telling = tokio::spawn(async move { tell(&ballots, near).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!telling.is_finished(), "the server ended the stream, and the manager would open one after the other");
        assert_eq!(leader.all().get(&NodeId::from_bits(7)).map(|said| said.len()), Some(1));
        own.set(source, NodeId::from_bits(8), &[]);
        tokio::time::sleep(AGAIN_AFTER).await;
        assert_eq!(leader.all().len(), 2, "what changes follows on the same stream");
        drop(serving);
        tokio::time::sleep(AGAIN_AFTER).await;
        assert!(leader.all().is_empty());
        assert!(telling.is_finished(), "the stream ends with the leader's actor, and its successor is told everything");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_was_cut_off_and_hangs_keeps_no_ballot_from_its_successor() {
        let (old, new) = (NodeId::from_bits(1), NodeId::from_bits(2));
        let leader = watch::Sender::new(Some(old));
        let begun = tokio::time::Instant::now();
        let told = watch::Sender::new(Vec::new());
        let follow = follow_leader(
            || *leader.borrow(),
            |leader| {
                told.send_modify(|told| told.push((leader, begun.elapsed())));
                std::future::pending()
            },
        );
        let elect = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            leader.send_replace(Some(new));
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            () = follow => (),
            () = elect => (),
        }
        let told = told.borrow().clone();
        assert_eq!(told.iter().map(|(leader, _)| *leader).collect::<Vec<_>>(), [old, new]);
        assert!(told[1].1 <= Duration::from_millis(500) + AGAIN_AFTER, "{:?}", told[1].1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_could_not_be_told_is_called_again() {
        let calls = watch::Sender::new(0);
        let follow = follow_leader(
            || Some(NodeId::from_bits(1)),
            |_| {
                calls.send_modify(|calls| *calls += 1);
                std::future::ready(())
            },
        );
        let _ = tokio::time::timeout(AGAIN_AFTER * 3 + AGAIN_AFTER / 2, follow).await;
        assert_eq!(*calls.borrow(), 4);
    }

    #[test]
    fn the_bytes_to_the_leader_never_change() {
        let told = [
            NodeBallot { node: NodeId::from_bits(5), accusations: Some(vec![accusation(7)]) },
            NodeBallot { node: NodeId::from_bits(6), accusations: None },
        ];
        assert_eq!(encode(&told.to_vec()), [2, 5, 1, 1, 7, 1, 2, 6, 0]);
    }
}
