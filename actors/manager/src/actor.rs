//! `/n/manager`: the actor of a manager's work for its cluster.
//!
//! Parent: the node's root. Children: `node.X` for each node linked here (temporary, because its node links again), and
//! `leader` while this manager leads.
//! Hears: that a node opened a link; that entries were applied; changes of leadership. Says: notifications to `node.X`.
//! Dies: when `leader` failed too often. It gives leadership away first, so that another manager goes on; the root
//! starts it again, and the linked nodes link again.

use crate::arguments::ManagerArguments;
use crate::ballots::{BallotBox, BallotsServer, tell_leader};
use crate::feed::{Feed, Followed, Subscription};
use crate::interests::Interests;
use crate::leader;
use crate::node::{Arguments, Msg as NodeMsg, NodeActor};
use crate::reports::Reports;
use essaim_model::{Event, ManagerStatus, Node, Service};
use essaim_store::{Advance, Leadership, Store};
use essaim_system::Notifier;
use essaim_system::journal::RecordKind;
use essaim_system::supervisor::{ChildSpec, Children, Supervision, Wake};
use essaim_transport::{Admission, Lane, LaneStream, PeerInfo, Serve};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{NodeId, Role, Term};
use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Period of the check whether there is a leader.
const LOOK: Duration = Duration::from_millis(250);

/// Checks without a leader after which the linked nodes are sent to other managers: 1.5 s, which is three times what an
/// election takes.
const LEADERLESS_LOOKS: u32 = 6;

/// After this many rounds of [`LEADERLESS_LOOKS`], linked nodes are sent away once every so many rounds: every 12 s.
const TIMES_RARE: u32 = 8;

/// Lower and upper bound of the time between two reports of a node. A container takes some 100 ms to start, and a task
/// that runs waits at most this long until the managers know.
const PACE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(2));

/// Reports that a manager takes in a second from all of its nodes together; the pace follows from it.
const REPORTS_A_SECOND: u32 = 2000;

/// The actor `/n/manager`.
#[derive(Debug)]
pub struct Manager;

/// Messages to [`Manager`].
#[derive(RactorMessage)]
pub enum Msg {
    /// A node opened a link.
    Linked(Box<LaneStream>),
    /// The store applied entries of the log.
    Applied,
    /// Leadership changed: this manager leads now, or leads no longer.
    Leadership,
    /// The check whether there is a leader is due.
    Look,
    /// The back-off of a child is over.
    Wake(Wake),
}

/// State of [`Manager`].
pub struct State {
    arguments: ManagerArguments,
    children: Children,
    reports: Reports,
    ballots: BallotBox,
    interests: Interests,
    /// Ends the streams of other managers when it is dropped with the actor.
    _serving: watch::Sender<()>,
    feed: Feed,
    applied: Notifier<Msg, Followed>,
    leadership: Notifier<Msg>,
    linked: BTreeMap<NodeId, Linked>,
    /// The node that each child's name, and each label under which a child is shown, belongs to.
    names: BTreeMap<String, NodeId>,
    leaderless: u32,
    /// The term for which the leader's tree was started.
    leads: Option<Term>,
    pace: Duration,
    _subscription: Subscription,
    /// Tasks that follow the store; they end with the actor.
    _following: JoinSet<()>,
}

struct Linked {
    name: String,
    /// Label under which the actor is shown: its name, or the node's host name once that is known.
    label: String,
    /// Notifies the node's actor that entries were applied which concern its node.
    applied: Notifier<NodeMsg>,
}

impl Actor for Manager {
    type Msg = Msg;
    type State = State;
    type Arguments = ManagerArguments;

    async fn pre_start(&self, myself: ActorRef<Msg>, arguments: Self::Arguments) -> Result<State, ActorProcessingErr> {
        let children = Children::new(arguments.scope.clone(), &myself, Supervision::default(), Msg::Wake);
        let reports = Reports::start(arguments.store.clone());
        let ballots = BallotBox::new();
        let (server, serving) = BallotsServer::new(ballots.clone());
        arguments.endpoint.serve(Lane::Ballots, Arc::new(server));
        arguments.endpoint.serve(Lane::Link, Arc::new(Links(myself.clone())));
        let (applied, leadership) = (Notifier::new(|| Msg::Applied), Notifier::new(|| Msg::Leadership));
        applied.address().set(myself.clone());
        leadership.address().set(myself.clone());
        let feed = Feed::open(&arguments.store);
        let (_, subscription) = feed.subscribe(&applied);
        let mut following = JoinSet::new();
        following.spawn(tell_leader(ballots.clone(), arguments.store.clone(), arguments.endpoint.clone()));
        following.spawn(feed.clone().pump());
        following.spawn(watch_leadership(arguments.store.clone(), leadership.clone()));
        myself.send_interval(LOOK, || Msg::Look);
        admit(&arguments);
        Ok(State {
            arguments,
            children,
            reports,
            ballots,
            interests: Interests::default(),
            _serving: serving,
            feed,
            applied,
            leadership,
            linked: BTreeMap::new(),
            names: BTreeMap::new(),
            leaderless: 0,
            leads: None,
            pace: PACE.0,
            _subscription: subscription,
            _following: following,
        })
    }

