//! A world of stores: created in one line; each can be cut off, killed and started again by number.

use crate::lifecycle::Start;
use crate::peers::{Peers, Pipe};
use crate::store::{LogBounds, Store, StoreConfig};
use crate::{Leadership, OpenError};
use essaim_model::fixtures::founding;
pub(super) use essaim_model::fixtures::manager as node;
use essaim_model::{Change, Outcome};
use essaim_system::env::{Disk, Seed, SimDisk, VirtualClock};
use essaim_transport::network::{RecvStream, SendStream};
use essaim_transport::{FrameReceiver, FrameSender, Lane};
use essaim_wire::{Generation, Level, Lineage, NodeId, Term, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, ReadHalf, WriteHalf, duplex, split};
use tokio::task::AbortHandle;

pub(super) const LINEAGE: Lineage = Lineage { ordinal: 1, nonce: 77 };

pub(super) fn id(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

/// A change that can be told apart from others: it accepts the node with this number.
pub(super) fn accept(number: u128) -> Change {
    Change::AcceptNode(Box::new(node(number)))
}

pub(super) fn found() -> Change {
    let mut founding = founding();
    founding.cluster.lineage = LINEAGE;
    founding.cluster.authority.key = "a private key".into();
    Change::Found(Box::new(founding))
}

/// The network between stores, in memory.
#[derive(Default)]
pub(super) struct Net {
    inner: Mutex<NetInner>,
}

#[derive(Default)]
struct NetInner {
    stores: BTreeMap<NodeId, Store>,
    cut: BTreeSet<NodeId>,
    serving: BTreeMap<NodeId, Vec<AbortHandle>>,
}

impl Net {
    fn with<T>(&self, then: impl FnOnce(&mut NetInner) -> T) -> T {
        then(&mut self.inner.lock())
    }

    fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.with(|net| net.cut.contains(&a) != net.cut.contains(&b))
    }
}

struct Side {
    net: Arc<Net>,
    own: NodeId,
}

impl Peers for Side {
    fn open(&self, node: NodeId, lane: Lane) -> BoxFuture<'_, Result<Pipe, String>> {
        async move {
            if self.net.is_cut(self.own, node) {
                // Like dialling an unreachable host: no answer for longer than any caller waits.
                tokio::time::sleep(Duration::from_secs(5)).await;
                return Err("no answer".into());
            }
            let Some(store) = self.net.with(|net| net.stores.get(&node).cloned()) else {
                return Err("refused".into());
            };
            let (near, far) = duplex(64 << 10);
            let (own, net) = (self.own, Arc::clone(&self.net));
            let near = pipe(near, &net, own, node);
            let far = pipe(far, &net, node, own);
            let serving = tokio::spawn(async move { store.serve(lane, own, far).await }).abort_handle();
            self.net.with(|net| {
                let serving_there = net.serving.entry(node).or_default();
                serving_there.retain(|handle| !handle.is_finished());
                serving_there.push(serving);
            });
            Ok(near)
        }
        .boxed()
    }
}

pub(super) fn pipe(stream: DuplexStream, net: &Arc<Net>, own: NodeId, other: NodeId) -> Pipe {
    let (recv, send) = split(stream);
    let wire = Wire { net: Arc::clone(net), own, other };
    Pipe {
        send: FrameSender::new(Box::new(Half { inner: send, wire: wire.clone() })),
        recv: FrameReceiver::new(Box::new(Half { inner: recv, wire })),
    }
}

#[derive(Clone)]
struct Wire {
    net: Arc<Net>,
    own: NodeId,
    other: NodeId,
}

/// Half of a stream; while its ends are cut off from each other it delivers nothing, as with lost packets.
struct Half<T> {
    inner: T,
    wire: Wire,
}

impl<T> Half<T> {
    fn is_silent(&self) -> bool {
        self.wire.net.is_cut(self.wire.own, self.wire.other)
    }
}

impl AsyncRead for Half<ReadHalf<DuplexStream>> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_silent() { Poll::Pending } else { Pin::new(&mut self.inner).poll_read(cx, buf) }
    }
}

