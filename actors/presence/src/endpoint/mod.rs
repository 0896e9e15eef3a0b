//! The endpoint: this node's one port, who the node is on it, and who may come in.
//!
//! `transport` makes sessions and judges lanes; here is what has to be kept and renewed around it. The [`Keep`] holds
//! identity, admission table, boot counter and socket key on disk. The [`Endpoint`] is the handle that everybody
//! else has: open a lane, serve a lane, admit, renew, close. The broker answers those who want a certificate: on the
//! leader's machine by the cluster's authority ([`Signer`]), on another manager by asking the leader, on a worker by
//! naming the managers. The actor renews the node's own certificate at half of its life, or when its role changed.
//!
//! The port outlives the actor: when the actor fails and is restarted, no session is lost.

mod actor;
mod broker;
mod core;
mod keep;
#[cfg(test)]
mod tests;

use actor::{EndpointActor, EndpointMsg};
pub use broker::Signer;
pub use keep::{Keep, KeepError};

use broker::{Broker, EnrolServer};
use essaim_system::env::Env;
use essaim_system::supervisor::{Address, ChildSpec};
use essaim_transport::{
    Admission, Config, Datagrams, EnrolError, EnrolReply, Event, Identity, JoinToken, Lane, LaneStream, OpenError,
    PeerInfo, Serve, SigningRequest, TrustError, Utc,
};
use essaim_wire::{Generation, NodeId, Role};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// A node's port, and who it is on it. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

struct Shared {
    transport: essaim_transport::Endpoint,
    keep: Keep,
    generation: Generation,
    admission: watch::Sender<Arc<Admission>>,
    identity: watch::Sender<Identity>,
    broker: Arc<Broker>,
    actor: Address<EndpointMsg>,
    /// Taken by the roster; there is one at a time.
    incoming: Mutex<Option<Incoming>>,
}

/// What comes in beside lanes: session events and datagrams, each bounded by `transport`.
pub struct Incoming {
    /// Sessions that came or went.
    pub events: mpsc::Receiver<Event>,
    /// What peers sent.
    pub datagrams: Datagrams,
}

/// Where the port is, and as what it begins.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to bind.
    pub listen: SocketAddr,
    /// Where others reach this node.
    pub advertise: SocketAddr,
    /// Who this node is.
    pub identity: Identity,
    /// Which start of the daemon this is: [`Keep::boot`].
    pub generation: Generation,
    /// The managers known so far, whom to ask for certificates first.
    pub managers: Vec<(NodeId, SocketAddr)>,
}

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be bound.
    #[error("cannot listen on {listen}: {error}")]
    Bind {
        /// Where.
        listen: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The files of the node cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// What a node got when it was enrolled; it is kept on disk already.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Who it is now.
    pub identity: Identity,
    /// Whom to contact first.
    pub managers: Vec<(NodeId, SocketAddr)>,
}

/// A node was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// By the cluster, or nobody answered.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The certificate that came does not fit this node's key.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The files of the node cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// Asks the node at `addr` for a certificate with a join token, and keeps what comes. The key is kept before it is
/// asked for, so that asking again after a crash finds the same node.
pub async fn join(
    env: &Env,
    keep: &Keep,
    listen: SocketAddr,
    addr: SocketAddr,
    token: &JoinToken,
) -> Result<Enrolled, JoinError> {
    let key = keep.key(&env.seed)?;
    let request = SigningRequest::create(&key);
    let reply =
        essaim_transport::enrol(&*env.network, listen, utc(env), addr, token, &request, env.build.level).await?;
    let EnrolReply { chain, roots, managers, admission, .. } = reply;
    let identity = Identity::new(chain, key, roots)?;
    keep.save_admission(&admission)?;
    keep.save_identity(&identity)?;
    Ok(Enrolled { identity, managers })
}

/// The clock by which certificates are judged.
pub fn utc(env: &Env) -> Utc {
    let clock = Arc::clone(&env.clock);
    Arc::new(move || clock.utc())
}

