//! The actor of a node at the manager that it is linked to.
//!
//! Parent: `manager`. Children: the guard of its link.
//! Hears: what the node says (`ToNode`); from `manager` that something about the node was applied, that the node must
//! link elsewhere. Says: `ToUplink` to the node; proposals about the node to the store.
//! Dies: with its link, in order. The node links again, here or elsewhere, and says what it was told. Nothing is lost,
//! since nothing is kept here.

use super::core::{Core, Effect, Input, availability_at_join};
use super::describing::{Describing, Effect as DescribeEffect, Input as DescribeInput};
use super::topics::{Topic, Topics};
use crate::ballots::{BallotBox, Source};
use crate::interests::Interests;
use crate::reports::Reports;
use essaim_model::{Availability, Change, NodeDescription, Outcome, Refusal, RefusalKind};
use essaim_protocol::{
    Depart, DepartReply, Detach, Hello, NODE_EXPORT, Pace, Packed, RenewReply, Report, ReportReply, SUBSCRIPTIONS_MAX,
    Subscribe, ToNode, ToUplink, UPLINK_EXPORT,
};
use essaim_store::Store;
use essaim_system::journal::RecordKind;
use essaim_system::link::{CastError, Link, Remote};
use essaim_system::{Notifier, Scope, Timer};
use essaim_transport::{LaneStream, PeerInfo};
use essaim_wire::{Generation, Level, Reachability};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Upper bound on the time until a node exports its uplink on a new link.
const IMPORT_DEADLINE: Duration = Duration::from_secs(5);

/// Hellos that are answered on one link: the first, one now and then for an operator's change of availability, and some
/// for orders that build on what the node does not have. Each is answered with all orders of the node, so a node that
/// says more hellos has to link again.
const HELLOS_MAX: u32 = 64;

/// Reports of a node that may be under way. A worker waits for the answer to one before it sends the next, except that
/// it sends its last without waiting when it stops.
const REPORTS_MAX: usize = 2;

/// Renewals of a node's lease that may be under way. A worker waits for the answer to one before it asks again, or gives
/// up on it after two seconds, while a read may take five.
const RENEWALS_MAX: usize = 4;

pub(crate) enum Msg {
    /// The node said something over its link.
    Remote(ToNode),
    /// The node's uplink was imported, or why it could not be.
    Imported(Result<Remote<ToUplink>, String>),
    /// This manager applied entries that concern the node.
    Applied,
    /// The link has room again for the messages that wait.
    Room,
    /// A proposal of the node's description was answered, or a wait that the describing core asked for is over.
    Describing(DescribeInput),
    /// The node must wait at least this long between two reports.
    Pace(Duration),
    /// This manager cannot serve the node any more.
    Detach(String),
    /// The link has ended.
    Ended(Arc<str>),
}

essaim_system::exported!(Msg, Remote(ToNode));

/// A message to the node that waits for room on the link.
enum Unsaid {
    /// Time between two reports of the node.
    Pace(Duration),
    /// A message that the core decided on.
    Effect(Effect),
    /// A message about published ports.
    Topic(Topic),
}

pub(crate) struct NodeActor;

/// Arguments of the actor: the stream that the node opened, and the handles that serve the node.
pub(crate) struct Arguments {
    pub(crate) scope: Scope,
    pub(crate) store: Store,
    pub(crate) reports: Reports,
    pub(crate) ballots: BallotBox,
    pub(crate) interests: Interests,
    pub(crate) stream: LaneStream,
    pub(crate) applied: Notifier<Msg>,
    pub(crate) pace: Duration,
}

