//! Push-pull: two nodes compare their membership tables over the `members` lane. The asker first sends the checksum of
//! its table. When the other table has the same checksum, the answer is an empty frame and the exchange ends; otherwise
//! each side sends its table.

use super::{RosterMsg, Shared};
use essaim_membership::{Input, Table};
use essaim_system::supervisor::Address;
use essaim_transport::{Lane, LaneStream, PeerInfo, Serve};
use essaim_wire::NodeId;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Upper bound on the duration of one push-pull: a table of ten thousand members is a megabyte.
const EXCHANGE_WAIT: Duration = Duration::from_secs(5);

/// Serves the `members` lane: answers peers that start a push-pull.
pub(super) struct MembersServer {
    pub(super) actor: Address<RosterMsg>,
}

impl Serve for MembersServer {
    fn serve(self: Arc<Self>, peer: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let exchange = async {
                let sum: u64 = stream.recv.recv_value().await.ok()??;
                let ours = self.actor.call(RosterMsg::Table, EXCHANGE_WAIT).await.ok()?;
                if ours.sum == sum {
                    stream.send.send(&[]).await.ok()?;
                } else {
                    stream.send.send(&ours.bytes).await.ok()?;
                    let bytes = stream.recv.recv().await.ok()??.to_vec();
                    self.actor.cast(RosterMsg::Input(Input::Members { from: peer.node, bytes })).ok()?;
                }
                stream.send.finish().await.ok()
            };
            let _ = tokio::time::timeout(EXCHANGE_WAIT, exchange).await;
        })
    }
}

/// Starts a push-pull with a node. Returns the input for the detector when the node answers and the tables differ.
pub(super) async fn exchange(shared: &Shared, node: NodeId, ours: Table) -> Option<Input> {
    let exchange = async {
        let mut stream = shared.endpoint.lane(node, Lane::Members).await.ok()?;
        stream.send.send_value(&ours.sum).await.ok()?;
        let theirs = stream.recv.recv().await.ok()??;
        if theirs.is_empty() {
            return None;
        }
        stream.send.send(&ours.bytes).await.ok()?;
        stream.send.finish().await.ok()?;
        Some(Input::Members { from: node, bytes: theirs.to_vec() })
    };
    tokio::time::timeout(EXCHANGE_WAIT, exchange).await.ok().flatten()
}
