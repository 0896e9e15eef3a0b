//! Collects the facts of this node for `essaim doctor`: what the machine measures, what its engines say, its certificate,
//! and the ways to the managers. Judging them is the API's.

use crate::machine::Machine;
use essaim_presence::endpoint::Endpoint;
use essaim_presence::view::{EngineFacts, Facts, Gather, WayFacts};
use essaim_worker::{Engine, WorkerHandle};
use futures::FutureExt;
use futures::future::{BoxFuture, join, join_all};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Time that an engine may take to describe itself. The whole answer must be there within two seconds.
const DESCRIBE_PATIENCE: Duration = Duration::from_millis(1500);

/// Managers that are tried; a group has seven at the most, as a rule.
const WAYS_MAX: usize = 16;

/// Collects the facts of one node.
pub(crate) struct Examiner {
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    /// The node's part in a cluster; `None` outside of one.
    pub(crate) part: Option<(Endpoint, WorkerHandle)>,
}

impl Gather for Examiner {
    fn facts(&self) -> BoxFuture<'_, Facts> {
        self.collect().boxed()
    }
}

impl Examiner {
    async fn collect(&self) -> Facts {
        let ((engines, measured), ways) = join(self.machine(), self.ways()).await;
        let (mut listen, mut advertise, mut certificate_until, mut root_until) = (None, None, None, None);
        let mut unpublished = Vec::new();
        if let Some((endpoint, worker)) = &self.part {
            listen = Some(endpoint.transport().local_addr());
            advertise = Some(endpoint.transport().advertise());
            let identity = endpoint.transport().identity();
            certificate_until = identity.chain().first().and_then(|it| it.not_after().ok());
            root_until = identity.roots().first().and_then(|it| it.not_after().ok());
            unpublished = worker.unpublished().into_iter().map(|it| (it.port.to_string(), it.why)).collect();
        }
        // The interface of the address that others are told; behind a translation of addresses, that of the other one.
        let of_interface = |at: SocketAddr| measured.mtus.iter().find(|(address, ..)| *address == at.ip());
        let own = advertise.and_then(of_interface).or_else(|| listen.and_then(of_interface));
        let mtu = own.map(|(_, interface, mtu)| (interface.clone(), *mtu));
        Facts {
            listen,
            advertise,
            clock_synchronised: measured.clock_synchronised,
            folders: measured.folders,
            sync_micros: measured.sync_micros,
            open_files: measured.open_files,
            open_files_max: measured.open_files_max,
            receive_buffer_max: measured.receive_buffer_max,
            engines,
            unpublished,
            certificate_until,
            root_until,
            ways,
            mtu,
            kill_mode: measured.kill_mode,
            cgroup_fault: measured.cgroup_fault,
        }
    }

    /// The engines, and the machine with the folders that they name.
    async fn machine(&self) -> (Vec<EngineFacts>, crate::machine::Measured) {
        let asked = self.engines.iter().map(|engine| async {
            let kind = engine.kind().to_string();
            let silent = |fault: String| (EngineFacts { kind: kind.clone(), fault, ..EngineFacts::default() }, None);
            match timeout(DESCRIBE_PATIENCE, engine.describe()).await {
                Ok(Ok(said)) => {
                    let facts =
                        EngineFacts { kind, version: said.version, in_swarm: said.in_swarm, fault: String::new() };
                    (facts, said.root)
                }
                Ok(Err(why)) => silent(why.to_string()),
                Err(_) => silent(format!("no answer within {} ms", DESCRIBE_PATIENCE.as_millis())),
            }
        });
        let (engines, roots): (Vec<EngineFacts>, Vec<Option<PathBuf>>) = join_all(asked).await.into_iter().unzip();
        let folder = |(engine, root): (&EngineFacts, Option<PathBuf>)| Some((format!("{} engine", engine.kind), root?));
        let folders = engines.iter().zip(roots).filter_map(folder).collect();
        let measured = self.machine.measure(folders).await;
        (engines, measured)
    }

    async fn ways(&self) -> Vec<WayFacts> {
        let Some((endpoint, _)) = &self.part else { return Vec::new() };
        let mut managers = endpoint.managers();
        managers.retain(|(node, _)| *node != endpoint.node());
        managers.truncate(WAYS_MAX);
        let reached = self.machine.reach(managers.iter().map(|(_, addr)| *addr).collect()).await;
        let way = |((node, addr), reached): ((_, _), Option<Result<(), String>>)| {
            Some(WayFacts { node, addr, fault: reached?.err().unwrap_or_default() })
        };
        managers.into_iter().zip(reached).filter_map(way).collect()
    }
}
