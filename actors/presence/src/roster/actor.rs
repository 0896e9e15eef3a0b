//! The roster's actor drives the failure detector: it hands over inputs and performs effects.
//!
//! Parent: the node's root. Children: none; probes and push-pulls are tasks of their own.
//! Hears: that something arrived, wake-ups, results of probes and exchanges, and what other actors know (`Input`).
//! Says: datagrams; the frozen roster and verdicts to its listeners.
//! Dies: of a fault in the detector. The restarted actor learns the members of the last roster, in the same generation.

use super::inbox::Item;
use super::members::exchange;
use super::notary::KeyNotary;
use super::words::{is_recorded, say};
use super::{Heard, Roster, Shared};
use essaim_membership::{Detector, Effect, Goodbye, Input, Loss, Member, MemberView, Table, Wake};
use essaim_system::Scope;
use essaim_system::journal::RecordKind;
use essaim_transport::network::Probe;
use essaim_transport::{Ended, Event, Lost};
use essaim_wire::{Moment, NodeId, Removals, Role};
use imbl::OrdMap;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::AbortOnDropHandle;

/// Arrivals that are handed to the detector at most before the actor handles its next message.
const BATCH: usize = 1_024;

/// Arrivals that are read at most before a wake-up counts: everything that can wait in the transport's channels.
const DRAIN_MAX: usize = 65_536;

/// Probes and push-pulls that run at the same time at most; a detector asks for a few a second.
const ERRANDS_MAX: usize = 64;

/// Messages to the roster's actor.
#[derive(RactorMessage)]
pub(crate) enum RosterMsg {
    /// Session events or datagrams wait in the inbox.
    Arrived,
    /// A wake-up that the detector asked for.
    Timer(Wake),
    /// An input for the detector from another actor, a probe or a push-pull.
    Input(Input),
    /// A peer compares its membership table with this node's; the reply is this node's table.
    Table(RpcReplyPort<Table>),
    /// This node leaves or shuts down; the reply comes when the datagrams that say so are sent.
    Goodbye(Goodbye, RpcReplyPort<()>),
}

/// The actor that drives the failure detector.
#[derive(Debug)]
pub(crate) struct RosterActor;

/// State of [`RosterActor`].
pub(crate) struct State {
    scope: Scope,
    shared: Arc<Shared>,
    detector: Detector,
    effects: Vec<Effect>,
    /// All members except this node, as last published.
    members: OrdMap<NodeId, MemberView>,
    /// Ids and addresses of the managers, this node included, as last published.
    managers: Arc<[(NodeId, SocketAddr)]>,
    /// The detector's version that was published last.
    published: Option<u64>,
    /// The roster version that the actor's predecessor had reached: readers must see versions that only grow.
    versions_before: u64,
    drained: Arc<Notify>,
    errands: Arc<Semaphore>,
    /// The last wake-up that the detector asked for.
    timer: Option<AbortOnDropHandle<()>>,
    _pump: AbortOnDropHandle<()>,
    _endpoint: AbortOnDropHandle<()>,
}

impl Actor for RosterActor {
    type Msg = RosterMsg;
    type State = State;
    type Arguments = (Scope, Arc<Shared>);

    async fn pre_start(
        &self,
        myself: ActorRef<RosterMsg>,
        (scope, shared): (Scope, Arc<Shared>),
    ) -> Result<State, ActorProcessingErr> {
        let last = Arc::clone(&shared.roster.borrow());
        let me = Member { role: shared.endpoint.role(), ..last.me };
        // A predecessor may have raised the incarnation above the first one.
        let incarnation = (last.version > 0).then_some(last.incarnation);
        let notary = Arc::new(KeyNotary::new(&shared.endpoint.identity().borrow()));
        let seed = scope.env.seed.draw_number();
        let detector = Detector::new(shared.config.clone(), me, incarnation, notary, seed);
        let drained = Arc::new(Notify::new());
        let endpoint = tokio::spawn(follow_endpoint(Arc::clone(&shared), myself.clone()));
        let pump = tokio::spawn(pump(Arc::clone(&shared), myself.clone(), Arc::clone(&drained)));
        let mut state = State {
            scope,
            shared,
            detector,
            effects: Vec::new(),
            members: OrdMap::new(),
            managers: [].into(),
            published: None,
            versions_before: last.version,
            drained,
            errands: Arc::new(Semaphore::new(ERRANDS_MAX)),
            timer: None,
            _pump: AbortOnDropHandle::new(pump),
            _endpoint: AbortOnDropHandle::new(endpoint),
        };
        state.feed(&myself, Input::Start);
        let known: Vec<_> =
            last.members.values().filter(|view| view.state.is_present()).map(|view| view.member).collect();
        if !known.is_empty() {
            state.feed(&myself, Input::Learn(known));
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<RosterMsg>,
        message: RosterMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RosterMsg::Arrived => state.read(&myself, BATCH),
            RosterMsg::Timer(wake) => {
                state.read(&myself, DRAIN_MAX);
                state.feed(&myself, Input::Timer(wake));
            }
            RosterMsg::Input(input) => state.feed(&myself, input),
            RosterMsg::Table(reply) => drop(reply.send(state.detector.push_pull())),
            RosterMsg::Goodbye(kind, reply) => {
                state.feed(&myself, Input::Goodbye(kind));
                let _ = reply.send(());
            }
        }
        Ok(())
    }
}

