//! Between the store and `transport`'s endpoint: lanes out, lanes in.

use crate::peers::{Peers, Pipe};
use crate::store::Store;
use essaim_transport::{Endpoint, Lane, LaneStream, PeerInfo, Serve};
use essaim_wire::NodeId;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;

impl Peers for Endpoint {
    fn open(&self, node: NodeId, lane: Lane) -> BoxFuture<'_, Result<Pipe, String>> {
        async move {
            let LaneStream { send, recv, .. } = Self::open(self, node, lane).await.map_err(|why| why.to_string())?;
            Ok(Pipe { send, recv })
        }
        .boxed()
    }
}

impl Serve for Store {
    fn serve(self: Arc<Self>, peer: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        let LaneStream { lane, send, recv, .. } = stream;
        async move { Self::serve(&self, lane, peer.node, Pipe { send, recv }).await }.boxed()
    }
}

impl Store {
    /// Serves this store's lanes at `endpoint`.
    pub fn attach(&self, endpoint: &Endpoint) {
        let server = Arc::new(self.clone());
        for lane in Self::LANES {
            endpoint.serve(lane, Arc::clone(&server) as Arc<dyn Serve>);
        }
    }

    /// Serves them no more; before the store is closed.
    pub fn detach(endpoint: &Endpoint) {
        for lane in Self::LANES {
            endpoint.unserve(lane);
        }
    }
}
