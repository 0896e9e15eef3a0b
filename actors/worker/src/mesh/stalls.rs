//! Connections that come from another node and whose end here takes nothing: a client that does not read what it asked for,
//! or a task that does not read what it is sent.
//!
//! What such an end has not taken lies in the bulk connection of the two nodes, which has room for [`STALLED_MAX`] of them
//! beside all others. Those beyond are ended, the longest ones first, when they have not taken a byte for
//! [`STALLED_FOR`]. Fewer may stand still for as long as they like.

use crate::engine::Duplex;
use essaim_transport::STALLED_MAX;
use essaim_wire::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Time without a byte after which one of too many is ended: longer than a client pauses that is at work on what it has.
const STALLED_FOR: Duration = Duration::from_secs(10);

/// Connections that stand still, by the node that they come from. `T` wakes one that is to end.
#[derive(Debug)]
struct Table<T> {
    of: BTreeMap<NodeId, BTreeMap<Since, T>>,
    begun: u64,
}

/// When a connection began to stand still, and a number that tells it from others.
type Since = (Duration, u64);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { of: BTreeMap::new(), begun: 0 }
    }
}

impl<T> Table<T> {
    fn begin(&mut self, now: Duration, peer: NodeId, wakes: T) -> Since {
        self.begun += 1;
        let since = (now, self.begun);
        self.of.entry(peer).or_default().insert(since, wakes);
        since
    }

    /// The entry of a connection that still stands still and is not to end.
    fn get(&mut self, peer: NodeId, since: Since) -> Option<&mut T> {
        self.of.get_mut(&peer)?.get_mut(&since)
    }

    fn end(&mut self, peer: NodeId, since: Since) {
        if let Some(stalled) = self.of.get_mut(&peer) {
            stalled.remove(&since);
            if stalled.is_empty() {
                self.of.remove(&peer);
            }
        }
    }

    /// Removes those that are to end.
    fn surplus(&mut self, now: Duration) -> Vec<T> {
        let mut surplus = Vec::new();
        for stalled in self.of.values_mut() {
            while stalled.len() > STALLED_MAX
                && let Some(first) = stalled.first_entry()
                && now.saturating_sub(first.key().0) >= STALLED_FOR
            {
                surplus.push(first.remove());
            }
        }
        surplus
    }
}

/// The connections that stand still; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Stalls {
    table: Arc<Mutex<Table<Waker>>>,
    /// Time from which moments are counted.
    zero: Instant,
}

impl Default for Stalls {
    fn default() -> Self {
        Self { table: Arc::default(), zero: Instant::now() }
    }
}

impl Stalls {
    /// Ends those beyond what a bulk connection has room for. Returns how many.
    pub(super) fn expire(&self) -> usize {
        let surplus = self.table.lock().surplus(self.zero.elapsed());
        let count = surplus.len();
        surplus.into_iter().for_each(Waker::wake);
        count
    }

    /// Watches the end of a connection that comes from another node.
    pub(super) fn watch(&self, end: Box<dyn Duplex>, peer: NodeId) -> Box<dyn Duplex> {
        Box::new(Watched { end, peer, stalls: self.clone(), since: None })
    }
}

/// The journal's record of connections that were ended.
pub(super) fn words(ended: usize) -> String {
    format!(
        "{ended} connections through published ports were ended: more than {STALLED_MAX} of another node took nothing, and \
         these for the longest time"
    )
}

/// The end of a connection, which breaks when it is to make room.
struct Watched {
    end: Box<dyn Duplex>,
    peer: NodeId,
    stalls: Stalls,
    since: Option<Since>,
}

impl Watched {
    fn moves_again(&mut self) {
        if let Some(since) = self.since.take() {
            self.stalls.table.lock().end(self.peer, since);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.moves_again();
    }
}

impl Duplex for Watched {
    fn abort(&mut self) {
        self.end.abort();
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.end).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut *self.end).poll_write(cx, buf);
        if wrote.is_pending() {
            let this = &mut *self;
            let mut table = this.stalls.table.lock();
            match this.since {
                None => this.since = Some(table.begin(this.stalls.zero.elapsed(), this.peer, cx.waker().clone())),
                Some(since) => match table.get(this.peer, since) {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                },
            }
        }
        let wrote = ready!(wrote);
        self.moves_again();
        Poll::Ready(wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.end).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.end).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const PEER: NodeId = NodeId::from_bits(1);

    #[test]
    fn of_too_many_those_end_that_have_taken_nothing_for_the_longest_time() {
        let mut table = Table::default();
        let at = Duration::from_secs;
        let first: Vec<_> = (0..STALLED_MAX).map(|number| table.begin(at(0), PEER, number)).collect();
        table.begin(at(0), NodeId::from_bits(2), 1000);
        assert!(table.surplus(at(3600)).is_empty(), "there is room for as many");
        table.begin(at(3600), PEER, 100);
        table.begin(at(3600), PEER, 101);
        assert_eq!(table.surplus(at(3600)), [0, 1]);
        assert_eq!([1, 2].map(|at| table.get(PEER, first[at]).copied()), [None, Some(2)]);
        // All of them began to stand still a moment ago.
        let mut table = Table::default();
        for number in 0..2 * STALLED_MAX {
            table.begin(at(9), PEER, number);
        }
        assert!(table.surplus(at(18)).is_empty());
        assert_eq!(table.surplus(at(19)).len(), STALLED_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_end_stands_still_as_long_as_there_is_room_and_then_breaks() {
        let stalls = Stalls::default();
        let mut others: Vec<_> = (0..STALLED_MAX).map(|_| duplex(8)).collect();
        let (mut far, near) = duplex(8);
        let mut watched = stalls.watch(Box::new(near), PEER);
        let writes = tokio::spawn(async move {
            watched.write_all(&[7; 100]).await?;
            watched.write_all(&[7; 100]).await
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(stalls.expire(), 0);
        // One that takes bytes again counts no longer, and is the newest when it stands still once more.
        far.read_exact(&mut [0; 100]).await.expect("there are more");
        let mut newer = Vec::new();
        for (_, near) in &mut others {
            let near = std::mem::replace(near, duplex(1).0);
            let mut end = stalls.watch(Box::new(near), PEER);
            newer.push(tokio::spawn(async move { end.write_all(&[7; 100]).await }));
        }
        tokio::time::sleep(STALLED_FOR).await;
        assert_eq!(stalls.expire(), 1);
        let ended = writes.await.expect("no panic").expect_err("it makes room");
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert!(newer.iter().all(|writes| !writes.is_finished()));
        drop(others);
    }
}
