//! Queues of received datagrams: one for each peer, read in turn.
//!
//! With a single queue for all peers, a peer that sends faster than this node reads would fill it, and the heartbeats
//! of every other peer would be dropped. Here a peer that sends too fast loses its own oldest datagrams, and between
//! two of its datagrams every other peer with a datagram is read once.

use super::Datagram;
use bytes::Bytes;
use essaim_wire::NodeId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Datagrams of one peer that may wait; a further one replaces the oldest, since heartbeats are soon stale. A peer
/// sends some ten a second, so this outlasts a reader that is late by five seconds. A datagram fits into a packet, so a
/// peer holds 80 KiB at most; and only peers with a session have a queue.
const EACH_MAX: usize = 64;

/// Receiving end of the queues. Ends when the endpoint is gone.
#[derive(Debug)]
pub struct Datagrams(Arc<Mutex<Queues>>);

/// Sending end of the queues; there is only one.
#[derive(Debug)]
pub struct DatagramSink(Arc<Mutex<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    /// Queues by peer; a peer without datagrams has none.
    of: BTreeMap<NodeId, VecDeque<Bytes>>,
    /// Peers in `of`, in the order in which they are read.
    turns: VecDeque<NodeId>,
    reader: Option<Waker>,
    closed: bool,
}

impl Datagrams {
    /// Creates empty queues and returns both ends.
    pub fn queues() -> (DatagramSink, Self) {
        let queues = Arc::new(Mutex::new(Queues::default()));
        (DatagramSink(Arc::clone(&queues)), Self(queues))
    }

    /// Receives the next datagram; `None` when the sending end is gone and the queues are empty.
    pub async fn recv(&mut self) -> Option<Datagram> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives the next datagram, if one waits.
    pub fn try_recv(&mut self) -> Option<Datagram> {
        self.0.lock().pop()
    }

    /// Like [`Self::recv`], for a reader that waits for other things too. Only the reader that polled last is woken.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Datagram>> {
        let mut queues = self.0.lock();
        match queues.pop() {
            Some(datagram) => Poll::Ready(Some(datagram)),
            None if queues.closed => Poll::Ready(None),
            None => {
                queues.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl DatagramSink {
    /// Adds a datagram. Returns false when the oldest datagram of the same peer was dropped for it.
    pub fn push(&self, Datagram { from, bytes }: Datagram) -> bool {
        let mut queues = self.0.lock();
        let Queues { of, turns, .. } = &mut *queues;
        let queue = of.entry(from).or_default();
        if queue.is_empty() {
            turns.push_back(from);
        }
        let dropped = queue.len() >= EACH_MAX && queue.pop_front().is_some();
        queue.push_back(bytes);
        let reader = queues.reader.take();
        drop(queues);
        reader.into_iter().for_each(Waker::wake);
        !dropped
    }
}

impl Drop for DatagramSink {
    fn drop(&mut self) {
        let mut queues = self.0.lock();
        queues.closed = true;
        let reader = queues.reader.take();
        drop(queues);
        reader.into_iter().for_each(Waker::wake);
    }
}

impl Queues {
    fn pop(&mut self) -> Option<Datagram> {
        let from = self.turns.pop_front()?;
        let queue = self.of.get_mut(&from)?;
        let bytes = queue.pop_front()?;
        if queue.is_empty() {
            self.of.remove(&from);
        } else {
            self.turns.push_back(from);
        }
        Some(Datagram { from, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(from: u128, number: u8) -> Datagram {
        Datagram { from: NodeId::from_bits(from), bytes: Bytes::from(vec![number]) }
    }

    fn all(datagrams: &mut Datagrams) -> Vec<(u128, u8)> {
        std::iter::from_fn(|| datagrams.try_recv()).map(|it| (it.from.bits(), it.bytes[0])).collect()
    }

    #[test]
    fn peers_are_read_in_turn_and_each_in_the_order_of_its_datagrams() {
        let (sink, mut datagrams) = Datagrams::queues();
        for number in 0..3 {
            assert!(sink.push(datagram(1, number)));
        }
        assert!(sink.push(datagram(2, 9)));
        assert_eq!(all(&mut datagrams), [(1, 0), (2, 9), (1, 1), (1, 2)]);
    }

    #[test]
    fn a_peer_that_sends_too_fast_loses_its_own_oldest_and_nothing_of_others() {
        let (sink, mut datagrams) = Datagrams::queues();
        assert!(sink.push(datagram(2, 7)));
        let kept = (0..200).filter(|number| sink.push(datagram(1, *number))).count();
        assert_eq!(kept, EACH_MAX);
        assert!(sink.push(datagram(3, 8)));
        let heard = all(&mut datagrams);
        assert_eq!(heard[..3], [(2, 7), (1, 200 - EACH_MAX as u8), (3, 8)]);
        assert_eq!(heard.len(), EACH_MAX + 2);
        assert!(datagrams.0.lock().of.is_empty(), "a peer without a datagram costs nothing");
    }

    #[tokio::test]
    async fn a_reader_is_woken_by_a_datagram_and_by_the_end() {
        let (sink, mut datagrams) = Datagrams::queues();
        let reader = tokio::spawn(async move { (datagrams.recv().await, datagrams.recv().await) });
        tokio::task::yield_now().await;
        sink.push(datagram(1, 1));
        tokio::task::yield_now().await;
        drop(sink);
        assert_eq!(reader.await.expect("no panic"), (Some(datagram(1, 1)), None));
    }
}