pub(crate) struct State {
    scope: Scope,
    store: Store,
    reports: Reports,
    ballots: BallotBox,
    interests: Interests,
    /// This link as a source of ballots.
    source: Source,
    peer: PeerInfo,
    link: Link,
    applied: Notifier<Msg>,
    pace: Duration,
    core: Core,
    topics: Topics,
    /// The node's uplink; `None` until the node has exported it.
    uplink: Option<Remote<ToUplink>>,
    /// Messages for which the link had no room yet, in order: the orders of one node at most.
    unsaid: VecDeque<Unsaid>,
    /// Something was applied, or the node has subscribed, while messages wait: what to tell is looked up again.
    is_behind: bool,
    /// A hello that came before the node's uplink was imported.
    early: Option<Hello>,
    generation: Generation,
    /// The highest level that the node's program understands, as its hello said.
    level: Level,
    /// The last description that the node gave of its machine.
    description: Option<NodeDescription>,
    /// The availability that an operator chose when the node joined.
    availability: Option<Availability>,
    describing: Describing,
    /// Fires at the end of the wait that the describing core asked for last.
    timer: Timer,
    /// Number of hellos on this link.
    hellos: u32,
    reporting: Arc<Semaphore>,
    renewing: Arc<Semaphore>,
}

impl Actor for NodeActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { scope, store, reports, ballots, interests, stream, applied, pace } = arguments;
        let peer = stream.peer.clone();
        let name = format!("node {}", peer.node);
        let link = Link::open(&scope, myself.get_cell(), name, stream.send, stream.recv).await?;
        link.export(NODE_EXPORT, &myself);
        tokio::spawn(import(link.clone(), myself));
        let core = Core::new(peer.node);
        let generation = peer.generation;
        Ok(State {
            scope,
            store,
            reports,
            source: ballots.source(true),
            ballots,
            interests,
            topics: Topics::default(),
            peer,
            link,
            applied,
            pace,
            core,
            uplink: None,
            unsaid: VecDeque::new(),
            is_behind: false,
            early: None,
            generation,
            level: Level::UNKNOWN,
            description: None,
            availability: None,
            describing: Describing::new(),
            timer: Timer::default(),
            hellos: 0,
            reporting: Arc::new(Semaphore::new(REPORTS_MAX)),
            renewing: Arc::new(Semaphore::new(RENEWALS_MAX)),
        })
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Remote(ToNode::Hello(hello)) => match hello.open() {
                Ok(hello) => state.hear_hello(&myself, hello),
                Err(why) => state.hear_nonsense(&myself, &why),
            },
            Msg::Remote(ToNode::Describe(describe)) => match describe.open() {
                Ok(describe) => state.hear_description(&myself, describe.description),
                Err(why) => state.hear_nonsense(&myself, &why),
            },
            Msg::Remote(ToNode::Report(report, reply)) => match report.open() {
                Ok(report) => state.keep(report, reply),
                Err(why) => state.hear_nonsense(&myself, &why),
            },
            Msg::Remote(ToNode::Depart(depart, reply)) => match depart.open() {
                Ok(Depart { left }) => state.depart(left, reply),
                Err(why) => state.hear_nonsense(&myself, &why),
            },
            Msg::Remote(ToNode::Renew(reply)) => state.renew(reply),
            Msg::Remote(ToNode::Accuse(ballot)) => match ballot.open() {
                Ok(ballot) => state.ballots.set(state.source, state.peer.node, &ballot.accusations),
                Err(why) => state.hear_nonsense(&myself, &why),
            },
            Msg::Remote(ToNode::Subscribe(subscribe)) => match subscribe.open() {
                Ok(subscribe) => state.subscribe(&myself, subscribe),
                Err(why) => state.hear_nonsense(&myself, &why),
            },
            Msg::Imported(Ok(uplink)) => {
                state.uplink = Some(uplink);
                state.say(&myself, Unsaid::Pace(state.pace));
                if let Some(hello) = state.early.take() {
                    state.tell(&myself, Input::Hello(&hello));
                }
            }
            Msg::Imported(Err(why)) => myself.stop(Some(why)),
            Msg::Applied => {
                state.applied.take();
                state.describe(&myself);
                state.tell(&myself, Input::Applied);
            }
            Msg::Room => state.go_on(&myself),
            Msg::Describing(input) => state.feed_describing(&myself, input),
            Msg::Pace(interval) => {
                state.pace = interval;
                state.say(&myself, Unsaid::Pace(interval));
            }
            Msg::Detach(why) => {
                // The detach message goes before all waiting messages. When the link has no room for it, it is left
                // out: the link ends in any case.
                if let Some(uplink) = &state.uplink {
                    let _ = uplink.cast(ToUplink::Detach(Packed::new(&Detach { why: why.clone() })));
                }
                state.link.close(&why);
            }
            Msg::Ended(why) => myself.stop(Some(why.to_string())),
        }
        Ok(())
    }

    /// The end of the link's guard is ignored: the link's end is heard as `Ended`, with the reason.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Msg>,
        _: SupervisionEvent,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.ballots.end(state.source, state.peer.node);
        state.interests.forget(state.peer.node);
        state.link.close("the actor of this node ended");
        Ok(())
    }
}

