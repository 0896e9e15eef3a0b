//! Push-pull: two nodes exchange their whole tables over the `members` lane. One frame each way.

use super::{RosterMsg, Shared};
use crate::supervisor::Address;
use essaim_membership::Input;
use essaim_transport::{Lane, LaneStream, PeerInfo, Serve};
use essaim_wire::NodeId;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// How long an exchange may take: a table of ten thousand is a megabyte.
const EXCHANGE_WAIT: Duration = Duration::from_secs(5);

/// Answers a peer that wants to exchange.
pub(super) struct MembersServer {
    pub(super) actor: Address<RosterMsg>,
}

impl Serve for MembersServer {
    fn serve(self: Arc<Self>, peer: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let exchange = async {
                let theirs = stream.recv.recv().await.ok()??;
                let from = peer.node;
                let ask = |reply| RosterMsg::PushPull { from, bytes: theirs.to_vec(), reply };
                let ours = self.actor.call(ask, EXCHANGE_WAIT).await.ok()?;
                stream.send.send(&ours).await.ok()?;
                stream.send.finish().await.ok()
            };
            let _ = tokio::time::timeout(EXCHANGE_WAIT, exchange).await;
        })
    }
}

/// Exchanges with a node; what to tell the detector.
pub(super) async fn exchange(shared: &Shared, node: NodeId, ours: Vec<u8>) -> Input {
    let exchange = async {
        let mut stream = shared.endpoint.lane(node, Lane::Members).await.ok()?;
        stream.send.send(&ours).await.ok()?;
        stream.recv.recv().await.ok()?
    };
    match tokio::time::timeout(EXCHANGE_WAIT, exchange).await {
        Ok(Some(bytes)) => Input::Members { from: node, bytes: bytes.to_vec() },
        _ => Input::Unanswered(node),
    }
}
