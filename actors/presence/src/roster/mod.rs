//! The roster: which members are alive, as this node sees it.
//!
//! `membership`'s failure detector decides; this module feeds the detector and performs its effects. Inputs (datagrams,
//! session events, wake-ups, refused sentinels, tables) go to the detector in order. *Everything that has arrived is
//! read before a wake-up counts*: after a pause of the whole process the queued heartbeats are proof of life. Effects
//! are datagrams, probes, push-pulls over the `members` lane, and verdicts.
//!
//! There is one detector per node: scheduling, names, balancing and links read the same frozen [`Roster`] through a
//! watch, and hear verdicts through a bounded stream. A listener that falls behind reads the roster again. Verdicts are
//! recorded at the accusers, at the subject and at managers, not on ten thousand nodes.

mod actor;
mod inbox;
mod members;
mod notary;
#[cfg(test)]
mod tests;
mod words;

use actor::{RosterActor, RosterMsg};

use crate::endpoint::Endpoint;
use essaim_membership::{Config, Detector, Goodbye, Incarnation, Input, Member, MemberState, MemberView, Verdict};
use essaim_system::supervisor::{Address, ChildSpec};
use essaim_transport::Lane;
use essaim_wire::{Accusation, Moment, NodeId};
use imbl::OrdMap;
use inbox::Inbox;
use members::MembersServer;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Verdicts that a listener may be behind before it is told that it missed some. The bound fits the loss of a whole
/// rack, where each member takes several steps.
const VERDICTS_MAX: usize = 4_096;

/// Upper bound on the time until the roster's actor has sent a goodbye.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);

/// The members and their states at one moment, frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// This node, as it presents itself.
    pub me: Member,
    /// This node's incarnation.
    pub incarnation: Incarnation,
    /// This node misses more than half of the members it observes, so the fault is probably its own.
    pub isolated: bool,
    /// This node's vote: the members that it accuses from its own observation.
    pub ballot: Arc<[Accusation]>,
    /// Version of the roster; grows with every change.
    pub version: u64,
    /// When the roster was frozen.
    pub at: Moment,
    /// Ids and addresses of the managers, this node included. Kept beside `members` because the list rarely changes,
    /// and is read after every change of a member.
    pub managers: Arc<[(NodeId, SocketAddr)]>,
    /// All members except this node. A persistent map: two rosters that differ in one member share all others.
    pub members: OrdMap<NodeId, MemberView>,
}

/// A verdict with its time, as sent to listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When the verdict was reached.
    pub at: Moment,
    /// What the detector concluded about a member.
    pub verdict: Verdict,
}

impl Roster {
    /// This node's view of a member; `None` for this node itself and for unknown nodes.
    pub fn get(&self, node: NodeId) -> Option<&MemberView> {
        self.members.get(&node)
    }

    /// Whether work on the node can be counted on. This node itself is always present.
    pub fn is_present(&self, node: NodeId) -> bool {
        node == self.me.node || self.state(node).is_some_and(MemberState::is_present)
    }

    /// The detector's state of a member.
    pub fn state(&self, node: NodeId) -> Option<MemberState> {
        self.get(node).map(|view| view.state)
    }

    /// The address at which a node is reached.
    pub fn addr(&self, node: NodeId) -> Option<SocketAddr> {
        if node == self.me.node { Some(self.me.addr) } else { self.get(node).map(|view| view.member.addr) }
    }
}

/// Handle on the roster. Cheap to clone.
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
    /// The verdicts' channel, made for the first listener: a worker has no listener, and the channel weighs half a
    /// mebibyte.
    verdicts: OnceLock<broadcast::Sender<Heard>>,
}

impl RosterHandle {
    /// Opens an empty roster over this endpoint. There is one roster per endpoint.
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

    /// The child spec of the actor that drives the detector; the node's root starts it after the endpoint's actor.
    pub fn spec(&self) -> ChildSpec {
        let shared = Arc::clone(&self.shared);
        ChildSpec::actor_at(&self.shared.actor, "roster", move |scope| (RosterActor, (scope, Arc::clone(&shared))))
    }

    /// The present roster.
    pub fn current(&self) -> Arc<Roster> {
        Arc::clone(&self.shared.roster.borrow())
    }

    /// Watches the roster: the present value, and every later one.
    pub fn watch(&self) -> watch::Receiver<Arc<Roster>> {
        self.shared.roster.subscribe()
    }

    /// Subscribes to verdicts from now on. A listener that missed some reads [`RosterHandle::current`].
    pub fn verdicts(&self) -> broadcast::Receiver<Heard> {
        self.shared.verdicts.get_or_init(|| broadcast::Sender::new(VERDICTS_MAX)).subscribe()
    }

    /// Number of rings on which the observers of each node stand.
    pub fn rings(&self) -> usize {
        self.shared.config.rings
    }

    /// Tells the detector of members that should exist: a seed to join through, the managers of the last run, the nodes
    /// of the state.
    pub fn learn(&self, members: Vec<Member>) {
        self.tell(Input::Learn(members));
    }

    /// Tells the others why this node goes away, and returns when they can have heard it.
    pub async fn goodbye(&self, kind: Goodbye) {
        let said = self.shared.actor.call(|reply| RosterMsg::Goodbye(kind, reply), GOODBYE_WAIT).await;
        if said.is_ok() {
            tokio::time::sleep(Detector::FAREWELL).await;
        }
    }

    fn tell(&self, input: Input) {
        // The cast may fail while the actor is being restarted: it learns the same from the last roster and from other
        // members.
        let _ = self.shared.actor.cast(RosterMsg::Input(input));
    }
}

impl fmt::Debug for RosterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roster = self.current();
        write!(f, "RosterHandle({} members, version {})", roster.members.len(), roster.version)
    }
}