/// Imports the node's uplink, then waits for the end of the link.
async fn import(link: Link, actor: ActorRef<Msg>) {
    let uplink = link.import::<ToUplink>(UPLINK_EXPORT, IMPORT_DEADLINE).await.map_err(|why| why.to_string());
    let _ = actor.cast(Msg::Imported(uplink));
    let why = link.ended().await;
    let _ = actor.cast(Msg::Ended(why));
}

impl State {
    fn hear_hello(&mut self, myself: &ActorRef<Msg>, hello: Hello) {
        self.hellos += 1;
        if self.hellos > HELLOS_MAX {
            return self.hear_nonsense(myself, &format!("more than {HELLOS_MAX} hellos on one link"));
        }
        if let Err(refusal) = hello.description.check() {
            return self.hear_nonsense(myself, &refusal);
        }
        if hello.generation != self.peer.generation {
            let (says, is) = (hello.generation.0, self.peer.generation.0);
            return self.hear_nonsense(myself, &format!("it says that it is start {says}, on a session of start {is}"));
        }
        // A node without accusations counts as linked, too.
        self.ballots.greet(self.source, self.peer.node);
        self.generation = hello.generation;
        self.level = hello.level;
        self.description = Some(hello.description.clone());
        self.availability = hello.availability;
        self.describe(myself);
        if self.uplink.is_some() {
            self.tell(myself, Input::Hello(&hello));
        } else {
            self.early = Some(hello);
        }
    }

    fn hear_description(&mut self, myself: &ActorRef<Msg>, description: NodeDescription) {
        if let Err(refusal) = description.check() {
            return self.hear_nonsense(myself, &refusal);
        }
        self.description = Some(description);
        self.describe(myself);
    }

    /// Closes the link with a node that breaks the protocol: bytes that do not decode, or a description beyond its
    /// bounds.
    fn hear_nonsense(&self, myself: &ActorRef<Msg>, why: &dyn fmt::Display) {
        self.scope.record(RecordKind::Session, format!("node {} said nonsense: {why}", self.peer.node));
        self.link.close(&why.to_string());
        myself.stop(Some(why.to_string()));
    }

    /// Proposes what the node's hello and its machine say, if the state differs from it; the describing core decides when.
    fn describe(&mut self, myself: &ActorRef<Msg>) {
        // Before its first hello the node has said nothing.
        if self.description.is_some() {
            let input = self.undescribed().map_or(DescribeInput::Unknown, DescribeInput::Look);
            self.feed_describing(myself, input);
        }
    }

    /// The changes that bring the state in line with what the node says; `None` when this manager does not know the node
    /// yet, because the node was enrolled a moment ago.
    fn undescribed(&self) -> Option<Vec<Change>> {
        let cluster = self.store.state();
        let node = cluster.node(self.peer.node)?;
        let news = self.description.as_ref().filter(|it| node.description.as_ref() != Some(it)).cloned();
        let restarted = node.generation != self.generation || node.level != self.level;
        let moved = node.addr != Some(self.peer.advertise);
        if news.is_none() && !moved && !restarted {
            return Some(Vec::new());
        }
        let change = Change::DescribeNode {
            id: self.peer.node,
            generation: self.generation,
            addr: self.peer.advertise,
            level: self.level,
            description: news,
        };
        // One proposal carries both changes, so that an availability is taken from the first description and no later
        // one.
        let joined = availability_at_join(node, self.availability);
        Some(joined.into_iter().chain([change]).collect())
    }