    async fn handle(&self, _: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Linked(stream) => state.link(*stream).await?,
            Msg::Applied => match state.applied.take() {
                Some(Advance { events: Some(events), .. }) => state.mark(&events),
                Some(Advance { events: None, state: cluster, .. }) => {
                    let linked: Vec<NodeId> = state.linked.keys().copied().collect();
                    linked.iter().filter_map(|node| cluster.node(*node)).for_each(|node| state.relabel(node));
                    admit(&state.arguments);
                    state.interests.on_gap();
                    state.mark_all();
                }
                None => (),
            },
            Msg::Leadership => {
                state.leadership.take();
                let leadership = *state.arguments.store.leadership().borrow();
                state.follow_leadership(leadership).await?;
            }
            Msg::Look => state.look_for_a_leader(),
            Msg::Wake(wake) => state.children.on_wake(wake).await?,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match state.children.on_event(event).await {
            Ok(Some(exited)) if !exited.returns && !state.children.contains(&exited.name) => {
                if let Some(linked) = state.names.remove(&exited.name).and_then(|node| state.linked.remove(&node)) {
                    state.names.remove(&linked.label);
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(escalated) => {
                // A leader whose tree keeps failing must not keep the leadership.
                let _ = state.arguments.store.hand_over().await;
                Err(escalated.into())
            }
        }
    }

    async fn post_stop(&self, _: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.arguments.endpoint.unserve(Lane::Ballots);
        state.arguments.endpoint.unserve(Lane::Link);
        state.children.shutdown("the manager stops").await;
        Ok(())
    }
}

/// Serves the lane of links: hands each link that a node opens to the actor.
struct Links(ActorRef<Msg>);

impl Serve for Links {
    fn serve(self: Arc<Self>, _: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // If the actor is gone, the stream is dropped, which tells the node to link elsewhere.
            let _ = self.0.cast(Msg::Linked(Box::new(stream)));
        })
    }
}

/// Why a manager that led may decide no more, for the journal.
const fn why_no_longer(leadership: Leadership) -> &'static str {
    match leadership {
        Leadership::Suspended(_) => "no majority of the managers has answered for the length of the lease",
        Leadership::CatchingUp(_) | Leadership::Active(_) => "it was elected again",
        Leadership::Off => "the group has another leader, or holds an election",
    }
}

