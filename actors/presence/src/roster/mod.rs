//! The roster: who is alive, as everybody on this node sees it.
//!
//! The decisions are `membership`'s detector; here it is fed and obeyed. What comes in (datagrams, session events,
//! wake-ups, refused sentinels, tables) goes to it in order, and *everything that has arrived is read before a
//! wake-up counts*: after a pause of the whole process the heartbeats that queued up are proof of life. What goes
//! out are datagrams, probes, push-pulls over the `members` lane, and verdicts.
//!
//! One detector feeds everything: scheduling, names, balancing and links read the same frozen [`Roster`] through a
//! watch, and hear verdicts through a bounded stream; who falls behind there reads the roster again. Verdicts are
//! records at whoever accuses, at the subject, and at managers, not on ten thousand nodes.

mod actor;
mod inbox;
mod members;
mod notary;
#[cfg(test)]
mod tests;
mod words;

use actor::{RosterActor, RosterMsg};

use crate::endpoint::Endpoint;
use essaim_membership::{Config, Detector, Goodbye, Incarnation, Input, Member, MemberView, State, Verdict};
use essaim_system::supervisor::{Address, ChildSpec};
use essaim_transport::Lane;
use essaim_wire::{Accusation, Moment, NodeId, Role};
use imbl::OrdMap;
use inbox::Inbox;
use members::MembersServer;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How many verdicts a listener may be behind before it is told that it missed some: a rack lost at once, each
/// member with its steps.
const VERDICTS_MAX: usize = 4_096;

/// How long the roster's actor may take to hear of a goodbye.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);

/// Who is alive: one moment of it, frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// This node, as it presents itself.
    pub me: Member,
    /// In which incarnation this node is.
    pub incarnation: Incarnation,
    /// This node misses more than half of those it observes: it is the one in trouble.
    pub isolated: bool,
    /// Whom this node accuses by what it found out itself: its vote.
    pub ballot: Arc<[Accusation]>,
    /// Grows with every change.
    pub version: u64,
    /// When it was frozen.
    pub at: Moment,
    /// Where the managers are, this node included: changed seldom, and asked with every change of anybody.
    pub managers: Arc<[(NodeId, SocketAddr)]>,
    /// Everybody but this node. A persistent map: of two rosters that differ in one member, that member is kept twice.
    pub members: OrdMap<NodeId, MemberView>,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When it was concluded.
    pub at: Moment,
    /// What.
    pub verdict: Verdict,
}

impl Roster {
    /// What is thought of a member; of this node itself, nothing.
    pub fn get(&self, node: NodeId) -> Option<&MemberView> {
        self.members.get(&node)
    }

    /// Whether work that is at the node can be counted on. This node itself is always there.
    pub fn is_present(&self, node: NodeId) -> bool {
        node == self.me.node || self.state(node).is_some_and(State::is_present)
    }

    /// The state of a member.
    pub fn state(&self, node: NodeId) -> Option<State> {
        self.get(node).map(|view| view.state)
    }

    /// Where a node is reached.
    pub fn addr(&self, node: NodeId) -> Option<SocketAddr> {
        if node == self.me.node { Some(self.me.addr) } else { self.get(node).map(|view| view.member.addr) }
    }
}

/// The handle on the roster. Cheap to clone.
#[derive(Clone)]
pub struct RosterHandle {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    endpoint: Endpoint,
    config: Config,
    inbox: Option<Inbox>,
    actor: Address<RosterMsg>,
    roster: watch::Sender<Arc<Roster>>,
    /// Made for the first listener: there is none on a worker, and its places weigh half a mebibyte.
    verdicts: OnceLock<broadcast::Sender<Heard>>,
}

impl RosterHandle {
    /// A roster that knows nobody yet, over this endpoint. There is one roster per endpoint.
    pub fn open(endpoint: &Endpoint, config: Config) -> Self {
        let me = Member {
            node: endpoint.node(),
            generation: endpoint.generation(),
            addr: endpoint.transport().advertise(),
            role: endpoint.role(),
        };
        let nobody = Roster {
            me,
            incarnation: Incarnation::default(),
            isolated: false,
            ballot: [].into(),
            version: 0,
            at: Moment::START,
            managers: [].into(),
            members: OrdMap::new(),
        };
        let actor = Address::new();
        endpoint.serve(Lane::Members, Arc::new(MembersServer { actor: actor.clone() }));
        let shared = Shared {
            endpoint: endpoint.clone(),
            config,
            inbox: endpoint.take_incoming().map(Inbox::new),
            actor,
            roster: watch::Sender::new(Arc::new(nobody)),
            verdicts: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The actor that drives the detector, to be started by the root after the endpoint.
    pub fn spec(&self) -> ChildSpec {
        let shared = Arc::clone(&self.shared);
        ChildSpec::actor_at(&self.shared.actor, "roster", move |scope| (RosterActor, (scope, Arc::clone(&shared))))
    }

    /// Who is alive now.
    pub fn current(&self) -> Arc<Roster> {
        Arc::clone(&self.shared.roster.borrow())
    }

    /// Who is alive, now and whenever that changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Roster>> {
        self.shared.roster.subscribe()
    }

    /// Verdicts from now on. Whoever is told that it missed some reads [`RosterHandle::current`].
    pub fn verdicts(&self) -> broadcast::Receiver<Heard> {
        self.shared.verdicts.get_or_init(|| broadcast::Sender::new(VERDICTS_MAX)).subscribe()
    }

    /// On how many rings each node's observers stand.
    pub fn rings(&self) -> usize {
        self.shared.config.rings
    }

    /// Members that should exist: a seed to join through, the managers of the last run, the nodes of the state.
    pub fn learn(&self, members: Vec<Member>) {
        self.tell(Input::Learn(members));
    }

    /// A node was removed from the cluster: it is forgotten, and not accepted again.
    pub fn remove(&self, node: NodeId) {
        self.tell(Input::Removed(node));
        self.shared.endpoint.transport().disconnect(node, "removed from the cluster");
    }

    /// This node listens elsewhere, or has another role.
    pub fn changed(&self, addr: SocketAddr, role: Role) {
        self.tell(Input::Changed { addr, role });
    }

    /// Tells the others why this node goes away, and returns when they can have heard it.
    pub async fn goodbye(&self, kind: Goodbye) {
        let said = self.shared.actor.call(|reply| RosterMsg::Goodbye(kind, reply), GOODBYE_WAIT).await;
        if said.is_ok() {
            tokio::time::sleep(Detector::FAREWELL).await;
        }
    }

    fn tell(&self, input: Input) {
        // An actor that is being restarted learns it from the roster and from others.
        let _ = self.shared.actor.cast(RosterMsg::Input(input));
    }
}

impl fmt::Debug for RosterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roster = self.current();
        write!(f, "RosterHandle({} members, version {})", roster.members.len(), roster.version)
    }
}
