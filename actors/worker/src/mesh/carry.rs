//! The choice of a backend for a connection or flow, and the way there; and the bytes of an accepted connection.

use super::core::Pick;
use super::doors::{Entered, Stay};
use super::{Ends, Mesh, pump};
use crate::engine::{Duplex, EngineError};
use essaim_model::{IngressPort, PortKey, ServiceId, TaskId};
use essaim_protocol::{PortReply, PortRequest};
use essaim_system::Scope;
use essaim_transport::network::{RecvStream, SendStream};
use essaim_transport::{BROKEN, Lane, LaneStream};
use essaim_wire::NodeId;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// Time that one backend may take to accept a connection, with the dial of its node. A node that has just died does not
/// answer, and the next backend is tried well within a second. When none has accepted, it doubles for the next round, up to
/// [`CONNECT_SLOWLY`]: a machine may be slow.
const CONNECT_MAX: Duration = Duration::from_millis(400);

/// Time that a backend may take to accept a connection on slow machines. It is less than [`DRAIN_MAX`](super::DRAIN_MAX), so
/// that a connection that is being made when its task is to end is there, or given up, when the task is told.
const CONNECT_SLOWLY: Duration = Duration::from_millis(1_600);

/// Time for which a connection waits for a backend: longer than a manager takes to tell of a task that has just started.
const PATIENCE: Duration = Duration::from_secs(5);

/// Delay before backends that have failed are tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// Carries connections that one published port has accepted.
pub(super) struct Carrier {
    pub(super) mesh: Mesh,
    pub(super) scope: Scope,
}

/// A connection or flow that counts with its backend until this is dropped.
pub(super) struct Counted {
    carrier: Arc<Carrier>,
    service: ServiceId,
    task: TaskId,
}

impl Counted {
    pub(super) const fn task(&self) -> TaskId {
        self.task
    }

    /// Takes note that the backend was not reached.
    pub(super) fn failed(&self, why: &Unreached) {
        let node = match why {
            Unreached::Task => None,
            Unreached::Node(node) => Some(*node),
        };
        let carrier = &self.carrier;
        carrier.mesh.shared.core.lock().failed(carrier.scope.now(), self.service, self.task, node);
    }

    /// Whether a flow of datagrams is to leave the backend for another one.
    pub(super) fn is_better_elsewhere(&self) -> bool {
        self.carrier.mesh.is_better_elsewhere(&*self.carrier.scope.env.clock, self.service, self.task)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.carrier.mesh.shared.core.lock().ended(self.carrier.scope.now(), self.service, self.task);
    }
}

/// A backend that was reached.
pub(super) struct Found<T> {
    pub(super) reached: Reached<T>,
    /// `None` for a task in host mode.
    pub(super) counted: Option<Counted>,
}

/// The way to a task that was reached.
pub(super) enum Reached<T> {
    /// A task of this node, and what its engine has made: a connection or a socket.
    Here(T, Stay),
    /// A task of another node, which has agreed.
    There(Box<LaneStream>),
}

/// Why a task was not reached.
pub(super) enum Unreached {
    /// The node of the task answers, and not the task.
    Task,
    /// The node does not answer.
    Node(NodeId),
}

/// How the engine of a task of this node is asked for a connection or a socket.
pub(super) type Dial<T> = for<'a> fn(&'a Entered, Ends) -> BoxFuture<'a, Result<T, EngineError>>;

impl Carrier {
    /// Carries a connection until its end.
    pub(super) async fn carry(self: Arc<Self>, key: PortKey, mut client: Box<dyn Duplex>, ends: Ends) {
        let Ok(_place) = Arc::clone(&self.mesh.shared.places).try_acquire_owned() else { return client.abort() };
        // Boxed, because an idle connection keeps no room for it.
        let found = self.find(key, ends, Entered::dial, &mut Vec::new()).boxed().await;
        match found {
            // Both ends have been told when one has broken.
            Some(Found { reached, counted: _counted }) => drop(self.exchange(client, reached).await),
            None => client.abort(),
        }
    }

