//! A node's handle, as the routes see it: each request goes to whom it concerns.
//!
//! The node itself is asked to init, join and leave; the manager's control for everything about the cluster; the
//! view for what every node shows of itself.

mod events;
mod view;

use crate::cluster::{
    Cluster, EventBatches, JournalLines, JournalQuery, LocalState, LogLine, LogLines, LogStream, LogsQuery, Rotate,
    Standing,
};
use essaim_docker::convert::swarm::{Init, Join};
use essaim_docker::own::{Members, Trees};
use essaim_docker::swarm::JoinTokens;
use essaim_manager::control;
use essaim_model::{ClusterSpec, NodeSpec, Refusal, ServiceId, ServiceSpec, State, Task};
use essaim_node::{Handle, InitRequest, JoinRequest, Membership};
use essaim_transport::trust::{Certificate, JoinToken, TokenSecret};
use essaim_wire::{Index, NodeId, Role, Timestamp};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use std::sync::Arc;

/// A node behind its handle.
pub(crate) struct Node {
    handle: Handle,
}

impl Node {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self { handle }
    }
}

impl Cluster for Node {
    fn standing(&self) -> Standing {
        let nowhere = |state| Standing { state, node: None, role: None, addr: String::new(), managers: Vec::new() };
        match self.handle.standing() {
            essaim_node::Standing::Inactive => nowhere(LocalState::Inactive),
            essaim_node::Standing::Broken(why) => nowhere(LocalState::Error(why.to_string())),
            essaim_node::Standing::Active(membership) => part(&membership),
        }
    }

    fn now(&self) -> Timestamp {
        self.handle.scope().utc()
    }

    fn draw(&self) -> u128 {
        self.handle.scope().env.seed.draw_id()
    }

    fn init(&self, asked: Init) -> BoxFuture<'_, Result<NodeId, Refusal>> {
        let request = InitRequest {
            listen: asked.listen.unwrap_or_default(),
            advertise: asked.advertise.unwrap_or_default(),
            availability: asked.availability,
            spec: asked.spec,
            force_new_cluster: asked.force_new_cluster,
        };
        self.handle.init(request).boxed()
    }

    fn join(&self, asked: Join) -> BoxFuture<'_, Result<(), Refusal>> {
        let request = JoinRequest {
            listen: asked.listen.unwrap_or_default(),
            advertise: asked.advertise.unwrap_or_default(),
            token: asked.token,
            remotes: asked.remotes,
            availability: asked.availability,
        };
        async move { self.handle.join(request).await.map(|_| ()) }.boxed()
    }

    fn leave(&self, force: bool) -> BoxFuture<'_, Result<(), Refusal>> {
        self.handle.leave(force).boxed()
    }

    fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Refusal>> {
        async move { self.handle.control()?.read().await }.boxed()
    }

    fn last_known(&self) -> Option<Arc<State>> {
        Some(self.handle.control().ok()?.last_known())
    }

    fn leader(&self) -> Option<NodeId> {
        self.handle.control().ok()?.store().leader()
    }

    fn join_tokens(&self, state: &State) -> JoinTokens {
        let Some(cluster) = state.cluster() else { return JoinTokens::default() };
        let roots = Certificate::from_pem(&cluster.authority.certificate).unwrap_or_default();
        let Some(root) = roots.first() else { return JoinTokens::default() };
        let token = |role| JoinToken::new(root, TokenSecret::from_bytes(*cluster.join.of(role))).to_string();
        JoinTokens { worker: token(Role::Worker), manager: token(Role::Manager) }
    }

    fn update_cluster(&self, expect: Index, spec: ClusterSpec, rotate: Rotate) -> BoxFuture<'_, Result<(), Refusal>> {
        let rotate = control::Rotate { worker: rotate.worker, manager: rotate.manager };
        async move { self.handle.control()?.update_cluster(expect, spec, rotate).await }.boxed()
    }

    fn update_node(&self, id: NodeId, expect: Index, spec: NodeSpec) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.handle.control()?.update_node(id, expect, spec).await }.boxed()
    }

    fn remove_node(&self, id: NodeId, force: bool) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.handle.control()?.remove_node(id, force).await }.boxed()
    }

    fn create_service(&self, spec: ServiceSpec) -> BoxFuture<'_, Result<ServiceId, Refusal>> {
        async move { self.handle.control()?.create_service(spec).await }.boxed()
    }

    fn update_service(&self, id: ServiceId, expect: Index, spec: ServiceSpec) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.handle.control()?.update_service(id, expect, spec).await }.boxed()
    }

    fn rollback_service(&self, id: ServiceId, expect: Index) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.handle.control()?.rollback_service(id, expect).await }.boxed()
    }

    fn remove_service(&self, id: ServiceId) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.handle.control()?.remove_service(id).await }.boxed()
    }

    fn logs(&self, tasks: Vec<Arc<Task>>, query: LogsQuery) -> Result<LogLines, Refusal> {
        let LogsQuery { stdout, stderr, since, tail, follow } = query;
        let query = control::LogsQuery { stdout, stderr, since, tail, follow };
        let reader = self.handle.control()?.logs(&tasks, query)?;
        let batches = stream::unfold(reader, |mut reader| async move {
            let batch = reader.recv().await?;
            Some((batch.into_iter().map(line).collect(), reader))
        });
        Ok(batches.boxed())
    }

    fn events(&self, replay: bool) -> Result<Box<dyn EventBatches>, Refusal> {
        let control = self.handle.control()?;
        Ok(Box::new(events::Follower::new(control, replay)))
    }

    fn trees(&self) -> BoxFuture<'_, Trees> {
        view::trees(&self.handle).boxed()
    }

    fn journal(&self, query: JournalQuery) -> BoxFuture<'_, Result<JournalLines, Refusal>> {
        view::journal(self.handle.clone(), query).boxed()
    }

    fn members(&self) -> BoxFuture<'_, Result<Members, Refusal>> {
        futures::future::ready(view::members(&self.handle)).boxed()
    }

    fn kill_actor(&self, path: String) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { view::kill_actor(&self.handle, &path).await }.boxed()
    }
}

fn part(membership: &Membership) -> Standing {
    let managers = membership.endpoint.managers();
    Standing {
        state: LocalState::Active,
        node: Some(membership.node),
        role: Some(membership.role),
        addr: membership.advertise.ip().to_string(),
        managers: managers.into_iter().map(|(node, addr)| (node, addr.to_string())).collect(),
    }
}

fn line(of: control::TaskLine) -> LogLine {
    let stream = match of.line.stream {
        essaim_protocol::LogStream::Stdout => LogStream::Stdout,
        essaim_protocol::LogStream::Stderr => LogStream::Stderr,
    };
    LogLine { task: of.task, node: of.node, at: of.line.at, stream, bytes: of.line.bytes }
}