/// Tells the actor that something arrived: once, and again after the actor has read. So the actor's mailbox never holds
/// more than one such message, however fast datagrams come.
async fn pump(shared: Arc<Shared>, actor: ActorRef<RosterMsg>, drained: Arc<Notify>) {
    let Some(inbox) = &shared.inbox else { return };
    while inbox.ready().await {
        if actor.cast(RosterMsg::Arrived).is_err() {
            return;
        }
        drained.notified().await;
    }
}

/// Tells the detector when this node's certificate says another role, and which nodes are removed from the cluster.
async fn follow_endpoint(shared: Arc<Shared>, actor: ActorRef<RosterMsg>) {
    let (mut identity, mut admission) = (shared.endpoint.identity(), shared.endpoint.admission());
    let mut removed = Removals::default();
    admission.mark_changed();
    loop {
        let inputs = tokio::select! {
            changed = identity.changed() => match changed {
                Ok(()) => {
                    let role = identity.borrow_and_update().role();
                    vec![Input::Changed { addr: shared.roster.borrow().me.addr, role }]
                }
                Err(_) => return,
            },
            changed = admission.changed() => match changed {
                Ok(()) => {
                    let table = Arc::clone(&admission.borrow_and_update());
                    let before = std::mem::replace(&mut removed, table.removed.clone());
                    let new = removed.since(&before).0.into_iter().map(|(node, _)| node);
                    new.filter(|node| *node != shared.endpoint.node()).map(Input::Removed).collect()
                }
                Err(_) => return,
            },
        };
        for input in inputs {
            if let Input::Removed(node) = &input {
                shared.endpoint.transport().disconnect(*node, "removed from the cluster");
            }
            if actor.cast(RosterMsg::Input(input)).is_err() {
                return;
            }
        }
    }
}

impl State {
    fn feed(&mut self, myself: &ActorRef<RosterMsg>, input: Input) {
        let now = self.scope.now();
        self.detector.handle(now, input, &mut self.effects);
        self.perform(myself, now);
    }

    /// Hands up to `limit` arrivals to the detector.
    fn read(&mut self, myself: &ActorRef<RosterMsg>, limit: usize) {
        let items = self.shared.inbox.as_ref().map(|inbox| inbox.drain(limit)).unwrap_or_default();
        let now = self.scope.now();
        for item in items {
            let input = match item {
                Item::Datagram(datagram) => Some(Input::Datagram { from: datagram.from, bytes: datagram.bytes }),
                Item::Event(event) => self.on_event(event),
            };
            if let Some(input) = input {
                self.detector.handle(now, input, &mut self.effects);
            }
        }
        self.perform(myself, now);
        self.drained.notify_one();
    }

    fn on_event(&self, event: Event) -> Option<Input> {
        match event {
            Event::Up(peer) => {
                tracing::debug!(actor = %self.scope.path, peer = %peer.node, "a session stands");
                Some(Input::SessionUp { node: peer.node })
            }
            Event::Lost { node, how, .. } => {
                let loss = loss_of(&how)?;
                self.scope.record(RecordKind::Session, format!("session with {node} lost: {}", words(&how)));
                Some(Input::SessionLost { node, how: loss })
            }
        }
    }

