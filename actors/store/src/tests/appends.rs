//! The answers that a leader gets for its appends under way, and when.

use super::world::{LINEAGE, Net, id, pipe};
use crate::format::lane::{Append, Appended, Hello};
use crate::format::{Body, LogId, Peer};
use crate::peers::{Peers, Pipe};
use crate::raft::Types;
use crate::raft::convert::{entry_in, log_id_in, vote_in};
use crate::raft::network::Network;
use crate::time::ClusterTime;
use essaim_system::env::VirtualClock;
use essaim_transport::Lane;
use essaim_wire::{NodeId, Timestamp};
use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use openraft::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::duplex;

/// Peers with a single pipe, which the first caller gets.
struct Once(Mutex<Option<Pipe>>);

impl Peers for Once {
    fn open(&self, _: NodeId, _: Lane) -> BoxFuture<'_, Result<Pipe, String>> {
        let pipe = self.0.lock().take();
        async move { pipe.ok_or_else(|| "opened already".into()) }.boxed()
    }
}

fn place(index: u64) -> LogId {
    LogId { term: 1, index }
}

/// An append of the entries from `from` to `to`; a heartbeat when they are the same.
fn append(from: u64, to: u64) -> AppendEntriesRequest<Types> {
    let entry = |index| entry_in(crate::format::Entry { id: place(index), body: Body::Blank }).expect("it is one");
    AppendEntriesRequest {
        vote: vote_in(crate::format::Vote { term: 1, node: 1, committed: true }),
        prev_log_id: Some(log_id_in(place(from))),
        entries: (from + 1..=to).map(entry).collect(),
        leader_commit: None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_credited_to_an_append_that_was_sent_after_it() {
    let net = Arc::new(Net::default());
    let (near, far) = duplex(64 << 10);
    let (near, mut far) = (pipe(near, &net, id(1), id(2)), pipe(far, &net, id(2), id(1)));
    let time = ClusterTime::new(Arc::new(VirtualClock::new(Timestamp::default())));
    let mut network = Network { peers: Arc::new(Once(Mutex::new(Some(near)))), lineage: LINEAGE, own: 1, time };
    let mut client = network.new_client(2, &Peer::default()).await;
    let (requests, input) = mpsc::unbounded();
    let patience = Duration::from_millis(50);
    let mut answers =
        client.stream_append(Box::pin(input), RPCOption::new(patience)).await.expect("nothing is sent yet");

    // An entry, then a heartbeat that ends at the same index, then another entry.
    for request in [append(4, 5), append(5, 5), append(5, 6)] {
        requests.unbounded_send(request).expect("it is read");
    }
    assert!(tokio::time::timeout(patience, answers.next()).await.is_err(), "nothing was answered");
    far.recv.expect_value::<Hello>().await.expect("a stream begins so");
    for _ in 0..3 {
        far.recv.expect_value::<Append>().await.expect("it was sent");
    }

    far.send.send_value(&Appended::Accepted(Some(place(5)))).await.expect("somebody listens");
    assert!(tokio::time::timeout(patience, answers.next()).await.is_err(), "the heartbeat is not answered yet");
    for (upto, told) in [(5, 5), (6, 6)] {
        far.send.send_value(&Appended::Accepted(Some(place(upto)))).await.expect("somebody listens");
        let answer = answers.next().await.expect("the stream goes on").expect("it was answered");
        assert_eq!(answer, Ok(Some(log_id_in(place(told)))));
    }
    drop(requests);
    assert!(answers.next().await.is_none(), "everything was answered");
}
