//! Connections that other nodes have accepted for tasks of this node, each on a stream of the `port` lane.
//!
//! A node may ask for no port that the task does not publish; the door sees to that. The endpoint bounds the streams of
//! each peer.

use super::carry::Remote;
use super::{Mesh, pump};
use essaim_protocol::{PortReply, PortRequest};
use essaim_transport::{FrameError, LaneStream, PeerInfo, Serve};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
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
        let LaneStream { mut send, mut recv, .. } = stream;
        let request = timeout(REQUEST_PATIENCE, recv.expect_value::<PortRequest>()).await;
        let PortRequest { service, task, port, target, client: _ } = request.map_err(|_| FrameError::Cut)??;
        let refuse = |why: &str| PortReply::Refused(why.into());
        let reached = match Arc::clone(&self.0.shared.places).try_acquire_owned() {
            Err(_) => Err(refuse("the node carries as many connections as it can")),
            Ok(place) => match self.0.doors().enter(service, task, port, target) {
                Err(why) => Err(refuse(why)),
                Ok((way, stay)) => match timeout(ACCEPT_MAX, way.dial()).await {
                    Ok(Ok(stream)) => Ok((stream, stay, place)),
                    Ok(Err(why)) => Err(refuse(&why.to_string())),
                    Err(_) => Err(refuse("the task does not accept connections")),
                },
            },
        };
        let (stream, _stay, _place) = match reached {
            Ok(reached) => reached,
            Err(refusal) => {
                send.send_value(&refusal).await?;
                return send.finish().await;
            }
        };
        send.send_value(&PortReply::Open).await?;
        let (recv, early) = recv.into_inner();
        let mut remote = Remote { send: send.into_inner(), recv };
        if pump::both(stream, &mut remote, &early).await.is_err() {
            remote.reset();
        }
        Ok(())
    }
}

impl Serve for PortServer {
    fn serve(self: Arc<Self>, _: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        // A node that has gone gets no answer.
        async move { self.serve_one(stream).await.unwrap_or_default() }.boxed()
    }
}
