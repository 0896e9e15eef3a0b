//! State shared by all clones of an endpoint: the table of sessions, the address book, the servers of lanes.

use super::book::Book;
use super::door::PLACES;
use super::hello::Hello;
use super::limit::Limiter;
use super::session::Session;
use super::strangers::Strangers;
use super::table::Table;
use super::tasks::Tasks;
use super::{Config, DatagramSink, Event, Lost, PeerInfo, Serve};
use crate::admission::{Admission, Denied};
use crate::code;
use crate::issuer::Issuer;
use crate::lane::{Direction, Lane, Traffic};
use crate::network::{Socket, Utc};
use crate::trust::{Identity, PeerIdentity};
use essaim_wire::{Generation, Lineage, NodeId, Role, WireVersion};
use parking_lot::{Mutex, MutexGuard, RwLock};
use rand::rngs::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::sleep;

/// Interval at which unused sessions, and those with an expired certificate, are closed.
const SWEEP: Duration = Duration::from_secs(10);

/// Time without a lane and without a datagram after which a session is closed. In a large cluster every node speaks to
/// every other one now and then, and a session costs 30 KiB and a keep-alive a second. A slow probe makes a session
/// every five seconds, so with a minute there were more of those than of all useful sessions; making one again costs 1
/// ms.
const UNUSED_MAX: Duration = Duration::from_secs(15);

pub(super) struct Inner {
    pub(super) socket: Arc<dyn Socket>,
    pub(super) advertise: SocketAddr,
    pub(super) generation: Generation,
    /// The newest wire version that this node's program speaks.
    pub(super) wire: WireVersion,
    pub(super) utc: Utc,
    pub(super) datagrams: DatagramSink,
    pub(super) book: Mutex<Book>,
    pub(super) limiter: Mutex<Limiter>,
    pub(super) jitter: Mutex<ChaCha8Rng>,
    pub(super) tasks: Tasks,
    /// Permits for this node's dials under way.
    pub(super) unready_out: Arc<Semaphore>,
    pub(super) strangers: Arc<Strangers>,
    /// Notified whenever a session is established.
    pub(super) changed: Notify,
    identity: RwLock<Identity>,
    admission: RwLock<Arc<Admission>>,
    table: Mutex<Table<Arc<Session>>>,
    servers: RwLock<BTreeMap<Lane, Arc<dyn Serve>>>,
    issuer: RwLock<Option<Arc<dyn Issuer>>>,
    events: mpsc::Sender<Event>,
    pub(super) closed: watch::Sender<bool>,
    /// Number of the next session; 0 is this node's session with itself.
    pub(super) sessions: AtomicU64,
}

impl Inner {
    pub(super) fn new(
        socket: Arc<dyn Socket>,
        config: &Config,
        advertise: SocketAddr,
        jitter: ChaCha8Rng,
        events: mpsc::Sender<Event>,
        datagrams: DatagramSink,
    ) -> Self {
        let admission = config.admission.borrow().clone();
        Self {
            socket,
            advertise,
            generation: config.generation,
            wire: config.wire,
            utc: config.utc.clone(),
            datagrams,
            book: Mutex::default(),
            limiter: Mutex::default(),
            jitter: Mutex::new(jitter),
            tasks: Tasks::new(),
            unready_out: Arc::new(Semaphore::new(PLACES)),
            strangers: Arc::default(),
            changed: Notify::new(),
            identity: RwLock::new(config.identity.clone()),
            admission: RwLock::new(admission),
            table: Mutex::new(Table::new()),
            servers: RwLock::default(),
            issuer: RwLock::default(),
            events,
            closed: watch::channel(false).0,
            sessions: AtomicU64::new(1),
        }
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity.read().clone()
    }

    pub(super) fn set_identity(&self, identity: Identity) {
        *self.identity.write() = identity;
    }

    pub(super) fn node(&self) -> NodeId {
        self.identity.read().node()
    }

    pub(super) fn admission(&self) -> Arc<Admission> {
        self.admission.read().clone()
    }

    pub(super) fn server(&self, lane: Lane) -> Option<Arc<dyn Serve>> {
        self.servers.read().get(&lane).cloned()
    }

    pub(super) fn set_server(&self, lane: Lane, server: Option<Arc<dyn Serve>>) {
        let mut servers = self.servers.write();
        match server {
            Some(server) => servers.insert(lane, server),
            None => servers.remove(&lane),
        };
    }

