//! The Raft store of a manager: where its files are, how it reaches the other managers, and how its lanes are served.

use essaim_presence::endpoint::Endpoint;
use essaim_store::{LogBounds, OpenError, Peers, Pipe, Start, Store, StoreConfig};
use essaim_system::Env;
use essaim_system::env::{Disk, folder};
use essaim_transport::{Lane, LaneStream, PeerInfo, Serve};
use essaim_wire::NodeId;
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;

/// Name of the store's folder below the node's folder.
const FOLDER: &str = "raft";

/// How a store is opened.
pub(crate) enum Opening {
    /// Open the store as this `Start` says.
    Start(Start),
    /// Open the files on disk as a group of one: the other managers are gone for good.
    Force,
}

/// The folder of the store's files.
pub(crate) fn disk(env: &Env) -> Arc<dyn Disk> {
    folder(&env.disk, FOLDER)
}

/// Opens the store and serves its lanes.
pub(crate) async fn open(
    env: &Env,
    endpoint: &Endpoint,
    advertise: SocketAddr,
    log: LogBounds,
    opening: Opening,
) -> Result<Store, OpenError> {
    let config = StoreConfig {
        node: endpoint.node(),
        generation: endpoint.generation(),
        addr: Some(advertise),
        disk: disk(env),
        clock: Arc::clone(&env.clock),
        seed: env.seed.fork(),
        peers: Arc::new(Lanes(endpoint.clone())),
        level: env.build.level,
        log,
    };
    let store = match opening {
        Opening::Start(start) => Store::open(config, start).await?,
        Opening::Force => Store::force_new_cluster(config).await?,
    };
    for lane in Store::LANES {
        endpoint.serve(lane, Arc::new(Served { lane, store: store.clone() }));
    }
    Ok(store)
}

/// Hands over leadership, closes the store, and stops serving its lanes.
pub(crate) async fn close(endpoint: &Endpoint, store: &Store) {
    // When no other manager can take over, the group elects a leader after its election timeout.
    let _ = store.hand_over().await;
    for lane in Store::LANES {
        endpoint.unserve(lane);
    }
    store.close().await;
}

/// Opens lanes to other managers for the store.
struct Lanes(Endpoint);

impl Peers for Lanes {
    fn open(&self, node: NodeId, lane: Lane) -> BoxFuture<'_, Result<Pipe, String>> {
        Box::pin(async move {
            let LaneStream { send, recv, .. } = self.0.lane(node, lane).await.map_err(|why| why.to_string())?;
            Ok(Pipe { send, recv })
        })
    }
}

/// Serves one lane of the store.
struct Served {
    lane: Lane,
    store: Store,
}

impl Serve for Served {
    fn serve(self: Arc<Self>, peer: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let LaneStream { send, recv, .. } = stream;
            self.store.serve(self.lane, peer.node, Pipe { send, recv }).await;
        })
    }
}