async fn watch_leadership(store: Store, notifier: Notifier<Msg>) {
    let mut leadership = store.leadership();
    loop {
        notifier.notify();
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

impl State {
    async fn link(&mut self, stream: LaneStream) -> Result<(), ActorProcessingErr> {
        let node = stream.peer.node;
        if self.is_own_farewell(node) {
            // Dropping the stream sends the node to another manager.
            return Ok(());
        }
        let name = self.child_name(node);
        let applied = Notifier::new(|| NodeMsg::Applied);
        if let Some(former) = self.linked.remove(&node) {
            self.names.remove(&former.name);
            self.names.remove(&former.label);
            self.children.remove(&former.name).await?;
        }
        self.names.insert(name.clone(), node);
        let spec = self.node_spec(&name, stream, &applied);
        self.linked.insert(node, Linked { label: name.clone(), name, applied });
        self.children.add(spec).await?;
        self.pace();
        Ok(())
    }

    fn node_spec(&self, name: &str, stream: LaneStream, applied: &Notifier<NodeMsg>) -> ChildSpec {
        let (store, reports) = (self.arguments.store.clone(), self.reports.clone());
        let (ballots, interests) = (self.ballots.clone(), self.interests.clone());
        let (applied, pace) = (applied.clone(), pace(self.linked.len() + 1));
        let mut stream = Some(stream);
        ChildSpec::new(name, "actors/manager/src/node/", move |scope, parent| {
            let arguments = stream.take().map(|stream| Arguments {
                scope,
                store: store.clone(),
                reports: reports.clone(),
                ballots: ballots.clone(),
                interests: interests.clone(),
                stream,
                applied: applied.clone(),
                pace,
            });
            let address = applied.address().clone();
            Box::pin(async move {
                let arguments = arguments.ok_or_else(|| SpawnErr::StartupFailed("its link is used up".into()))?;
                let (actor, _) = NodeActor::spawn_linked(None, NodeActor, arguments, parent).await?;
                address.set(actor.clone());
                Ok(actor.get_cell())
            })
        })
        .temporary()
    }

    /// The name of a node's actor: its host name, with a part of its id where two nodes share a host name.
    fn child_name(&self, node: NodeId) -> String {
        let cluster = self.arguments.store.state();
        self.label(node, &cluster.node(node).map_or_else(|| node.to_string(), |it| it.name()))
    }

    fn label(&self, node: NodeId, name: &str) -> String {
        let name = format!("node.{name}");
        let has_twin = self.names.get(&name).is_some_and(|other| *other != node);
        if has_twin { format!("{name}-{}", &node.to_string()[..6]) } else { name }
    }

    /// Whether the node is this machine's own worker and this manager is being demoted. Once the group has released
    /// this manager, its store applies nothing more, so another manager must tell the node its place from then on.
    ///
    /// Only a demotion of this number in the group counts: a manager that was promoted a moment ago replays log entries
    /// in which it is still a worker.
    fn is_own_farewell(&self, node: NodeId) -> bool {
        let store = &self.arguments.store;
        let has_part = |place: ManagerStatus| place.raft_id == store.raft_id();
        let goes = |it: &Node| it.spec.role == Role::Worker && it.manager.is_some_and(has_part);
        node == store.node() && store.state().node(node).is_some_and(|it| goes(it))
    }

    /// Shows the actor of a node under the node's host name. The first link of a node is older than its description.
    fn relabel(&mut self, node: &Node) {
        let label = self.label(node.id, &node.name());
        if let Some(linked) = self.linked.get_mut(&node.id).filter(|linked| linked.label != label) {
            self.children.relabel(&linked.name, &label);
            self.names.insert(label.clone(), node.id);
            let former = std::mem::replace(&mut linked.label, label);
            if former != linked.name {
                self.names.remove(&former);
            }
        }
    }

    fn mark(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Node { new: Some(node), .. } = event {
                self.relabel(node);
                self.say_own_farewell(node.id);
            }
        }
        let mut concerned = BTreeSet::new();
        for event in events {
            self.interests.on_event(event, &mut concerned);
        }
        for event in events {
            match event {
                Event::Task { old, new } => {
                    concerned.extend(old.iter().chain(new).filter_map(|task| task.node()));
                }
                Event::Node { old, new } if concerns_all(old.as_deref(), new.as_deref()) => {
                    admit(&self.arguments);
                    return self.mark_all();
                }
                Event::Node { new, .. } => concerned.extend(new.iter().map(|node| node.id)),
                Event::Cluster { .. } => {
                    admit(&self.arguments);
                    return self.mark_all();
                }
                Event::Service { old, new } if publish_alike(old.as_deref(), new.as_deref()) => (),
                // Every node is told of every published port.
                Event::Service { .. } => return self.mark_all(),
                Event::Object { .. } => (),
            }
        }
        concerned.iter().filter_map(|node| self.linked.get(node)).for_each(Linked::mark);
    }

    /// Sends this machine's own worker to another manager if this manager is being demoted.
    fn say_own_farewell(&self, node: NodeId) {
        if self.is_own_farewell(node)
            && let Some(own) = self.linked.get(&node)
        {
            // The cast fails only when the node's actor has ended, and then the node links elsewhere anyhow.
            let _ = own.applied.address().cast(NodeMsg::Detach("this manager is being demoted".into()));
        }
    }

    fn mark_all(&self) {
        self.linked.values().for_each(Linked::mark);
    }

    async fn follow_leadership(&mut self, leadership: Leadership) -> Result<(), ActorProcessingErr> {
        if let Some(term) = self.leads.filter(|term| leadership.active() != Some(*term)) {
            let words = format!("leads no longer in term {}: {}", term.0, why_no_longer(leadership));
            self.arguments.scope.record(RecordKind::Raft, words);
        }
        match leadership {
            Leadership::Active(term) => {
                if self.leads.is_some_and(|led| led != term) {
                    // The tree of the earlier term is stopped first: its decisions are void, and the new tree starts
                    // when it has ended.
                    self.children.remove(leader::NAME).await?;
                }
                self.children.add(leader::spec(&self.arguments, &self.ballots, &self.feed, term)).await?;
            }
            Leadership::Suspended(_) if planted(Bug::TreeOutlivesLease) => return Ok(()),
            _ => self.children.remove(leader::NAME).await?,
        }
        self.leads = leadership.active();
        Ok(())
    }

    /// Sends the linked nodes to other managers when there is no leader: without one, no report is stored and nothing
    /// new is decided here.
    fn look_for_a_leader(&mut self) {
        if self.arguments.store.leader().is_some() {
            self.leaderless = 0;
            return;
        }
        self.leaderless = self.leaderless.saturating_add(1);
        if is_time_to_send_away(self.leaderless) && !self.linked.is_empty() {
            self.arguments.scope.record(RecordKind::Raft, "no leader: the linked nodes are sent to other managers");
            for linked in self.linked.values() {
                // The cast fails only when the node's actor has ended, and then the node links elsewhere anyhow.
                let _ = linked.applied.address().cast(NodeMsg::Detach("this manager has no leader".into()));
            }
        }
    }

    fn pace(&mut self) {
        let pace = pace(self.linked.len());
        if std::mem::replace(&mut self.pace, pace) == pace {
            return;
        }
        for linked in self.linked.values() {
            // The cast fails when the actor is only being started, and then it is given this pace at its start.
            let _ = linked.applied.address().cast(NodeMsg::Pace(pace));
        }
    }
}

/// Whether the linked nodes are sent away after this many checks without a leader. It happens again and again, because
/// a node may link here meanwhile, first of all this machine's own worker. It happens ever more rarely, because moving
/// helps no node when no manager has a leader.
const fn is_time_to_send_away(looks: u32) -> bool {
    let times = looks / LEADERLESS_LOOKS;
    looks.is_multiple_of(LEADERLESS_LOOKS) && (times.is_power_of_two() || times.is_multiple_of(TIMES_RARE) && times > 0)
}

impl Linked {
    fn mark(&self) {
        self.applied.notify();
    }
}

/// Puts the committed managers and removed nodes into force as the endpoint's admission table.
fn admit(arguments: &ManagerArguments) {
    let state = arguments.store.state();
    let Some(cluster) = state.cluster() else { return };
    let table = Admission {
        lineage: cluster.lineage,
        index: state.applied().index,
        managers: state.managers().map(|node| node.id).collect(),
        removed: state.removals().clone(),
    };
    arguments.endpoint.set_managers(state.managers().filter_map(|node| Some((node.id, node.addr?))).collect());
    if let Err(why) = arguments.endpoint.admit(table) {
        arguments.scope.record(RecordKind::Trust, format!("who may come in could not be kept: {why}"));
    }
}

/// Whether every linked node is told of this change of a node: the node was removed, or the table of managers changed.
/// A manager reports about its machine as other nodes do, and ten thousand nodes need not look at that.
fn concerns_all(old: Option<&Node>, new: Option<&Node>) -> bool {
    let place = |node: &Node| (node.role == Role::Manager).then_some(node.addr);
    new.is_none() || old.and_then(place) != new.and_then(place)
}

/// Whether a service publishes the same ports on every node as before.
fn publish_alike(old: Option<&Service>, new: Option<&Service>) -> bool {
    old.into_iter().flat_map(Service::ingress).eq(new.into_iter().flat_map(Service::ingress))
}

fn pace(linked: usize) -> Duration {
    // The pace changes in steps of the lower bound, so that one node more or less seldom needs a message to all nodes.
    let steps = u32::try_from(linked).unwrap_or(u32::MAX).div_ceil(REPORTS_A_SECOND / 40);
    PACE.0.saturating_mul(steps).clamp(PACE.0, PACE.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::fixtures;

    #[test]
    fn a_report_of_a_manager_is_told_to_no_other_node_and_its_new_address_is_told_to_all() {
        let manager = Node { role: Role::Manager, ..fixtures::worker(1) };
        let reported = Node { message: "the node is restarting".into(), unsteady: true, ..manager.clone() };
        assert!(!concerns_all(Some(&manager), Some(&reported)));
        let moved = Node { addr: Some("127.0.0.9:2377".parse().expect("an address")), ..manager.clone() };
        assert!(concerns_all(Some(&manager), Some(&moved)));
        let worker = Node { role: Role::Worker, ..manager.clone() };
        assert!(concerns_all(Some(&manager), Some(&worker)) && concerns_all(Some(&worker), Some(&manager)));
        assert!(concerns_all(Some(&worker), None), "it was removed");
        assert!(!concerns_all(None, Some(&worker)), "a worker was admitted");
        assert!(concerns_all(None, Some(&manager)));
    }

    #[test]
    fn nodes_are_sent_away_from_a_manager_without_a_leader_again_and_again() {
        let times: Vec<u32> = (0..200).filter(|looks| is_time_to_send_away(*looks)).collect();
        assert_eq!(times, [6, 12, 24, 48, 96, 144, 192]);
    }
}