impl AsyncWrite for Half<WriteHalf<DuplexStream>> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_silent() { Poll::Pending } else { Pin::new(&mut self.inner).poll_write(cx, buf) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl SendStream for Half<WriteHalf<DuplexStream>> {
    fn reset(&mut self, _: u32) {}
}

impl RecvStream for Half<ReadHalf<DuplexStream>> {
    fn stop(&mut self, _: u32) {}
}

/// Stores by number, with their disks and their network.
pub(super) struct World {
    pub(super) net: Arc<Net>,
    pub(super) disks: BTreeMap<u128, SimDisk>,
    pub(super) seed: Seed,
    pub(super) clock: Arc<VirtualClock>,
    starts: BTreeMap<u128, u64>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            net: Arc::default(),
            disks: BTreeMap::new(),
            seed: Seed::from_number(1),
            clock: Arc::new(VirtualClock::new(Timestamp::from_micros(1_000_000))),
            starts: BTreeMap::new(),
        }
    }

    /// A group of `size` voters with numbers 1, 2, …, whose first leads.
    pub(super) async fn of(size: u128) -> Self {
        let mut world = Self::new();
        let first = world.start(1, Start::Found { lineage: LINEAGE }).await.expect("the first starts");
        world.leader().await;
        first.change(vec![found()], None).await.expect("founded");
        for number in 2..=size {
            world.join(number).await;
        }
        world
    }

    /// Promotes another node, as a manager's role manager does.
    pub(super) async fn join(&mut self, number: u128) -> Store {
        let leader = self.leader().await;
        let raft_id = leader.change(vec![accept(number)], None).await.expect("committed").0;
        let store = self.start(number, Start::Join { lineage: leader.lineage(), raft_id }).await.expect("it starts");
        leader.add_voter(id(number), raft_id, None).await.expect("it votes");
        store
    }

    pub(super) fn config(&mut self, number: u128) -> StoreConfig {
        let disk = self.disks.entry(number).or_default().clone();
        let generation = self.starts.entry(number).or_default();
        *generation += 1;
        StoreConfig {
            node: id(number),
            generation: Generation(*generation),
            addr: None,
            disk: Arc::new(disk) as Arc<dyn Disk>,
            clock: Arc::clone(&self.clock) as _,
            seed: self.seed.fork(),
            peers: Arc::new(Side { net: Arc::clone(&self.net), own: id(number) }),
            level: Level::NEWEST,
            log: LogBounds { snapshot_after: 64 << 10, ..LogBounds::USUAL },
        }
    }

    pub(super) async fn start(&mut self, number: u128, start: Start) -> Result<Store, OpenError> {
        let store = Store::open(self.config(number), start).await?;
        self.enter(number, &store);
        Ok(store)
    }

    pub(super) fn enter(&self, number: u128, store: &Store) {
        self.net.with(|net| net.stores.insert(id(number), store.clone()));
    }

    pub(super) fn store(&self, number: u128) -> Store {
        self.net.with(|net| net.stores.get(&id(number)).cloned()).expect("it is running")
    }

    pub(super) fn running(&self) -> Vec<Store> {
        self.net.with(|net| net.stores.values().cloned().collect())
    }

    /// Cuts the power of one machine: unsynced data is lost, and no message is sent.
    pub(super) async fn kill(&self, number: u128) {
        self.disks[&number].crash(None);
        let store = self.net.with(|net| {
            for serving in net.serving.remove(&id(number)).unwrap_or_default() {
                serving.abort();
            }
            net.stores.remove(&id(number))
        });
        store.expect("it is running").close().await;
    }

    pub(super) async fn stop(&self, number: u128) {
        let store = self.net.with(|net| net.stores.remove(&id(number))).expect("it is running");
        store.close().await;
    }

    /// Cuts these stores off from the others; with no numbers, heals the network.
    pub(super) fn cut(&self, numbers: &[u128]) {
        self.net.with(|net| net.cut = numbers.iter().map(|number| id(*number)).collect());
    }

    /// Waits until a store that runs and is not cut off leads and may act.
    pub(super) async fn leader(&self) -> Store {
        let deadline = Duration::from_secs(20);
        let found = async {
            loop {
                for store in self.running() {
                    if store.leadership().borrow().active().is_some() {
                        return store;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(deadline, found).await.expect("somebody leads in the end")
    }

    /// Any store that does not lead.
    pub(super) async fn follower(&self) -> Store {
        let leader = self.leader().await.node();
        self.running().into_iter().find(|store| store.node() != leader).expect("there is another")
    }

    /// Waits until all running stores have applied the same index, and compares their states.
    pub(super) async fn converge(&self) {
        let leader = self.leader().await;
        for store in self.running() {
            let index = *leader.applied().borrow();
            tokio::time::timeout(Duration::from_secs(10), store.wait_applied(index)).await.expect("it catches up");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let leader_state = leader.state();
        for store in self.running() {
            assert_eq!(store.state().applied(), leader_state.applied());
            assert_eq!(store.state().hash(), leader_state.hash(), "equal at equal places");
        }
    }
}

/// Accepts the node with this number. Returns whether the write was acknowledged.
pub(super) async fn write(store: &Store, number: u128) -> bool {
    matches!(store.propose(vec![accept(number)], None).await, Ok(Outcome::Done(_)))
}

pub(super) fn number(store: &Store) -> u128 {
    store.node().bits()
}

pub(super) fn has(store: &Store, number: u128) -> bool {
    store.state().node(id(number)).is_some()
}

/// Waits until the leadership of a store satisfies `wanted`.
pub(super) async fn until(store: &Store, wanted: impl FnMut(&Leadership) -> bool) -> Leadership {
    let mut leadership = store.leadership();
    let found = leadership.wait_for(wanted);
    let found = tokio::time::timeout(Duration::from_secs(20), found).await.expect("in time");
    *found.expect("the store is open")
}

pub(super) fn active_term(store: &Store) -> Term {
    store.leadership().borrow().active().expect("it leads")
}
