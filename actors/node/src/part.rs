//! The part of a node in a cluster: its port, its roster, its worker, and on a manager its store and the manager's
//! tree. They start in this order and stop in the reverse one.

use crate::actor::Msg;
use crate::address::AddressOptions;
use crate::core::Replica;
use crate::examine::Examiner;
use crate::follow;
use crate::group::{self, Opening};
use crate::handle::Parts;
use crate::standing::Membership;
use bincode::{Decode, Encode};
use essaim_manager::{Control, Manager, ManagerArguments};
use essaim_membership::{Config as RosterConfig, Member};
use essaim_model::{Refusal, RefusalKind};
use essaim_presence::endpoint::{Endpoint, Keep, Settings};
use essaim_presence::roster::RosterHandle;
use essaim_presence::view::View;
use essaim_store::{LogBounds, OpenError, Store};
use essaim_system::env::folder;
use essaim_system::supervisor::{Children, Escalated, NotStarted};
use essaim_system::{ChildSpec, Scope};
use essaim_transport::Identity;
use essaim_wire::{Generation, NodeId, Role};
use essaim_worker::{WorkerHandle, WorkerSettings};
use ractor::ActorRef;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Addresses that the node stores to find its place in the cluster again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Place {
    /// Version 1 of the format.
    V1 {
        /// Address that the port was bound to.
        listen: SocketAddr,
        /// Address that other nodes were told.
        advertise: SocketAddr,
        /// The managers as last heard, to contact first.
        managers: Vec<(NodeId, SocketAddr)>,
        /// The daemon's address flags when the node founded or joined its cluster.
        flags: KeptAddressOptions,
        /// The addresses in the request with which the node founded or joined its cluster.
        request: KeptAddressOptions,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct KeptAddressOptions {
    pub(crate) listen: String,
    pub(crate) advertise: String,
}

impl KeptAddressOptions {
    pub(crate) fn as_options(&self) -> AddressOptions<'_> {
        AddressOptions { listen: &self.listen, advertise: &self.advertise }
    }
}

/// Name of the file that holds [`Place`].
pub(crate) const PLACE: &str = "place";

/// Name of the folder of the worker's files.
pub(crate) const WORKER_FOLDER: &str = "worker";

pub(crate) struct Part {
    pub(crate) endpoint: Endpoint,
    pub(crate) roster: RosterHandle,
    pub(crate) worker: WorkerHandle,
    pub(crate) view: View,
    pub(crate) store: Option<Store>,
    advertise: SocketAddr,
    log: LogBounds,
    scope: Scope,
}

impl Part {
    /// Opens the port and starts the actors that every node has.
    pub(crate) async fn begin(
        scope: &Scope,
        parts: &Parts,
        identity: Identity,
        generation: Generation,
        place: &Place,
        children: &mut Children,
    ) -> Result<Self, Refusal> {
        let Place::V1 { listen, advertise, managers, .. } = place.clone();
        let keep = Keep::new(Arc::clone(&scope.env.disk));
        let settings = Settings { listen, advertise, identity, generation, managers: managers.clone() };
        let endpoint = Endpoint::open(&scope.env, keep, settings).map_err(internal)?;
        let roster = RosterHandle::open(&endpoint, RosterConfig::default());
        let worker = WorkerHandle::new(WorkerSettings {
            endpoint: endpoint.clone(),
            roster: roster.clone(),
            sockets: Arc::clone(&parts.sockets),
            engines: parts.engines.clone(),
            hostname: parts.settings.hostname.clone(),
            labels: parts.settings.labels.clone(),
            generic: parts.settings.generic.clone(),
            disk: folder(&scope.env.disk, WORKER_FOLDER),
        });
        let examiner = Examiner {
            machine: Arc::clone(&parts.machine),
            engines: parts.engines.clone(),
            part: Some((endpoint.clone(), worker.clone())),
        };
        let view = View::open(scope.journal.clone(), &endpoint, &roster, Arc::new(examiner));
        let log = parts.settings.log;
        let this = Self { endpoint, roster, worker, view, store: None, advertise, log, scope: scope.clone() };
        for spec in [this.endpoint.spec(), this.roster.spec(), this.worker.spec()] {
            if let Err(why) = this.start(children, spec).await {
                // Everything started so far is stopped, so that the port is free for the next try.
                this.end(children).await.map_err(internal)?;
                return Err(why);
            }
        }
        let seeds = managers.into_iter().filter(|(node, _)| *node != this.endpoint.node());
        this.roster.learn(
            seeds.map(|(node, addr)| Member { node, addr, role: Role::Manager, generation: Generation(0) }).collect(),
        );
        Ok(this)
    }

    /// Starts the follower, which passes news between the parts and to the root.
    pub(crate) fn follow(&self, root: ActorRef<Msg>) {
        tokio::spawn(follow::follow(self.endpoint.clone(), self.roster.clone(), self.worker.clone(), root));
    }

    /// Opens the store and starts the manager over it.
    pub(crate) async fn open_store(
        &mut self,
        opening: Opening,
        root: &ActorRef<Msg>,
        children: &mut Children,
    ) -> Result<Replica, OpenError> {
        let store = group::open(&self.scope.env, &self.endpoint, self.advertise, self.log, opening).await?;
        let replica = Replica { lineage: store.lineage(), raft_id: store.raft_id() };
        let (watched, root) = (store.clone(), root.clone());
        tokio::spawn(async move {
            let why = watched.failed().await;
            // A root that has ended needs no store.
            let _ = root.cast(Msg::StoreFailed(replica, why));
        });
        let arguments = ManagerArguments {
            scope: self.scope.child("manager"),
            store: store.clone(),
            endpoint: self.endpoint.clone(),
            roster: self.roster.clone(),
        };
        self.store = Some(store);
        let spec = ChildSpec::actor("manager", move |scope| (Manager, ManagerArguments { scope, ..arguments.clone() }));
        // When the manager's tree cannot be started now, its supervisor tries again.
        let _ = children.add(spec).await;
        Ok(replica)
    }

    /// Stops the manager and closes the store; its files are kept.
    pub(crate) async fn close_store(&mut self, children: &mut Children) -> Result<(), Escalated> {
        stop(children, "manager").await?;
        if let Some(store) = self.store.take() {
            group::close(&self.endpoint, &store).await;
        }
        Ok(())
    }

    /// Ends all parts in reverse order; when it returns, the port and every file are free.
    pub(crate) async fn end(mut self, children: &mut Children) -> Result<(), Escalated> {
        self.close_store(children).await?;
        for name in ["worker", "roster", "endpoint"] {
            stop(children, name).await?;
        }
        self.endpoint.close().await;
        Ok(())
    }

    /// The frozen view of this part for the node's standing.
    pub(crate) fn membership(&self) -> Membership {
        let identity = self.endpoint.identity();
        let identity = identity.borrow();
        let control = |store: &Store| Control::new(store.clone(), self.endpoint.clone(), self.scope.child("manager"));
        Membership {
            node: identity.node(),
            cluster: identity.cluster(),
            role: identity.role(),
            advertise: self.advertise,
            endpoint: self.endpoint.clone(),
            roster: self.roster.clone(),
            view: self.view.clone(),
            worker: self.worker.clone(),
            control: self.store.as_ref().map(control),
        }
    }

    async fn start(&self, children: &mut Children, spec: ChildSpec) -> Result<(), Refusal> {
        children.start(spec).await.map_err(|why: NotStarted| internal(why))
    }
}

/// How long a child may take to stop: its own children's deadlines together.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

async fn stop(children: &mut Children, name: &str) -> Result<(), Escalated> {
    let cell = children.cell(name).cloned();
    children.remove(name).await?;
    if let Some(cell) = cell {
        // The child is killed after its deadline, which also ends the wait.
        let _ = cell.wait(Some(STOP_DEADLINE)).await;
    }
    Ok(())
}

pub(crate) fn internal(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::Internal, why.to_string())
}

#[cfg(test)]
essaim_wire::golden_bytes!("part": Place, KeptAddressOptions);