impl Endpoint {
    /// Binds the port. Enrolment is served from now on; other lanes as they are registered.
    pub fn open(env: &Env, keep: Keep, settings: Settings) -> Result<Self, StartError> {
        let Settings { listen, advertise, identity, generation, managers } = settings;
        let admission = watch::Sender::new(Arc::new(keep.admission()?));
        let config = Config {
            listen,
            advertise,
            identity: identity.clone(),
            generation,
            wire: env.build.wire,
            key: keep.socket_key(&env.seed)?,
            seed: env.seed.draw_number(),
            utc: utc(env),
            admission: admission.subscribe(),
        };
        let (transport, (events, datagrams)) = essaim_transport::Endpoint::start(&*env.network, config)
            .map_err(|error| StartError::Bind { listen, error })?;
        for &(node, addr) in &managers {
            transport.learn(node, addr);
        }
        let broker = Arc::new(Broker::new(transport.clone(), managers));
        transport.issue(Arc::clone(&broker) as Arc<dyn essaim_transport::Issuer>);
        transport.serve(Lane::Enrol, Arc::new(EnrolServer { broker: Arc::clone(&broker) }));
        let shared = Shared {
            transport,
            keep,
            generation,
            admission,
            identity: watch::Sender::new(identity),
            broker,
            actor: Address::new(),
            incoming: Mutex::new(Some(Incoming { events, datagrams })),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The actor that keeps the node's certificate fresh, to be started by the root.
    pub fn spec(&self) -> ChildSpec {
        let endpoint = self.clone();
        ChildSpec::actor_at(&self.shared.actor, "endpoint", move |scope| (EndpointActor, (scope, endpoint.clone())))
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.shared.transport.node()
    }

    /// Which start of the daemon this is.
    pub fn generation(&self) -> Generation {
        self.shared.generation
    }

    /// What its certificate lets it do, now.
    pub fn role(&self) -> Role {
        self.shared.identity.borrow().role()
    }

    /// Who it is, now and whenever that changes.
    pub fn identity(&self) -> watch::Receiver<Identity> {
        self.shared.identity.subscribe()
    }

    /// Sessions, addresses and lanes, as `transport` has them.
    pub fn transport(&self) -> &essaim_transport::Endpoint {
        &self.shared.transport
    }

    /// The files behind it.
    pub fn keep(&self) -> &Keep {
        &self.shared.keep
    }

    /// Opens a lane to a node; dials when there is no session.
    pub async fn lane(&self, node: NodeId, lane: Lane) -> Result<LaneStream, OpenError> {
        self.shared.transport.open(node, lane).await
    }

    /// From now on this one serves the lane.
    pub fn serve(&self, lane: Lane, server: Arc<dyn Serve>) {
        self.shared.transport.serve(lane, server);
    }

    /// Nobody serves the lane any more.
    pub fn unserve(&self, lane: Lane) {
        self.shared.transport.unserve(lane);
    }

    /// The control sessions that stand.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.transport.peers()
    }

    /// The other end of the control session with a node, while it stands.
    pub fn peer(&self, node: NodeId) -> Option<PeerInfo> {
        self.shared.transport.peer(node)
    }

    /// Takes a table of the log, if it is newer than the one in force; whether it was. It is on disk before it
    /// holds, and it never goes back.
    pub fn admit(&self, next: Admission) -> Result<bool, KeepError> {
        let mut outcome = Ok(false);
        self.shared.admission.send_if_modified(|table| {
            if !next.is_newer_than(table) {
                return false;
            }
            outcome = self.shared.keep.save_admission(&next).map(|()| true);
            if outcome.is_ok() {
                *table = Arc::new(next);
            }
            outcome.is_ok()
        });
        outcome
    }

    /// The table in force, now and whenever it changes.
    pub fn admission(&self) -> watch::Receiver<Arc<Admission>> {
        self.shared.admission.subscribe()
    }

    /// The managers to ask for certificates, the one that leads first.
    pub fn set_managers(&self, managers: Vec<(NodeId, SocketAddr)>) {
        for &(node, addr) in &managers {
            if node != self.node() {
                self.shared.transport.learn(node, addr);
            }
        }
        self.shared.broker.set_managers(managers);
    }

    /// The managers as last told.
    pub fn managers(&self) -> Vec<(NodeId, SocketAddr)> {
        self.shared.broker.managers()
    }

    /// The cluster's authority is on this machine (while it leads), or not any more.
    pub fn set_signer(&self, signer: Option<Arc<dyn Signer>>) {
        self.shared.broker.set_signer(signer);
    }

    /// Gets a new certificate, until one says this role.
    pub fn renew(&self, role: Role) {
        // Without an actor at this moment: the one that comes up looks at `wanted` first.
        self.shared.broker.set_wanted(Some(role));
        let _ = self.shared.actor.cast(EndpointMsg::Renew);
    }

    /// Shows another identity from now on, after it was kept on disk. When its role differs, all sessions are made
    /// anew.
    pub fn present(&self, identity: Identity) -> Result<(), JoinError> {
        self.shared.keep.save_identity(&identity)?;
        self.shared.transport.present(identity.clone())?;
        self.shared.identity.send_replace(identity);
        Ok(())
    }

    /// Session events and datagrams, for the roster: once.
    pub fn take_incoming(&self) -> Option<Incoming> {
        self.shared.incoming.lock().take()
    }

    /// Ends every session, and returns when the port can be bound again.
    pub async fn close(&self) {
        self.shared.broker.set_signer(None);
        self.shared.transport.close().await;
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.node())
    }
}