    fn feed_describing(&mut self, myself: &ActorRef<Msg>, input: DescribeInput) {
        let mut effects = Vec::new();
        self.describing.handle(input, &mut effects);
        for effect in effects {
            match effect {
                DescribeEffect::Propose(changes) => {
                    let (store, scope, myself) = (self.store.clone(), self.scope.clone(), myself.clone());
                    tokio::spawn(async move {
                        let (input, why) = match store.propose(changes, None).await {
                            Ok(Outcome::Done(_)) => (DescribeInput::Committed, None),
                            Ok(Outcome::Refused(why)) => (DescribeInput::Committed, Some(why.to_string())),
                            Err(why) => (DescribeInput::Failed, Some(why.to_string())),
                        };
                        if let Some(why) = why {
                            scope.record(RecordKind::Session, format!("its description was not kept yet: {why}"));
                        }
                        // An actor that has ended needs no answer.
                        let _ = myself.cast(Msg::Describing(input));
                    });
                }
                DescribeEffect::WakeAfter(after, wake) => {
                    self.timer.arm(myself, after, move || Msg::Describing(DescribeInput::Elapsed(wake)));
                }
                DescribeEffect::Compare => self.describe(myself),
            }
        }
    }

    fn keep(&self, report: Report, reply: RpcReplyPort<Packed<ReportReply>>) {
        let Ok(place) = Arc::clone(&self.reporting).try_acquire_owned() else {
            let busy = Refusal::new(RefusalKind::Unknown, "earlier reports of this node are still being kept");
            let _ = reply.send(Packed::new(&ReportReply::Again(busy)));
            return;
        };
        let (reports, node) = (self.reports.clone(), self.peer.node);
        tokio::spawn(async move {
            let _place = place;
            let kept = match reports.keep(node, report.tasks).await {
                Ok(()) => ReportReply::Kept,
                Err(refusal) => ReportReply::Again(refusal),
            };
            // The answer is lost when the link has ended; the node sends the report again on its next link.
            let _ = reply.send(Packed::new(&kept));
        });
    }

    /// Renews the node's lease, if the committed state has the node as reachable. The read begins after the node asked,
    /// so a lease never outlives the commit that calls its node lost by more than its whole length.
    fn renew(&self, reply: RpcReplyPort<Packed<RenewReply>>) {
        let Ok(place) = Arc::clone(&self.renewing).try_acquire_owned() else {
            let busy = Refusal::new(RefusalKind::Unknown, "an earlier renewal of this node is still under way");
            let _ = reply.send(Packed::new(&RenewReply::Refused(busy)));
            return;
        };
        let (store, id) = (self.store.clone(), self.peer.node);
        tokio::spawn(async move {
            let _place = place;
            let said = match store.read().await.map(|cluster| cluster.node(id).map(|node| node.reachability)) {
                Ok(Some(Reachability::Reachable | Reachability::Unknown)) => RenewReply::Renewed,
                Ok(_) => RenewReply::Refused(Refusal::new(RefusalKind::Precondition, "the node counts as lost")),
                Err(why) => RenewReply::Refused(Refusal::new(RefusalKind::Unknown, why.to_string())),
            };
            // The answer is lost when the link has ended; the node asks again on its next link.
            let _ = reply.send(Packed::new(&said));
        });
    }

    /// Proposes the node's departure, which the node announced over its own link.
    fn depart(&self, left: bool, reply: RpcReplyPort<Packed<DepartReply>>) {
        let change = Change::DepartNode { id: self.peer.node, generation: self.generation, left };
        let store = self.store.clone();
        tokio::spawn(async move {
            let said = match store.change(vec![change], None).await {
                Ok(_) => DepartReply::Kept,
                Err(refusal) => DepartReply::Refused(refusal),
            };
            // The answer is lost when the node no longer waits for it, because it has gone.
            let _ = reply.send(Packed::new(&said));
        });
    }

