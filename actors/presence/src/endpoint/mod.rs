//! The endpoint: this node's one port, its identity there, and the admission of peers.
//!
//! `transport` makes sessions and judges lanes; the endpoint stores and renews what `transport` needs. The [`Keep`]
//! holds identity, admission table, boot counter and socket key on disk. The [`Endpoint`] is the handle for other code:
//! open a lane, serve a lane, admit, renew, close. The broker answers requests for certificates: on the leader's
//! machine with the cluster's authority ([`Signer`]), on another manager by asking the leader, on a worker by naming
//! the managers. The actor renews the node's own certificate at half of its life, or when the node's role changed.
//!
//! The port outlives the actor: no session is lost when the actor fails and is restarted.

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

/// Handle on a node's port and its identity there. Cheap to clone; all clones share one port.
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
    /// Session events and datagrams, until the roster takes them: they have one consumer.
    incoming: Mutex<Option<Incoming>>,
}

/// Session events and datagrams, which arrive outside lanes. Both queues are bounded by `transport`.
pub struct Incoming {
    /// Sessions that were established or lost.
    pub events: mpsc::Receiver<Event>,
    /// Datagrams that peers sent.
    pub datagrams: Datagrams,
}

/// Addresses, identity and known managers with which an endpoint starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Local address that the port is bound to.
    pub listen: SocketAddr,
    /// Address at which other nodes reach this node.
    pub advertise: SocketAddr,
    /// This node's key, certificate chain and trusted CAs.
    pub identity: Identity,
    /// Number of this start of the daemon, from [`Keep::boot`].
    pub generation: Generation,
    /// The managers known so far; requests for certificates go to them first.
    pub managers: Vec<(NodeId, SocketAddr)>,
}

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be bound.
    #[error("cannot listen on {listen}: {error}")]
    Bind {
        /// Address that was to be bound.
        listen: SocketAddr,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The files of the node cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// Result of an enrolment; the identity is already stored on disk.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// The node's new identity.
    pub identity: Identity,
    /// The managers to contact first.
    pub managers: Vec<(NodeId, SocketAddr)>,
}

/// A node was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The cluster refused the enrolment, or no manager answered.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The certificate that came does not fit this node's key.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The files of the node cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// Enrols this node: asks the node at `addr` for a certificate with a join token, and stores the certificate. The key
/// is stored before the request, so that a request that is repeated after a crash yields the same node.
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

/// The UTC clock by which certificates are judged.
pub fn utc(env: &Env) -> Utc {
    let clock = Arc::clone(&env.clock);
    Arc::new(move || clock.utc())
}

impl Endpoint {
    /// Binds the port. Enrolment is served from now on; other lanes are served once their servers are registered.
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

    /// The child spec of the actor that renews the node's certificate; the node's root starts it.
    pub fn spec(&self) -> ChildSpec {
        let endpoint = self.clone();
        ChildSpec::actor_at(&self.shared.actor, "endpoint", move |scope| (EndpointActor, (scope, endpoint.clone())))
    }

    /// The id of this node.
    pub fn node(&self) -> NodeId {
        self.shared.transport.node()
    }

    /// The number of this start of the daemon.
    pub fn generation(&self) -> Generation {
        self.shared.generation
    }

    /// The role that this node's certificate says now.
    pub fn role(&self) -> Role {
        self.shared.identity.borrow().role()
    }

    /// Watches this node's identity: the present value, and every later one.
    pub fn identity(&self) -> watch::Receiver<Identity> {
        self.shared.identity.subscribe()
    }

    /// The transport's endpoint below: sessions, addresses and lanes.
    pub fn transport(&self) -> &essaim_transport::Endpoint {
        &self.shared.transport
    }

    /// The node's membership files.
    pub fn keep(&self) -> &Keep {
        &self.shared.keep
    }

    /// Opens a lane to a node; dials the node when there is no session.
    pub async fn lane(&self, node: NodeId, lane: Lane) -> Result<LaneStream, OpenError> {
        self.shared.transport.open(node, lane).await
    }

    /// Registers the server of a lane; it replaces an earlier server of that lane.
    pub fn serve(&self, lane: Lane, server: Arc<dyn Serve>) {
        self.shared.transport.serve(lane, server);
    }

    /// Removes the server of a lane.
    pub fn unserve(&self, lane: Lane) {
        self.shared.transport.unserve(lane);
    }

    /// The peers with a control session.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.transport.peers()
    }

    /// The peer of the control session with a node; `None` when there is no such session.
    pub fn peer(&self, node: NodeId) -> Option<PeerInfo> {
        self.shared.transport.peer(node)
    }

    /// Puts an admission table from the log into force if it is newer than the table in force, and returns whether it
    /// was. The table is on disk before it is in force, and an older table never replaces it.
    pub fn admit(&self, next: Admission) -> Result<bool, KeepError> {
        let mut outcome = Ok(false);
        self.shared.admission.send_if_modified(|table| {
            if !next.is_newer_than(table) {
                return false;
            }
            outcome = self.shared.keep.change_admission(table, &next).map(|()| true);
            if outcome.is_ok() {
                *table = Arc::new(next);
            }
            outcome.is_ok()
        });
        outcome
    }

    /// Watches the admission table in force: the present value, and every later one.
    pub fn admission(&self) -> watch::Receiver<Arc<Admission>> {
        self.shared.admission.subscribe()
    }

    /// Sets the managers to ask for certificates, the leader first.
    pub fn set_managers(&self, managers: Vec<(NodeId, SocketAddr)>) {
        for &(node, addr) in &managers {
            if node != self.node() {
                self.shared.transport.learn(node, addr);
            }
        }
        self.shared.broker.set_managers(managers);
    }

    /// The managers that [`Endpoint::set_managers`] set last.
    pub fn managers(&self) -> Vec<(NodeId, SocketAddr)> {
        self.shared.broker.managers()
    }

    /// Sets the local signer: the cluster's authority while this node leads, otherwise `None`.
    pub fn set_signer(&self, signer: Option<Arc<dyn Signer>>) {
        self.shared.broker.set_signer(signer);
    }

    /// Asks for new certificates until one says this role.
    pub fn renew(&self, role: Role) {
        // The cast may fail while the actor is being restarted: the restarted actor reads `wanted` first.
        self.shared.broker.set_wanted(Some(role));
        let _ = self.shared.actor.cast(EndpointMsg::Renew);
    }

    /// Stores another identity on disk, and presents it from then on. When its role differs, all sessions are
    /// established anew.
    pub fn present(&self, identity: Identity) -> Result<(), JoinError> {
        self.shared.keep.save_identity(&identity)?;
        self.shared.transport.present(identity.clone())?;
        self.shared.identity.send_replace(identity);
        Ok(())
    }

    /// Takes session events and datagrams, for the roster; `None` after the first call.
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
