//! A still manager: its state changes only by the test. It has the real store with the real `apply`, and no leader's
//! tree.
//!
//! Tests of what shows a cluster (the routes, above all) bring it into any state by proposing the changes that lead
//! there, under ids of their own choice. The node is a real one, with a part in a real cluster; only its requests to
//! the cluster go to this store instead, and the test may have it shown as another node or as a worker.

use essaim_manager::Control;
use essaim_model::{AddressPools, Change, Cluster, ClusterSpec, EngineKind, Founding, Node, Refusal, State};
use essaim_node::{Handle, Membership, Standing};
use essaim_store::{LogBounds, Peers, Pipe, Start, Store, StoreConfig};
use essaim_system::env::SimDisk;
use essaim_transport::Lane;
use essaim_wire::{Index, Level, Lineage, NodeId, Role};
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;

/// A manager whose state only the test changes.
pub struct Still {
    handle: Handle,
    store: Store,
    standing: watch::Sender<Standing>,
}

impl Still {
    /// Makes `node`, a manager of a cluster, the manager of another cluster that `first` founded with these settings and
    /// address pools, and whose tasks run on this engine.
    pub async fn of(
        node: &Handle,
        first: Node,
        (spec, pools): (ClusterSpec, AddressPools),
        engine: EngineKind,
    ) -> Result<Self, String> {
        let part = node.standing().membership().cloned().ok_or("the node has no part in a cluster")?;
        let real = node.control().map_err(|why| why.to_string())?.last_known();
        let real = real.cluster().ok_or("the node knows no cluster")?;
        let scope = node.scope().clone();
        let config = StoreConfig {
            node: first.id,
            generation: node.generation(),
            addr: first.addr,
            disk: Arc::new(SimDisk::new()),
            clock: Arc::clone(&scope.env.clock),
            seed: scope.env.seed.fork(),
            peers: Arc::new(Nobody),
            level: Level::NEWEST,
            log: LogBounds::USUAL,
        };
        let lineage = Lineage { ordinal: 1, nonce: 1 };
        let store = Store::open(config, Start::Found { lineage }).await.map_err(|why| why.to_string())?;
        let mut leadership = store.leadership();
        // The watch's guard must not outlive the statement: the store writes through the watch.
        let leads = leadership.wait_for(|it| it.active().is_some()).await.is_ok();
        leads.then_some(()).ok_or("the only manager does not lead")?;
        let cluster = Cluster { lineage, spec, pools, default_engine: engine, ..(**real).clone() };
        let (id, addr) = (first.id, first.addr.unwrap_or(part.advertise));
        let found = Change::Found(Box::new(Founding { cluster, node: first }));
        store.change(vec![found], None).await.map_err(|why| why.to_string())?;
        let control = Control::new(store.clone(), part.endpoint.clone(), scope);
        let part = Membership { node: id, advertise: addr, control: Some(control), ..(*part).clone() };
        let (standing, shown) = watch::channel(Standing::Active(Arc::new(part)));
        tokio::spawn(follow(node.standings(), standing.clone()));
        Ok(Self { handle: node.that_stands(shown), store, standing })
    }

    /// The handle that shows the node as the test set it.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Shows the node as this node in this role from now on. A worker takes no requests to the cluster.
    pub fn pass_for(&self, node: NodeId, role: Role) {
        let Some(part) = self.handle.standing().membership().cloned() else { return };
        let control = part.control.clone().filter(|_| role == Role::Manager);
        self.stand(Standing::Active(Arc::new(Membership { node, role, control, ..(*part).clone() })));
    }

    /// Shows the node with this standing from now on.
    pub fn stand(&self, standing: Standing) {
        self.standing.send_replace(standing);
    }

    /// Makes changes, all or none.
    pub async fn change(&self, changes: Vec<Change>) -> Result<Index, Refusal> {
        self.store.change(changes, None).await
    }

    /// The present state.
    pub fn state(&self) -> Arc<State> {
        self.store.state()
    }
}

/// Shows the node as inactive once it has really left its cluster.
async fn follow(mut real: watch::Receiver<Standing>, shown: watch::Sender<Standing>) {
    if real.wait_for(|standing| standing.membership().is_none()).await.is_ok() {
        shown.send_replace(Standing::Inactive);
    }
}

/// Opens no lanes: the group has no other manager.
struct Nobody;

impl Peers for Nobody {
    fn open(&self, node: NodeId, _: Lane) -> BoxFuture<'_, Result<Pipe, String>> {
        Box::pin(async move { Err(format!("{node} is no manager")) })
    }
}