    fn perform(&mut self, myself: &ActorRef<RosterMsg>, now: Moment) {
        let mut verdicts = Vec::new();
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Send { to, bytes } => self.shared.endpoint.transport().send_datagram(to, bytes),
                Effect::WakeAt(at, wake) => self.wake_at(myself, at, wake),
                Effect::Probe(node) => self.probe(myself, node),
                Effect::PushPull(node) => self.push_pull(myself, node),
                Effect::Address { node, addr } => self.shared.endpoint.transport().learn(node, addr),
                Effect::Verdict(verdict) => verdicts.push(verdict),
            }
        }
        // The roster is published before its verdicts: a listener that hears a verdict must find its effect in the
        // roster.
        self.publish(now);
        for verdict in verdicts {
            if is_recorded(&verdict, &self.shared.roster.borrow(), self.shared.endpoint.role()) {
                self.scope.record(RecordKind::Verdict, say(&verdict));
            }
            if let Some(verdicts) = self.shared.verdicts.get() {
                // `send` fails when no listener exists, which is no error.
                let _ = verdicts.send(Heard { at: now, verdict });
            }
        }
    }

    fn publish(&mut self, now: Moment) {
        if self.published == Some(self.detector.version()) {
            return;
        }
        let me = self.detector.me();
        let mut moved = me != self.shared.roster.borrow().me || self.published.is_none();
        for (node, view) in self.detector.changes() {
            let place = view.as_ref().and_then(managed);
            let before = match view {
                Some(view) => self.members.insert(node, view),
                None => self.members.remove(&node),
            };
            moved |= before.as_ref().and_then(managed) != place;
        }
        if moved {
            let others = self.members.values().filter_map(managed);
            self.managers = place_of(&me).into_iter().chain(others).collect();
        }
        let roster = Roster {
            me,
            incarnation: self.detector.incarnation(),
            isolated: self.detector.is_isolated(),
            ballot: self.detector.ballot().into(),
            version: self.versions_before + 1 + self.detector.version(),
            at: now,
            managers: Arc::clone(&self.managers),
            members: self.members.clone(),
        };
        self.published = Some(self.detector.version());
        self.shared.roster.send_replace(Arc::new(roster));
    }

    fn wake_at(&mut self, myself: &ActorRef<RosterMsg>, at: Moment, wake: Wake) {
        let after = at.saturating_since(self.scope.now());
        let myself = myself.clone();
        // Only the last wake-up that was asked for counts, so the earlier one is dropped.
        self.timer = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = myself.cast(RosterMsg::Timer(wake));
        })));
    }

    fn probe(&self, myself: &ActorRef<RosterMsg>, node: NodeId) {
        let transport = self.shared.endpoint.transport().clone();
        self.errand(myself, async move {
            // Only a refusal is evidence: silence is not, because a living daemon stays silent too.
            (transport.probe(node).await == Probe::Refused).then_some(Input::Refused(node))
        });
    }

    fn push_pull(&self, myself: &ActorRef<RosterMsg>, node: NodeId) {
        let (shared, ours) = (Arc::clone(&self.shared), self.detector.push_pull());
        self.errand(myself, async move { exchange(&shared, node, ours).await });
    }

    /// Runs a probe or push-pull in a task of its own; above [`ERRANDS_MAX`] the task waits for its turn.
    fn errand(&self, myself: &ActorRef<RosterMsg>, find: impl Future<Output = Option<Input>> + Send + 'static) {
        let (myself, errands) = (myself.clone(), Arc::clone(&self.errands));
        tokio::spawn(async move {
            let Ok(_turn) = errands.acquire().await else { return };
            if let Some(input) = find.await {
                let _ = myself.cast(RosterMsg::Input(input));
            }
        });
    }
}

/// Id and address of a member that is a manager.
fn managed(view: &MemberView) -> Option<(NodeId, SocketAddr)> {
    place_of(&view.member)
}

fn place_of(member: &Member) -> Option<(NodeId, SocketAddr)> {
    (member.role == Role::Manager).then_some((member.node, member.addr))
}

/// The evidence about the peer that the end of its session gives, if any.
fn loss_of(how: &Lost) -> Option<Loss> {
    match how {
        Lost::Ended(Ended::TimedOut) => Some(Loss::TimedOut),
        Lost::Ended(Ended::Reset) => Some(Loss::Reset),
        Lost::Ended(Ended::Closed { .. } | Ended::Failed(_)) => Some(Loss::Closed),
        // This node closed the session, another session replaced it, or the peer's next start is here already.
        Lost::Ended(Ended::Local { .. })
        | Lost::Replaced
        | Lost::Restarted
        | Lost::Denied(_)
        | Lost::RoleChanged
        | Lost::Unused => None,
    }
}

fn words(how: &Lost) -> String {
    match how {
        Lost::Ended(ended) => ended.to_string(),
        Lost::Denied(denied) => denied.to_string(),
        other => format!("{other:?}"),
    }
}
