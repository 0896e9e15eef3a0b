//! The address book: addresses of nodes, dials under way, and the back-off before the next dial.

use super::Unreached;
use super::session::Session;
use crate::lane::Traffic;
use bytes::Bytes;
use essaim_wire::NodeId;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Nodes in the address book: six times the largest cluster of the design.
const NODES_MAX: usize = 1 << 16;

/// Datagrams that may wait for a session with one node. They are small and soon stale, so the oldest are dropped first.
const WAITING_MAX: usize = 16;

/// Back-off after the first failed dial.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Upper bound on the back-off. A node that is back is found within it.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// Outcome of a dial, shared by all callers that wait for it.
pub(super) type Outcome = watch::Receiver<Option<Result<Arc<Session>, Unreached>>>;

#[derive(Default)]
pub(super) struct Book {
    nodes: BTreeMap<NodeId, Known>,
    dials: BTreeMap<(NodeId, Traffic), Outcome>,
}

#[derive(Default)]
struct Known {
    addr: Option<SocketAddr>,
    failures: u32,
    not_before: Option<Instant>,
    waiting: VecDeque<Bytes>,
}

impl Book {
    pub(super) fn learn(&mut self, node: NodeId, addr: SocketAddr) {
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node) {
            tracing::warn!(%node, "the address book is full");
            return;
        }
        let known = self.nodes.entry(node).or_default();
        if known.addr != Some(addr) {
            // Failures at the old address prove nothing about the new one.
            (known.addr, known.failures, known.not_before) = (Some(addr), 0, None);
        }
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    pub(super) fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.nodes.get(&node)?.addr
    }

    /// Records a new session: the node's address, and no failures. Returns the datagrams that waited for a control
    /// session.
    pub(super) fn on_session(&mut self, node: NodeId, addr: SocketAddr, traffic: Traffic) -> VecDeque<Bytes> {
        self.learn(node, addr);
        let Some(known) = self.nodes.get_mut(&node) else { return VecDeque::new() };
        (known.failures, known.not_before) = (0, None);
        if traffic == Traffic::Control { std::mem::take(&mut known.waiting) } else { VecDeque::new() }
    }

    /// Keeps a datagram until there is a session. Returns false when the node's address is unknown.
    pub(super) fn wait(&mut self, node: NodeId, bytes: Bytes) -> bool {
        let Some(known) = self.nodes.get_mut(&node).filter(|known| known.addr.is_some()) else { return false };
        if known.waiting.len() >= WAITING_MAX {
            known.waiting.pop_front();
        }
        known.waiting.push_back(bytes);
        true
    }

    pub(super) fn dial(&self, node: NodeId, traffic: Traffic) -> Option<Outcome> {
        self.dials.get(&(node, traffic)).cloned()
    }

    pub(super) fn dial_begins(&mut self, node: NodeId, traffic: Traffic, outcome: Outcome) {
        self.dials.insert((node, traffic), outcome);
    }

    /// Earliest moment of the next dial to the node.
    pub(super) fn not_before(&self, node: NodeId) -> Option<Instant> {
        self.nodes.get(&node)?.not_before
    }

    /// Records the outcome of a dial. A failure starts a back-off, which doubles each time, with a jitter of plus or
    /// minus half.
    pub(super) fn dial_ended(
        &mut self,
        node: NodeId,
        traffic: Traffic,
        failed: bool,
        now: Instant,
        jitter: &mut ChaCha8Rng,
    ) {
        self.dials.remove(&(node, traffic));
        let Some(known) = self.nodes.get_mut(&node) else { return };
        if !failed {
            (known.failures, known.not_before) = (0, None);
            return;
        }
        let wait = BACK_OFF.saturating_mul(1 << known.failures.min(10)).min(BACK_OFF_MAX);
        let per_mille = jitter.random_range(500..1500);
        known.not_before = Some(now + wait * per_mille / 1000);
        known.failures = known.failures.saturating_add(1);
        if traffic == Traffic::Control {
            known.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const NODE: NodeId = NodeId::from_bits(1);

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn fail(book: &mut Book, now: Instant, jitter: &mut ChaCha8Rng) -> Duration {
        book.dial_ended(NODE, Traffic::Control, true, now, jitter);
        book.not_before(NODE).expect("a failure waits") - now
    }

    #[test]
    fn the_wait_doubles_with_jitter_up_to_a_bound_and_a_new_address_ends_it() {
        let (mut book, now, mut jitter) = (Book::default(), Instant::now(), ChaCha8Rng::seed_from_u64(1));
        book.learn(NODE, addr(1));
        let waits: Vec<Duration> = (0..12).map(|_| fail(&mut book, now, &mut jitter)).collect();
        let within = |wait: Duration, around: Duration| wait >= around / 2 && wait < around * 3 / 2;
        assert!(within(waits[0], BACK_OFF) && within(waits[1], BACK_OFF * 2), "{waits:?}");
        assert!(waits[8..].iter().all(|wait| within(*wait, BACK_OFF_MAX)), "{waits:?}");
        book.learn(NODE, addr(2));
        assert_eq!(book.not_before(NODE), None);
    }

    #[test]
    fn a_few_datagrams_wait_for_a_session_and_the_oldest_go_first() {
        let mut book = Book::default();
        assert!(!book.wait(NODE, Bytes::new()), "nobody knows where the node is");
        book.learn(NODE, addr(1));
        for number in 0..20u8 {
            assert!(book.wait(NODE, Bytes::from(vec![number])));
        }
        let waited = book.on_session(NODE, addr(1), Traffic::Control);
        assert_eq!((waited.len(), &waited[0][..]), (WAITING_MAX, &[4u8][..]));
        assert!(book.on_session(NODE, addr(1), Traffic::Control).is_empty());
    }
}
