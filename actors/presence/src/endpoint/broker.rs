//! The broker routes requests for certificates to the manager that can sign.
//!
//! A node without a certificate asks any node with a join token; a node with one asks for its renewal. Only the
//! leader's machine can sign: the broker there has a [`Signer`]. Another manager forwards the request of a joining node
//! over the `enrol` lane. The request is forwarded once: a manager that is asked over the lane and cannot sign names
//! the managers to ask instead. A worker forwards nothing, so that it never sees the secret of a token; it names the
//! managers. For its own renewal a node asks the managers itself. The role that they sign is the one that the cluster
//! has committed for *that peer*, whatever the request says.

use bincode::{Decode, Encode};
use essaim_transport::{EnrolReply, EnrolRequest, Issuer, Lane, LaneStream, PeerInfo, Refused, Serve, SigningRequest};
use essaim_wire::{NodeId, Role};
use futures::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Upper bound on the wait for one manager's answer to a signing request.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Managers that one request asks at most, including those that other managers named.
const ASKED_MAX: usize = 12;

/// The cluster's certificate authority on the leader's machine.
pub trait Signer: Send + Sync {
    /// Enrols a new node: verifies its join token and signs its key.
    fn enrol(&self, request: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refused>>;

    /// Signs a new certificate for a node of the cluster, in the role that was committed for that node.
    fn renew(&self, node: NodeId, request: SigningRequest) -> BoxFuture<'_, Result<EnrolReply, Refused>>;
}

/// The first frame of an `enrol` lane; the answer is a `Result<EnrolReply, Refused>`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Ask {
    /// The request of a joining node, forwarded by a manager.
    Forwarded(EnrolRequest),
    /// The peer asks for its own renewal.
    Renewal(SigningRequest),
}

pub(super) struct Broker {
    transport: essaim_transport::Endpoint,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    signer: Option<Arc<dyn Signer>>,
    managers: Vec<(NodeId, SocketAddr)>,
    /// The role that this node's certificate should say.
    wanted: Option<Role>,
}

impl Broker {
    pub(super) fn new(transport: essaim_transport::Endpoint, managers: Vec<(NodeId, SocketAddr)>) -> Self {
        Self { transport, state: Mutex::new(State { managers, ..State::default() }) }
    }

    pub(super) fn set_signer(&self, signer: Option<Arc<dyn Signer>>) {
        self.state().signer = signer;
    }

    pub(super) fn set_managers(&self, managers: Vec<(NodeId, SocketAddr)>) {
        self.state().managers = managers;
    }

    pub(super) fn managers(&self) -> Vec<(NodeId, SocketAddr)> {
        self.state().managers.clone()
    }

    pub(super) fn set_wanted(&self, role: Option<Role>) {
        self.state().wanted = role;
    }

    pub(super) fn wanted(&self) -> Option<Role> {
        self.state().wanted
    }

    /// Requests a new certificate for this node: from the local signer, otherwise from the managers.
    pub(super) async fn renew(&self, request: SigningRequest) -> Result<EnrolReply, Refused> {
        let signer = self.state().signer.clone();
        if let Some(signer) = signer {
            return signer.renew(self.transport.node(), request).await;
        }
        self.ask_managers(&Ask::Renewal(request)).await
    }

    /// Asks the known managers, and the managers that they name, one after the other until one signs or refuses for
    /// good.
    async fn ask_managers(&self, ask: &Ask) -> Result<EnrolReply, Refused> {
        let mut left: VecDeque<_> = self.managers().into();
        let mut asked = BTreeSet::from([self.transport.node()]);
        let mut last = Refused::Unavailable("no other manager is known".into());
        while let Some((node, addr)) = left.pop_front() {
            if asked.len() > ASKED_MAX || !asked.insert(node) {
                continue;
            }
            self.transport.learn(node, addr);
            match self.ask_one(node, ask).await {
                Err(Refused::Ask { managers }) => managers.into_iter().rev().for_each(|one| left.push_front(one)),
                Err(unavailable @ Refused::Unavailable(_)) => last = unavailable,
                answer => return answer,
            }
        }
        Err(last)
    }

    async fn ask_one(&self, node: NodeId, ask: &Ask) -> Result<EnrolReply, Refused> {
        let asking = async {
            let mut stream = self.transport.open(node, Lane::Enrol).await.map_err(|error| error.to_string())?;
            stream.send.send_value(ask).await.map_err(|error| error.to_string())?;
            stream.recv.expect_value::<Result<EnrolReply, Refused>>().await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(ANSWER_WAIT, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => Err(Refused::Unavailable(why)),
            Err(_) => Err(Refused::Unavailable(format!("manager {node} did not answer"))),
        }
    }

    /// Answers a request on the `enrol` lane: signs it when this node leads, and otherwise names the other managers.
    async fn answer(&self, peer: &PeerInfo, ask: Ask) -> Result<EnrolReply, Refused> {
        let signer = self.state().signer.clone();
        match (ask, signer) {
            (Ask::Forwarded(_), _) if peer.role != Role::Manager => {
                Err(Refused::Request("only a manager may forward the request of another".into()))
            }
            (Ask::Forwarded(request), Some(signer)) => signer.enrol(request).await,
            (Ask::Renewal(request), Some(signer)) => signer.renew(peer.node, request).await,
            (_, None) => Err(Refused::Ask { managers: self.others() }),
        }
    }

    fn is_manager(&self) -> bool {
        self.transport.identity().role() == Role::Manager
    }

    fn others(&self) -> Vec<(NodeId, SocketAddr)> {
        let me = self.transport.node();
        self.managers().into_iter().filter(|(node, _)| *node != me).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Issuer for Broker {
    fn enrol(&self, request: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refused>> {
        Box::pin(async move {
            let signer = self.state().signer.clone();
            match signer {
                Some(signer) => signer.enrol(request).await,
                None if self.is_manager() => self.ask_managers(&Ask::Forwarded(request)).await,
                None => Err(Refused::Ask { managers: self.others() }),
            }
        })
    }

    fn managers(&self) -> Vec<(NodeId, SocketAddr)> {
        if self.is_manager() { Vec::new() } else { self.others() }
    }
}

/// Serves the `enrol` lane.
pub(super) struct EnrolServer {
    pub(super) broker: Arc<Broker>,
}

impl Serve for EnrolServer {
    fn serve(self: Arc<Self>, peer: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Ok(ask) = stream.recv.expect_value::<Ask>().await else { return };
            let answer = self.broker.answer(&peer, ask).await;
            if stream.send.send_value(&answer).await.is_ok() {
                let _ = stream.send.finish().await;
            }
        })
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("endpoint-broker": Ask);
