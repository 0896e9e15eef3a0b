//! One accepted connection: the choice of its backend, the way there, and its bytes.

use super::core::Pick;
use super::doors::Stay;
use super::sockets::Accepted;
use super::{Mesh, Way, pump};
use crate::engine::{Duplex, EngineError};
use essaim_model::{IngressPort, PortKey, ServiceId, TaskId};
use essaim_protocol::{PortReply, PortRequest};
use essaim_system::Scope;
use essaim_transport::network::{RecvStream, SendStream};
use essaim_transport::{BROKEN, Lane};
use essaim_wire::NodeId;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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
#[derive(Clone)]
pub(super) struct Carrier {
    pub(super) mesh: Mesh,
    pub(super) scope: Scope,
}

/// A connection that counts with its backend until this is dropped.
struct Counted {
    carrier: Carrier,
    service: ServiceId,
    task: TaskId,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.carrier.mesh.shared.core.lock().ended(self.carrier.scope.now(), self.service, self.task);
    }
}

/// A connection to a task.
pub(super) enum Reached {
    /// A task of this node.
    Here(Box<dyn Duplex>, Stay),
    /// A task of another node, and bytes that it sent with its reply.
    There(Remote, Vec<u8>),
}

/// Why a task was not reached.
pub(super) enum Unreached {
    /// The node of the task answers, and not the task.
    Task,
    /// The node does not answer.
    Node(NodeId),
}

impl Carrier {
    /// Carries a connection until its end.
    pub(super) async fn carry(self, key: PortKey, client: Box<dyn Accepted>, from: SocketAddr) {
        let Ok(_place) = Arc::clone(&self.mesh.shared.places).try_acquire_owned() else { return client.abort() };
        let deadline = Instant::now() + PATIENCE;
        let (mut tried, mut connect_max) = (Vec::new(), CONNECT_MAX);
        let mut changes = self.mesh.shared.changed.subscribe();
        loop {
            changes.borrow_and_update();
            // The port may lead elsewhere meanwhile.
            let port = self.mesh.shared.core.lock().port(key);
            let Some(port) = port else { return self.carry_of_host(key, client).await };
            match self.mesh.pick(&*self.scope.env.clock, port.service, &tried) {
                Pick::Backend(task, node) => {
                    let _counted = Counted { carrier: self.clone(), service: port.service, task };
                    match self.reach(key, &port, task, node, from, connect_max).await {
                        Ok(reached) => return exchange(client, reached).await,
                        Err(why) => {
                            let node = match why {
                                Unreached::Task => None,
                                Unreached::Node(node) => Some(node),
                            };
                            self.mesh.shared.core.lock().failed(self.scope.now(), port.service, task, node);
                            tried.push(task);
                        }
                    }
                }
                Pick::Nothing => {
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
                return client.abort();
            }
        }
    }

    /// Carries a connection to a port in host mode to the task of this node that publishes it.
    async fn carry_of_host(&self, key: PortKey, client: Box<dyn Accepted>) {
        let Some((way, stay)) = self.mesh.doors().enter_of_host(key) else { return client.abort() };
        match timeout(CONNECT_SLOWLY, way.dial()).await {
            Ok(Ok(stream)) => exchange(client, Reached::Here(stream, stay)).await,
            Ok(Err(_)) | Err(_) => client.abort(),
        }
    }

    async fn reach(
        &self,
        key: PortKey,
        port: &IngressPort,
        task: TaskId,
        node: NodeId,
        client: SocketAddr,
        within: Duration,
    ) -> Result<Reached, Unreached> {
        if node == self.mesh.shared.node {
            let entered = self.mesh.doors().enter(port.service, task, key, port.target);
            let (way, stay) = entered.map_err(|_| Unreached::Task)?;
            return match timeout(within, way.dial()).await {
                Ok(Ok(stream)) => Ok(Reached::Here(stream, stay)),
                Ok(Err(_)) | Err(_) => Err(Unreached::Task),
            };
        }
        let Some(endpoint) = &self.mesh.shared.endpoint else { return Err(Unreached::Node(node)) };
        let asked = async {
            let mut lane = endpoint.lane(node, Lane::Port).await.map_err(|_| Unreached::Node(node))?;
            let request = PortRequest { service: port.service, task, port: key, target: port.target, client };
            lane.send.send_value(&request).await.map_err(|_| Unreached::Node(node))?;
            match lane.recv.expect_value::<PortReply>().await {
                Ok(PortReply::Open) => {
                    let (recv, early) = lane.recv.into_inner();
                    Ok(Reached::There(Remote { send: lane.send.into_inner(), recv }, early.to_vec()))
                }
                Ok(PortReply::Refused(_)) => Err(Unreached::Task),
                Err(_) => Err(Unreached::Node(node)),
            }
        };
        timeout(within, asked).await.unwrap_or(Err(Unreached::Node(node)))
    }
}

impl Way {
    /// Connects to the task.
    pub(super) async fn dial(&self) -> Result<Box<dyn Duplex>, EngineError> {
        let Some(interactive) = self.engine.interactive() else {
            return Err(EngineError::Rejected("its engine cannot connect to a port of a task".into()));
        };
        interactive.dial(self.task, self.port).await
    }
}

async fn exchange(mut client: Box<dyn Accepted>, reached: Reached) {
    let carried = match reached {
        Reached::Here(stream, _stay) => pump::both(&mut client, stream, &[]).await,
        Reached::There(mut stream, early) => {
            let carried = pump::both(&mut client, &mut stream, &early).await;
            if carried.is_err() {
                stream.reset();
            }
            carried
        }
    };
    if carried.is_err() {
        client.abort();
    }
}

/// Both directions of a stream to another node.
pub(super) struct Remote {
    pub(super) send: Box<dyn SendStream>,
    pub(super) recv: Box<dyn RecvStream>,
}

impl Remote {
    /// Ends both directions so that the other end reads an error.
    pub(super) fn reset(&mut self) {
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