    /// Tells the node the news of the core. While messages wait for room nothing is added; the news of that time is
    /// told in one piece. After a new hello the node is told everything anew, in place of the waiting messages.
    fn tell(&mut self, myself: &ActorRef<Msg>, input: Input<'_>) {
        if self.uplink.is_none() {
            return;
        }
        match input {
            Input::Applied if !self.unsaid.is_empty() => return self.is_behind = true,
            Input::Applied => (),
            Input::Hello(_) => self.unsaid.retain(|unsaid| !matches!(unsaid, Unsaid::Effect(_))),
        }
        let waits = !self.unsaid.is_empty();
        self.look_up(input);
        if !waits {
            self.go_on(myself);
        }
    }

    /// Adds what the node has to be told to the messages that wait.
    fn look_up(&mut self, input: Input<'_>) {
        let (state, mut effects, mut topics) = (self.store.state(), Vec::new(), Vec::new());
        self.core.handle(&state, input, &mut effects);
        self.topics.look(&state, &self.interests.take(self.peer.node), &mut topics);
        self.unsaid.extend(effects.into_iter().map(Unsaid::Effect));
        self.unsaid.extend(topics.into_iter().map(Unsaid::Topic));
    }

    /// Takes note of the services whose backends the node wants to be told, and tells them.
    fn subscribe(&mut self, myself: &ActorRef<Msg>, wanted: Subscribe) {
        let services = wanted.services.clone();
        if self.topics.subscribe(wanted) {
            return self.hear_nonsense(myself, &format!("more than {SUBSCRIPTIONS_MAX} subscriptions"));
        }
        self.interests.set(self.peer.node, services);
        self.tell(myself, Input::Applied);
    }

    /// Sends a message to the node. Before the node's uplink is imported there is nothing to send it to; what is in force
    /// then is said after the import.
    fn say(&mut self, myself: &ActorRef<Msg>, unsaid: Unsaid) {
        if self.uplink.is_none() {
            return;
        }
        let waits = !self.unsaid.is_empty();
        self.unsaid.push_back(unsaid);
        if !waits {
            self.go_on(myself);
        }
    }

    /// Sends waiting messages while the link has room, and continues when it has room again. A message that cannot be
    /// sent ends the link: the node links again and says what it knows.
    fn go_on(&mut self, myself: &ActorRef<Msg>) {
        let Some(uplink) = self.uplink.clone() else { return };
        loop {
            while let Some(unsaid) = self.unsaid.pop_front() {
                let said = uplink.find_room().and_then(|()| {
                    uplink.cast(match &unsaid {
                        Unsaid::Pace(interval) => ToUplink::Pace(Packed::new(&Pace { interval: *interval })),
                        Unsaid::Effect(Effect::Assign(assignment)) => ToUplink::Assign(Packed::new(assignment)),
                        Unsaid::Effect(Effect::Managers(managers)) => ToUplink::Managers(Packed::new(managers)),
                        Unsaid::Effect(Effect::Role(said)) => ToUplink::Role(Packed::new(said)),
                        Unsaid::Topic(Topic::Ports(table)) => ToUplink::Ports(Packed::new(table)),
                        Unsaid::Topic(Topic::Backends(backends)) => ToUplink::Backends(Packed::new(backends)),
                    })
                });
                match said {
                    Ok(()) => (),
                    Err(CastError::Stalled) => {
                        self.unsaid.push_front(unsaid);
                        let myself = myself.clone();
                        tokio::spawn(async move {
                            if uplink.wait_for_room().await {
                                // The cast fails only when the actor has ended, and then it sends nothing more.
                                let _ = myself.cast(Msg::Room);
                            }
                        });
                        return;
                    }
                    Err(why) => {
                        self.unsaid.clear();
                        self.is_behind = false;
                        return self.link.close(&why.to_string());
                    }
                }
            }
            if !std::mem::take(&mut self.is_behind) {
                return;
            }
            self.look_up(Input::Applied);
        }
    }
}
