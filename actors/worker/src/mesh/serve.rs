//! Connections and UDP flows that other nodes have accepted for tasks of this node, each on a stream of the `port` lane.
//!
//! A node may ask for no port that the task does not publish; the door sees to that. The endpoint bounds the streams of
//! each peer.

use super::carry::{Dial, Remote};
use super::doors::{Entered, Stay};
use super::{Ends, Mesh, flow, pump};
use crate::engine::{Duplex, Packets};
use essaim_model::PortProtocol;
use essaim_protocol::{PortReply, PortRequest};
use essaim_transport::{FrameError, LaneStream, PeerInfo, Serve};
use essaim_wire::planted::{Bug, planted};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Time that a node may take to send its request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Time that a task may take to accept a connection. The asking node gives up sooner.
const ACCEPT_MAX: Duration = Duration::from_secs(1);

/// Serves the `port` lane.
#[derive(Clone)]
pub(super) struct PortServer(pub(super) Mesh);

impl PortServer {
    async fn serve_one(&self, stream: LaneStream) -> Result<(), FrameError> {
        let LaneStream { mut send, mut recv, peer, .. } = stream;
        let request = timeout(REQUEST_PATIENCE, recv.expect_value::<PortRequest>()).await;
        let request = request.map_err(|_| FrameError::Cut)??;
        let is_udp = request.port.protocol == PortProtocol::Udp;
        let reached = if is_udp {
            self.reach(&request, Entered::dial_udp).await.map(|(socket, stay, place)| (Made::Udp(socket), stay, place))
        } else {
            self.reach(&request, Entered::dial).await.map(|(stream, stay, place)| (Made::Tcp(stream), stay, place))
        };
        let (made, stay, _place) = match reached {
            Ok(reached) => reached,
            Err(why) => {
                send.send_value(&PortReply::Refused(why)).await?;
                return send.finish().await;
            }
        };
        send.send_value(&PortReply::Open).await?;
        match made {
            Made::Udp(socket) => flow::serve(socket, stay, send, recv).await,
            Made::Tcp(stream) => {
                let (recv, early) = recv.into_inner();
                let stream = self.0.shared.stalls.watch(stream, peer.node);
                let remote = Box::new(Remote { send: send.into_inner(), recv });
                // Both ends have been told when one has broken.
                drop(pump::both(stream, remote, &early).await);
            }
        }
        Ok(())
    }

    /// Reaches the task that a node asks for; `Err` says why not, in words for people.
    async fn reach<T>(&self, request: &PortRequest, dial: Dial<T>) -> Result<(T, Stay, OwnedSemaphorePermit), String> {
        let PortRequest { service, task, port, target, client, server } = *request;
        let client = if planted(Bug::ClientOfTheNode) { server } else { client };
        let place = Arc::clone(&self.0.shared.places).try_acquire_owned();
        let place = place.map_err(|_| "the node carries as many connections as it can")?;
        let (entered, stay) = self.0.doors().enter(service, task, port, target)?;
        match timeout(ACCEPT_MAX, dial(&entered, Ends { client, server })).await {
            Ok(Ok(made)) => Ok((made, stay, place)),
            Ok(Err(why)) => Err(why.to_string()),
            Err(_) => Err("the task does not accept connections".into()),
        }
    }
}

/// What the engine of a task has made for another node's client.
enum Made {
    Tcp(Box<dyn Duplex>),
    Udp(Box<dyn Packets>),
}

impl Serve for PortServer {
    fn serve(self: Arc<Self>, _: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        // A node that has gone gets no answer.
        async move { self.serve_one(stream).await.unwrap_or_default() }.boxed()
    }
}
