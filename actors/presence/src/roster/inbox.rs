//! The roster's inbox: session events and datagrams that have arrived and were not read yet.
//!
//! The channels belong to the transport and are bounded there. The actor must be able to read everything in them before
//! a wake-up counts, and must also be woken when something arrives. Waiting takes one item out of a channel, so the
//! inbox puts that item at the front of what the actor reads next.

use crate::endpoint::Incoming;
use essaim_transport::{Datagram, Event};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

#[derive(Debug)]
pub(super) enum Item {
    Event(Event),
    Datagram(Datagram),
}

pub(super) struct Inbox {
    inner: Mutex<Inner>,
}

struct Inner {
    incoming: Incoming,
    first: VecDeque<Item>,
}

impl Inbox {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self { inner: Mutex::new(Inner { incoming, first: VecDeque::new() }) }
    }

    /// Waits until there is an item to read; `false` when no item can come any more.
    pub(super) async fn ready(&self) -> bool {
        poll_fn(|cx| self.inner().poll_ready(cx)).await
    }

    /// Takes up to `limit` items: session events before datagrams, the datagrams of several peers in turn, otherwise in
    /// the order of arrival.
    pub(super) fn drain(&self, limit: usize) -> Vec<Item> {
        let mut inner = self.inner();
        let mut items: Vec<Item> = inner.first.drain(..).collect();
        while items.len() < limit {
            let item = match inner.incoming.events.try_recv() {
                Ok(event) => Item::Event(event),
                Err(_) => match inner.incoming.datagrams.try_recv() {
                    Some(datagram) => Item::Datagram(datagram),
                    None => break,
                },
            };
            items.push(item);
        }
        items
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.first.is_empty() {
            return Poll::Ready(true);
        }
        let events = self.incoming.events.poll_recv(cx);
        if let Poll::Ready(Some(event)) = events {
            self.first.push_back(Item::Event(event));
            return Poll::Ready(true);
        }
        let datagrams = self.incoming.datagrams.poll_recv(cx);
        if let Poll::Ready(Some(datagram)) = datagrams {
            self.first.push_back(Item::Datagram(datagram));
            return Poll::Ready(true);
        }
        if events.is_ready() && datagrams.is_ready() { Poll::Ready(false) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_transport::Datagrams;
    use essaim_wire::NodeId;
    use tokio::sync::mpsc;

    fn datagram(n: u8) -> Datagram {
        Datagram { from: NodeId::from_bits(1), bytes: vec![n].into() }
    }

    fn numbers(items: &[Item]) -> Vec<u8> {
        items
            .iter()
            .map(|item| match item {
                Item::Datagram(datagram) => datagram.bytes[0],
                Item::Event(event) => panic!("{event:?}"),
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_woke_the_waiter_is_read_first_and_everything_else_after_it() {
        let (_events, events) = mpsc::channel(8);
        let (send, datagrams) = Datagrams::queues();
        let inbox = Inbox::new(Incoming { events, datagrams });
        assert!(send.push(datagram(1)));
        assert!(inbox.ready().await);
        assert!(inbox.ready().await, "it is not lost by asking twice");
        for n in 2..=5 {
            assert!(send.push(datagram(n)));
        }
        assert_eq!(numbers(&inbox.drain(3)), [1, 2, 3]);
        assert_eq!(numbers(&inbox.drain(9)), [4, 5]);
        drop((send, _events));
        assert!(!inbox.ready().await);
    }
}