    /// Finds a backend for a connection or flow, and the way to it. Backends in `tried` come last; those that were not
    /// reached are added. `None` when none was reached in time.
    pub(super) async fn find<T>(
        self: &Arc<Self>,
        key: PortKey,
        ends: Ends,
        dial: Dial<T>,
        tried: &mut Vec<TaskId>,
    ) -> Option<Found<T>> {
        let (deadline, mut connect_max) = (Instant::now() + PATIENCE, CONNECT_MAX);
        let mut changes = None;
        loop {
            changes.as_mut().map(watch::Receiver::mark_unchanged);
            // The port may lead elsewhere meanwhile.
            let picked = self.mesh.pick(&*self.scope.env.clock, key, tried);
            let Some((port, pick)) = picked else { return self.find_of_host(key, ends, dial).await };
            match pick {
                Pick::Backend(task, node) => {
                    let counted = Counted { carrier: Arc::clone(self), service: port.service, task };
                    match self.reach(key, &port, task, node, ends, connect_max, dial).await {
                        Ok(reached) => return Some(Found { reached, counted: Some(counted) }),
                        Err(why) => {
                            counted.failed(&why);
                            tried.push(task);
                        }
                    }
                }
                Pick::Nothing => {
                    // Few connections have to wait for a backend, and only those watch for news.
                    let Some(changes) = &mut changes else {
                        changes = Some(self.mesh.shared.changed.subscribe());
                        continue;
                    };
                    let pause = deadline.min(Instant::now() + if tried.is_empty() { PATIENCE } else { AGAIN });
                    // Whether the news come or the pause ends, the backends are looked at again.
                    let _ = timeout_at(pause, changes.changed()).await;
                    if !tried.is_empty() {
                        connect_max = CONNECT_SLOWLY.min(connect_max * 2);
                        tried.clear();
                    }
                }
            }
            if Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// Finds the task of this node that publishes a port in host mode.
    async fn find_of_host<T>(&self, key: PortKey, ends: Ends, dial: Dial<T>) -> Option<Found<T>> {
        let (entered, stay) = self.mesh.doors().enter_of_host(key)?;
        let made = timeout(CONNECT_SLOWLY, dial(&entered, ends)).await.ok()?.ok()?;
        Some(Found { reached: Reached::Here(made, stay), counted: None })
    }

    #[allow(clippy::too_many_arguments, reason = "what a backend is, and how it is reached")]
    async fn reach<T>(
        &self,
        key: PortKey,
        port: &IngressPort,
        task: TaskId,
        node: NodeId,
        ends: Ends,
        within: Duration,
        dial: Dial<T>,
    ) -> Result<Reached<T>, Unreached> {
        if node == self.mesh.shared.node {
            let entered = self.mesh.doors().enter(port.service, task, key, port.target);
            let (entered, stay) = entered.map_err(|_| Unreached::Task)?;
            return match timeout(within, dial(&entered, ends)).await {
                Ok(Ok(made)) => Ok(Reached::Here(made, stay)),
                Ok(Err(_)) | Err(_) => Err(Unreached::Task),
            };
        }
        let Ends { client, server } = ends;
        let request = PortRequest { service: port.service, task, port: key, target: port.target, client, server };
        // Boxed, because it is large, and a connection to a task of this node keeps no room for it.
        let asked = timeout(within, self.ask(node, request)).boxed().await;
        Ok(Reached::There(asked.unwrap_or(Err(Unreached::Node(node)))?))
    }

    /// Asks the node of a task for a connection or flow to it.
    async fn ask(&self, node: NodeId, request: PortRequest) -> Result<Box<LaneStream>, Unreached> {
        let endpoint = self.mesh.shared.endpoint.as_ref().ok_or(Unreached::Node(node))?;
        let mut lane = endpoint.lane(node, Lane::Port).await.map_err(|_| Unreached::Node(node))?;
        lane.send.send_value(&request).await.map_err(|_| Unreached::Node(node))?;
        match lane.recv.expect_value::<PortReply>().await {
            Ok(PortReply::Open) => Ok(Box::new(lane)),
            Ok(PortReply::Refused(_)) => Err(Unreached::Task),
            Err(_) => Err(Unreached::Node(node)),
        }
    }

    async fn exchange(&self, client: Box<dyn Duplex>, reached: Reached<Box<dyn Duplex>>) -> io::Result<()> {
        match reached {
            Reached::Here(stream, _stay) => pump::both(client, stream, &[]).await,
            Reached::There(lane) => {
                let client = self.mesh.shared.stalls.watch(client, lane.peer.node);
                let (recv, early) = lane.recv.into_inner();
                pump::both(client, Box::new(Remote { send: lane.send.into_inner(), recv }), &early).await
            }
        }
    }
}

/// Both directions of a stream to another node.
pub(super) struct Remote {
    pub(super) send: Box<dyn SendStream>,
    pub(super) recv: Box<dyn RecvStream>,
}

impl Duplex for Remote {
    fn abort(&mut self) {
        self.send.reset(BROKEN);
        self.recv.stop(BROKEN);
    }
}

impl AsyncRead for Remote {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.recv).poll_read(cx, buf)
    }
}

impl AsyncWrite for Remote {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.send).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.send).poll_shutdown(cx)
    }
}