    pub(super) fn issuer(&self) -> Option<Arc<dyn Issuer>> {
        self.issuer.read().clone()
    }

    pub(super) fn set_issuer(&self, issuer: Option<Arc<dyn Issuer>>) {
        *self.issuer.write() = issuer;
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table<Arc<Session>>> {
        self.table.lock()
    }

    pub(super) fn session(&self, node: NodeId, traffic: Traffic) -> Option<Arc<Session>> {
        self.table().get(node, traffic).cloned()
    }

    pub(super) fn hello(&self, traffic: Traffic) -> Hello {
        Hello {
            oldest: WireVersion::OLDEST,
            newest: self.wire,
            lineage: self.admission().lineage,
            generation: self.generation,
            advertise: self.advertise,
            traffic,
        }
    }

    pub(super) fn judge_session(&self, peer: &PeerIdentity) -> Result<Role, Denied> {
        self.admission().judge_session(self.identity().cluster(), peer, (self.utc)())
    }

    /// Judges a lane by the admission table. Without the peer's lineage, that check is left to a second call.
    pub(super) fn judge(
        &self,
        peer: &PeerInfo,
        lane: Lane,
        direction: Direction,
        theirs: Option<Lineage>,
    ) -> Result<Role, Denied> {
        if !lane.is_known_to(peer.wire) {
            return Err(Denied::Older { node: peer.node, lane });
        }
        let cluster = self.identity().cluster();
        let theirs = theirs.unwrap_or_default();
        self.admission().judge_lane(cluster, &peer.identity, lane, direction, theirs, (self.utc)())
    }

    pub(super) fn forget_session(&self, info: &PeerInfo) {
        self.table().end(info.node, info.traffic, info.session);
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }

    /// Sends an event. Waits while the queue is full, which slows down this session and no other.
    pub(super) async fn tell(&self, event: Event) {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = self.events.send(event) => (),
            _ = closed.wait_for(|closed| *closed) => (),
        }
    }

    /// Maintains the sessions: one that the table denies is closed at once, one that is unused after a while.
    pub(super) async fn keep(self: Arc<Self>, mut tables: watch::Receiver<Arc<Admission>>) {
        let mut closed = self.closed.subscribe();
        let mut fed = true;
        loop {
            tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => return,
                changed = tables.changed(), if fed => match changed {
                    Ok(()) => {
                        let next = tables.borrow_and_update().clone();
                        self.advance(next);
                    }
                    Err(_) => fed = false,
                },
                () = sleep(SWEEP) => self.sweep(),
            }
        }
    }

    fn advance(&self, next: Arc<Admission>) {
        let removed = {
            let mut current = self.admission.write();
            if !next.is_newer_than(&current) {
                return;
            }
            let removed = next.removed.since(&current.removed).0;
            *current = next;
            removed
        };
        let removed: BTreeSet<NodeId> = removed.into_iter().map(|(node, _)| node).collect();
        // A table takes the rights of removed nodes and of former managers; the other sessions need no second look.
        self.drop_denied(|peer| peer.role == Role::Manager || removed.contains(&peer.node));
    }

    fn sweep(&self) {
        self.drop_denied(|_| true);
        for session in self.all() {
            if session.unused() > UNUSED_MAX {
                session.close(Lost::Unused, code::IDLE, "nobody uses the session");
            }
        }
    }

    /// Ends the sessions that the table in force denies, among those with these peers.
    fn drop_denied(&self, among: impl Fn(&PeerIdentity) -> bool) {
        let sessions: Vec<_> = {
            let table = self.table();
            table.iter().map(|(_, it)| it).filter(|it| among(&it.info.identity)).cloned().collect()
        };
        for session in sessions {
            match self.judge_session(&session.info.identity) {
                Ok(role) if role == session.info.role => (),
                Ok(_) => session.close(Lost::RoleChanged, code::IDENTITY, "the role of the peer has changed"),
                Err(denied) => {
                    let reason = denied.to_string();
                    session.close(Lost::Denied(denied), code::DENIED, &reason);
                }
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.table().iter().map(|(_, session)| session.clone()).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Closes the table, so that no session can be established any more, and returns the sessions that it held.
    pub(super) fn shut(&self) -> Vec<Arc<Session>> {
        let mut table = self.table();
        self.closed.send_replace(true);
        table.take_all()
    }
}
