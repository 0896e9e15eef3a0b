//! The uplink's actor: keeps one link to a manager and carries all messages between manager and worker.
//!
//! Parent: `worker`. Children: the guard of its link; dialling and reporting run beside the actor and end with it.
//! Hears: `ToUplink` from the linked manager, `Unreachable` from the node, which watches the roster, results of
//! dialling and the end of the link.
//! Says: `Hello`, `Describe` and `Report` to the manager; `Obey` and `Confirm` to the worker; the list of managers and
//! this node's standing, to the node.
//! Dies: never by itself. A disk that refuses the orders is tried again, and the link stays; what died by a fault of this
//! program links again and gets the orders again. No task is affected.

use super::core::{Attempt, Core, Effect, Input, Wake};
use super::deaf::Ear;
use super::dial::{Dial, Unlinked};
use crate::actor::WorkerMsg;
use crate::link_state::LinkState;
use crate::link_state::PayloadsHeld;
use crate::machine::Machine;
use crate::mesh::Mesh;
use crate::observations::Observations;
use crate::orders::{self, Obeyed, Orders};
use essaim_model::{EngineKind, NodeDescription, Observed, TaskId, TaskState};
use essaim_protocol::{
    Assembled, Assembly, Assignment, Ballot, Depart, DepartReply, Describe, Detach, Hello, KnownManagers, Managers,
    NODE_EXPORT, Packed, RenewReply, Report, ReportReply, Subscribe, ToNode, ToUplink, UPLINK_EXPORT,
};
use essaim_system::link::{Link, Remote};
use essaim_system::supervisor::CallError;
use essaim_system::{Address, RecordKind, Scope, Timer};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{DecodeError, Generation, NodeId};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Time until a manager has accepted a stream of this node: a manager that has just died answers nothing at all, and
/// another manager serves as well.
const DIAL_PATIENCE: Duration = Duration::from_secs(2);

/// Time that a manager that answered may take to export its actor for this node.
const IMPORT_PATIENCE: Duration = Duration::from_secs(2);

/// Time that a manager may take to commit a report. A manager without a quorum refuses within a second.
const REPORT_PATIENCE: Duration = Duration::from_secs(5);

/// Time that the last report may take when the daemon stops.
const LAST_REPORT_PATIENCE: Duration = Duration::from_millis(500);

/// Time that a manager may take to commit this node's departure. A manager without a quorum refuses within a second.
const DEPART_PATIENCE: Duration = Duration::from_secs(2);

/// Interval at which the lease of tasks that end without a manager is renewed: a fifth of the lease, so that a few
/// renewals may be lost.
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// Time that a manager may take to renew the lease. It reads from a quorum, which takes milliseconds, or an election.
const RENEW_PATIENCE: Duration = Duration::from_secs(2);

/// Delay before a renewal that was refused is asked for again.
const RENEW_AGAIN: Duration = Duration::from_millis(500);

/// Interval of reports until the manager sets one.
const PACE_DEFAULT: Duration = Duration::from_millis(25);

/// Delay before a report that the manager could not commit is sent again, as when the cluster has no leader.
const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Time that a task must stay in a transient state before that state is reported. Most tasks run by then, which makes
/// one report and one log entry instead of three.
const PASSING: Duration = Duration::from_millis(50);

/// Tasks per report: the bound of `protocol`.
const REPORT_MAX: usize = 4096;

/// Gaps accepted on one link: orders that are a difference to orders which this node does not have.
const GAPS_MAX: u32 = 3;

/// Messages to the uplink.
pub(crate) enum UplinkMsg {
    /// A message of the linked manager.
    Remote(ToUplink),
    /// An attempt to link to a manager succeeded.
    Linked(Attempt, Link, Remote<ToNode>),
    /// An attempt failed, or its link has ended, for this reason.
    Lost(Attempt, String),
    /// The manager of this attempt says that this node was removed from the cluster.
    Removed(Attempt),
    /// A report on this attempt's link was not answered in time.
    Unanswered(Attempt),
    /// The roster counts the node with this id as unreachable.
    Unreachable(NodeId),
    /// Managers as far as the node knows them.
    Managers(Vec<(NodeId, SocketAddr)>),
    /// The machine at a new look.
    Machine(NodeDescription),
    /// An operator chose an availability for this node; it is to be sent with a hello.
    Availability,
    /// The node leaves: tell the manager, and reply whether the manager committed it.
    Depart {
        /// Whether all tasks have ended and the node leaves now.
        left: bool,
        /// Reply port; `Err` says why the departure was not committed.
        reply: RpcReplyPort<Result<(), String>>,
    },
    /// The set of nodes that this node accuses has changed.
    Ballot,
    /// The simulator makes this node send false messages to its manager.
    #[cfg(feature = "sim")]
    Lie(Vec<(TaskId, Observed)>, Option<Generation>),
    /// It is time to try a disk again that refused orders.
    TryDisk,
    /// A delay that the core asked for by `WakeAt` has elapsed.
    Elapsed(Wake),
}

essaim_system::exported!(UplinkMsg, Remote(ToUplink));

/// Start arguments of the uplink, beside its scope.
#[derive(Clone)]
pub(crate) struct UplinkArgs {
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    pub(crate) machine: Machine,
    pub(crate) dial: Arc<dyn Dial>,
    /// Managers to try before any manager has sent a list.
    pub(crate) managers: Vec<(NodeId, SocketAddr)>,
    pub(crate) observations: Observations,
    pub(crate) link_state: LinkState,
    pub(crate) worker: Address<WorkerMsg>,
    pub(crate) mesh: Mesh,
}

/// The uplink's actor.
pub(crate) struct Uplink;

pub(crate) struct State {
    scope: Scope,
    args: UplinkArgs,
    core: Core,
    effects: Vec<Effect>,
    timer: Timer,
    /// The orders that are on disk.
    orders: Arc<Orders>,
    /// Whether the orders are those of the disk, and no manager has sent all of them since the start.
    recalled: bool,
    /// Parts of an assignment that has not arrived completely.
    assembly: Assembly,
    /// What is taken of the manager's words after the disk has refused some.
    ear: Ear,
    /// Fires when a disk that refused is to be tried again.
    disk_timer: Timer,
    description: NodeDescription,
    /// The engines that did not answer at the last look.
    missing: Vec<EngineKind>,
    link: Option<Linked>,
    /// Whether a manager has said that this node was removed.
    removed: bool,
    pace: watch::Sender<Duration>,
    /// Whether the orders have a task that needs the lease.
    needs_lease: watch::Sender<bool>,
    /// Tokio tasks beside the actor; dropped, and so ended, with it.
    beside: JoinSet<()>,
}

struct Linked {
    attempt: Attempt,
    link: Link,
    node: Remote<ToNode>,
    gaps: u32,
    /// The tasks that send reports and subscriptions, and renew the lease; they end with this link.
    _senders: JoinSet<()>,
}

impl Actor for Uplink {
    type Msg = UplinkMsg;
    type State = State;
    type Arguments = (Scope, UplinkArgs);

    async fn pre_start(
        &self,
        myself: ActorRef<UplinkMsg>,
        (scope, args): (Scope, UplinkArgs),
    ) -> Result<State, ActorProcessingErr> {
        // The worker has reported a file that cannot be read; a manager sends the complete orders again.
        let orders = orders::load(&*scope.env.disk).ok().flatten().unwrap_or_default();
        // A worker that leaves its cluster has removed its orders; those that it obeyed last stay the newest ones.
        if !args.link_state.leaves() {
            args.link_state.orders(orders.version);
        }
        let known = orders::load_managers(&*scope.env.disk, args.dial.removed()).ok().flatten();
        let look = args.machine.first_look().await;
        let core = Core::new(args.node, scope.env.seed.draw_number());
        let mut state = State {
            scope,
            core,
            effects: Vec::new(),
            timer: Timer::default(),
            needs_lease: watch::Sender::new(orders.need_lease()),
            orders: Arc::new(orders),
            recalled: true,
            assembly: Assembly::default(),
            ear: Ear::default(),
            disk_timer: Timer::default(),
            description: look.clone(),
            missing: Vec::new(),
            link: None,
            removed: false,
            pace: watch::Sender::new(PACE_DEFAULT),
            beside: JoinSet::new(),
            args,
        };
        let mut managers = state.args.managers.clone();
        if let Some(known) = known {
            managers.clone_from(&known.managers);
            state.learn(&known);
            state.args.link_state.managers(known);
        }
        let (me, machine) = (myself.clone(), state.args.machine.clone());
        state.beside.spawn(async move {
            let mut look = look;
            loop {
                if me.cast(UplinkMsg::Machine(look.clone())).is_err() {
                    return;
                }
                machine.next_look(&look).await;
                look = machine.look().await;
            }
        });
        state.feed(&myself, Input::Managers(managers));
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<UplinkMsg>,
        message: UplinkMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        while state.beside.try_join_next().is_some() {}
        match message {
            UplinkMsg::Remote(said) => {
                if let Err(why) = state.hear(&myself, said).await? {
                    state.on_nonsense(&myself, &why);
                }
            }
            UplinkMsg::Linked(attempt, link, node) => state.on_linked(&myself, attempt, link, node),
            UplinkMsg::Lost(attempt, why) => {
                if state.link.take_if(|linked| linked.attempt == attempt).is_some() {
                    state.args.link_state.linked(None);
                } else {
                    state.scope.record(RecordKind::Session, format!("no link: {why}"));
                }
                state.feed(&myself, Input::Lost(attempt));
            }
            UplinkMsg::Removed(attempt) => {
                state.on_removed();
                state.feed(&myself, Input::Lost(attempt));
            }
            UplinkMsg::Unanswered(attempt) => {
                if state.link.as_ref().is_some_and(|linked| linked.attempt == attempt) {
                    state.refuse(&myself, "the manager does not answer a report");
                }
            }
            UplinkMsg::Unreachable(node) => state.feed(&myself, Input::Unreachable(node)),
            UplinkMsg::Managers(managers) => {
                // A list from a manager takes precedence over the node's guesses.
                if state.args.link_state.knows_no_managers() {
                    state.feed(&myself, Input::Managers(managers));
                }
            }
            UplinkMsg::Machine(look) => state.on_machine(look),
            UplinkMsg::Availability => state.say_hello(true),
            UplinkMsg::Depart { left, reply } => state.depart(left, reply),
            UplinkMsg::Ballot => state.say_ballot(),
            #[cfg(feature = "sim")]
            UplinkMsg::Lie(tasks, hello) => state.lie(tasks, hello),
            UplinkMsg::TryDisk => state.try_disk(&myself).await,
            UplinkMsg::Elapsed(wake) => state.feed(&myself, Input::Elapsed(wake)),
        }
        Ok(())
    }

    /// The guard of a link ends with the link, and that end comes as `Lost`.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<UplinkMsg>,
        _: SupervisionEvent,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<UplinkMsg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        if let Some(linked) = state.link.take() {
            let batch = state.args.observations.pending(REPORT_MAX);
            if !batch.is_empty() {
                let _ = report(&linked.node, &state.args.observations, batch, LAST_REPORT_PATIENCE).await;
            }
            linked.link.close("the worker stops");
        }
        state.args.link_state.linked(None);
        Ok(())
    }
}

impl State {
    /// Handles a message of the manager. The inner error is the manager's fault, the outer one this machine's.
    async fn hear(
        &mut self,
        myself: &ActorRef<UplinkMsg>,
        said: ToUplink,
    ) -> Result<Result<(), DecodeError>, ActorProcessingErr> {
        match said {
            ToUplink::Assign(part) => match part.open() {
                Ok(part) if !self.ear.hears_orders(part.base.is_none() && part.part == 0) => (),
                Ok(part) => match self.assembly.add(part) {
                    Assembled::Whole(assignment) => self.obey(myself, &assignment).await?,
                    Assembled::More => (),
                    Assembled::Gap => self.on_gap(myself),
                },
                Err(why) => return Ok(Err(why)),
            },
            ToUplink::Managers(managers) => match managers.open() {
                Ok(managers) if self.ear.hears() => self.on_managers(myself, managers).await,
                Ok(_) => (),
                Err(why) => return Ok(Err(why)),
            },
            ToUplink::Role(role) => match role.open() {
                Ok(role) if self.ear.hears() => self.args.link_state.role(role),
                Ok(_) => (),
                Err(why) => return Ok(Err(why)),
            },
            ToUplink::Pace(pace) => match pace.open() {
                Ok(pace) => {
                    self.pace.send_replace(pace.interval);
                }
                Err(why) => return Ok(Err(why)),
            },
            ToUplink::Ports(table) => match table.open() {
                Ok(table) => self.args.mesh.on_ports(table),
                Err(why) => return Ok(Err(why)),
            },
            ToUplink::Backends(backends) => match backends.open() {
                Ok(backends) => self.args.mesh.on_backends(backends),
                Err(why) => return Ok(Err(why)),
            },
            ToUplink::Detach(detach) => match detach.open() {
                Ok(Detach { why }) => self.refuse(myself, &why),
                Err(why) => return Ok(Err(why)),
            },
        }
        Ok(Ok(()))
    }

    async fn obey(&mut self, myself: &ActorRef<UplinkMsg>, assignment: &Assignment) -> Result<(), ActorProcessingErr> {
        if self.args.link_state.leaves() {
            return Ok(());
        }
        // Orders of one version differ only in how far their tasks have come, and in credentials, which are never written.
        let is_on_disk = self.orders.version == Some(assignment.version);
        let mut orders = Orders::clone(&self.orders);
        match orders.obey(assignment) {
            Obeyed::Taken => {
                let orders = Arc::new(orders);
                let (disk, saved) = (Arc::clone(&self.scope.env.disk), Arc::clone(&orders));
                // Written to disk before they are obeyed: otherwise a crash would forget orders that were carried out.
                let written = if is_on_disk || planted(Bug::OrdersNotKept) {
                    Ok(())
                } else {
                    crate::off_thread(disk, move |disk| orders::save(disk, &saved)).await
                };
                if !self.is_written(myself, written) {
                    return Ok(());
                }
                self.recalled = false;
                self.orders = Arc::clone(&orders);
                if self.args.link_state.leaves() {
                    return Ok(());
                }
                let sent = assignment.payloads.iter().map(|(payload, _)| *payload);
                let held = orders.payloads.keys().copied().chain(sent).collect();
                self.args.link_state.hold(PayloadsHeld { held, needed: orders.needed() });
                self.args.link_state.orders(orders.version);
                self.needs_lease.send_replace(orders.need_lease());
                let _ = self.args.worker.cast(WorkerMsg::Obey(orders));
            }
            Obeyed::Stale => {
                let index = assignment.version.index.0;
                let words = format!("ignored orders as of index {index}: newer ones are in force");
                self.scope.record(RecordKind::Note, words);
            }
            Obeyed::Gap => self.on_gap(myself),
        }
        Ok(())
    }

    /// Handles a difference to orders or lists that this node does not have: asks for everything, a bounded number of
    /// times.
    fn on_gap(&mut self, myself: &ActorRef<UplinkMsg>) {
        let gaps = self.link.as_mut().map_or(0, |linked| {
            linked.gaps += 1;
            linked.gaps
        });
        if gaps > GAPS_MAX {
            self.refuse(myself, "what it says builds on what this node was never told");
        } else {
            self.say_hello(false);
        }
    }

    async fn on_managers(&mut self, myself: &ActorRef<UplinkMsg>, managers: Managers) {
        // Said on every link after the orders: what is on disk is still meant.
        let _ = self.args.worker.cast(WorkerMsg::Confirm);
        if !self.args.link_state.is_newer(&managers) {
            return;
        }
        let Some(managers) = self.args.link_state.complete(managers) else {
            return self.on_gap(myself);
        };
        // The removed nodes are stored first, by the port: a list on disk must not be newer than they are.
        if self.learn(&managers) {
            let (disk, saved) = (Arc::clone(&self.scope.env.disk), managers.clone());
            let written = crate::off_thread(disk, move |disk| orders::save_managers(disk, &saved)).await;
            if !self.is_written(myself, written) {
                return;
            }
        }
        let known = managers.managers.clone();
        self.args.link_state.managers(managers);
        self.feed(myself, Input::Managers(known));
    }

    /// Whether the disk took what was to be written. If not, what depends on it is ignored until the disk takes it.
    fn is_written(&mut self, myself: &ActorRef<UplinkMsg>, written: io::Result<()>) -> bool {
        match written {
            Ok(()) => {
                if self.ear.on_taken() {
                    self.scope.record(RecordKind::Note, "the disk takes the orders again");
                }
                true
            }
            Err(why) => {
                let (after, is_first) = self.ear.on_refused();
                if is_first {
                    let words = format!("the disk does not take the orders, and those before stay in force: {why}");
                    self.scope.record(RecordKind::Note, words);
                }
                self.disk_timer.arm(myself, after, || UplinkMsg::TryDisk);
                false
            }
        }
    }

    /// Tries a disk that refused, with the orders that are on it, and asks for all orders if it takes these.
    async fn try_disk(&mut self, myself: &ActorRef<UplinkMsg>) {
        if self.ear.hears() {
            return;
        }
        if self.orders.version.is_some() && !self.args.link_state.leaves() {
            let (disk, saved) = (Arc::clone(&self.scope.env.disk), Arc::clone(&self.orders));
            let written = crate::off_thread(disk, move |disk| orders::save(disk, &saved)).await;
            if written.is_err() && !self.is_written(myself, written) {
                return;
            }
        }
        self.say_hello(false);
    }

    /// Has the node's port judge and dial by what a manager said, and store it. Returns whether it was stored.
    fn learn(&self, managers: &KnownManagers) -> bool {
        let learnt = self.args.dial.learn(managers);
        if let Err(why) = &learnt {
            self.scope.record(RecordKind::Note, why);
        }
        learnt.is_ok()
    }

    fn on_linked(&mut self, myself: &ActorRef<UplinkMsg>, attempt: Attempt, link: Link, node: Remote<ToNode>) {
        self.feed(myself, Input::Linked(attempt));
        let Some(manager) = self.core.linked_by(attempt) else {
            link.close("another manager was faster");
            return;
        };
        let mut senders = JoinSet::new();
        senders.spawn(renew_all(
            node.clone(),
            self.needs_lease.subscribe(),
            self.args.link_state.clone(),
            self.args.worker.clone(),
            self.scope.clone(),
        ));
        senders.spawn(subscribe_all(node.clone(), self.args.mesh.wanted()));
        senders.spawn(report_all(
            node.clone(),
            self.args.observations.clone(),
            self.pace.subscribe(),
            self.scope.clone(),
            myself.clone(),
            attempt,
        ));
        let (ended, me) = (link.clone(), myself.clone());
        self.beside.spawn(async move {
            let why = ended.ended().await;
            let _ = me.cast(UplinkMsg::Lost(attempt, why.to_string()));
        });
        self.link = Some(Linked { attempt, link, node, gaps: 0, _senders: senders });
        self.args.link_state.linked(Some(manager));
        self.say_hello(true);
        if !self.args.link_state.ballot().is_empty() {
            self.say_ballot();
        }
    }

    #[cfg(feature = "sim")]
    fn lie(&mut self, tasks: Vec<(TaskId, Observed)>, hello: Option<Generation>) {
        let Some(linked) = &self.link else { return };
        let node = linked.node.clone();
        self.beside.spawn(async move {
            let report = Packed::new(&Report { tasks });
            let _ = node.call(|reply| ToNode::Report(report, reply), REPORT_PATIENCE).await;
        });
        if let Some(generation) = hello {
            let truth = std::mem::replace(&mut self.args.generation, generation);
            self.say_hello(true);
            self.args.generation = truth;
        }
    }

    /// Sends the nodes that this node accuses to the linked manager.
    fn say_ballot(&self) {
        if let Some(linked) = &self.link {
            let ballot = Ballot { accusations: self.args.link_state.ballot().to_vec() };
            // If this link has ended, the ballot is sent again on the next one.
            let _ = linked.node.cast(ToNode::Accuse(Packed::new(&ballot)));
        }
    }

    /// Sends a hello with the versions that this node has; with `all` false, as if it had none, so that the manager
    /// sends everything.
    fn say_hello(&mut self, all: bool) {
        let Some(linked) = &self.link else { return };
        let all = !self.ear.on_hello() && all;
        // The answer to a hello begins a new assignment.
        self.assembly.clear();
        let hello = Hello {
            generation: self.args.generation,
            have: self.orders.version.filter(|_| all && !self.recalled),
            specs: self.orders.whole_specs().filter(|_| all).collect(),
            seen: self.orders.version.max(self.args.link_state.newest()).filter(|_| !planted(Bug::OlderOrdersObeyed)),
            description: self.description.clone(),
            availability: self.args.link_state.availability(),
            level: self.scope.env.build.level,
        };
        // A link that cannot take a hello has ended, or is about to end.
        let _ = linked.node.cast(ToNode::Hello(Packed::new(&hello)));
    }

    /// Tells the manager that this node leaves, and waits for the answer beside the actor.
    fn depart(&mut self, left: bool, reply: RpcReplyPort<Result<(), String>>) {
        let Some(linked) = &self.link else {
            let _ = reply.send(Err("it is linked to no manager at the moment".into()));
            return;
        };
        let node = linked.node.clone();
        self.beside.spawn(async move {
            let packed = Packed::new(&Depart { left });
            let said = node.call(|reply| ToNode::Depart(packed, reply), DEPART_PATIENCE).await;
            // The caller may have given up waiting.
            let _ = reply.send(match said.map(|reply| reply.open()) {
                Ok(Ok(DepartReply::Kept)) => Ok(()),
                Ok(Ok(DepartReply::Refused(refusal))) => Err(refusal.to_string()),
                Ok(Err(why)) => Err(why.to_string()),
                Err(why) => Err(why.to_string()),
            });
        });
    }

    fn on_machine(&mut self, description: NodeDescription) {
        for (kind, why) in description.missing.iter().filter(|(kind, _)| !self.missing.contains(kind)) {
            let words = format!("the {kind} engine does not answer, and gets no new tasks: {why}");
            self.scope.record(RecordKind::Node, words);
        }
        for kind in self.missing.iter().filter(|kind| description.engines.contains(kind)) {
            self.scope.record(RecordKind::Node, format!("the {kind} engine answers again"));
        }
        self.missing = description.missing.iter().map(|(kind, _)| *kind).collect();
        if self.description == description {
            return;
        }
        self.description = description.clone();
        if let Some(linked) = &self.link {
            let _ = linked.node.cast(ToNode::Describe(Packed::new(&Describe { description })));
        }
    }

    /// Ends all tasks of a removed node, because managers wrote them off and run them elsewhere; their logs stay until the
    /// node leaves the cluster on its side too. The orders on disk stay: they start nothing without a confirmation.
    fn on_removed(&mut self) {
        if !std::mem::replace(&mut self.removed, true) {
            self.scope
                .record(RecordKind::Node, "this node was removed from the cluster: its tasks end, it must join again");
        }
        let _ = self.args.worker.cast(WorkerMsg::Obey(Arc::new(self.orders.all_ended())));
        self.args.link_state.removed();
    }

    fn on_nonsense(&mut self, myself: &ActorRef<UplinkMsg>, why: &DecodeError) {
        self.refuse(myself, &format!("the manager said nonsense: {why}"));
    }

    /// Gives up the linked manager and turns to another.
    fn refuse(&mut self, myself: &ActorRef<UplinkMsg>, why: &str) {
        self.scope.record(RecordKind::Session, format!("turns to another manager: {why}"));
        self.feed(myself, Input::Refused);
    }

    fn feed(&mut self, myself: &ActorRef<UplinkMsg>, input: Input) {
        self.core.handle(self.scope.now(), input, &mut self.effects);
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Dial(attempt, manager, addr) => {
                    let (scope, dial, me) = (self.scope.clone(), Arc::clone(&self.args.dial), myself.clone());
                    self.beside.spawn(async move {
                        let message = match link(&scope, &*dial, &me, manager, addr).await {
                            Ok((link, node)) => UplinkMsg::Linked(attempt, link, node),
                            Err(Unlinked::Removed) => UplinkMsg::Removed(attempt),
                            Err(why) => UplinkMsg::Lost(attempt, format!("manager {manager} at {addr}: {why}")),
                        };
                        let _ = me.cast(message);
                    });
                }
                Effect::Drop(attempt) => {
                    if let Some(linked) = self.link.take_if(|linked| linked.attempt == attempt) {
                        linked.link.close("this node turns to another manager");
                        self.args.link_state.linked(None);
                    }
                }
                Effect::WakeAt(at, wake) => {
                    let after = at.saturating_since(self.scope.now());
                    self.timer.arm(myself, after, move || UplinkMsg::Elapsed(wake));
                }
            }
        }
    }
}

/// Links to a manager: dials, exports the uplink, and imports the manager's actor for this node.
async fn link(
    scope: &Scope,
    dial: &dyn Dial,
    me: &ActorRef<UplinkMsg>,
    manager: NodeId,
    addr: SocketAddr,
) -> Result<(Link, Remote<ToNode>), Unlinked> {
    let failed = |why: &dyn std::fmt::Display| Unlinked::Failed(why.to_string());
    let dialled = tokio::time::timeout(DIAL_PATIENCE, dial.dial(manager, addr)).await;
    let (send, recv) = dialled.map_err(|_| failed(&"it does not answer"))??;
    let peer = format!("manager {manager}");
    let link = Link::open(scope, me.get_cell(), peer, send, recv).await.map_err(|why| failed(&why))?;
    link.export(UPLINK_EXPORT, me);
    match link.import::<ToNode>(NODE_EXPORT, IMPORT_PATIENCE).await {
        Ok(node) => Ok((link, node)),
        Err(why) => {
            link.close("this node's actor was not exported");
            Err(failed(&why))
        }
    }
}

/// Sends the pending observations to the manager as long as the link lasts.
async fn report_all(
    node: Remote<ToNode>,
    observations: Observations,
    pace: watch::Receiver<Duration>,
    scope: Scope,
    me: ActorRef<UplinkMsg>,
    attempt: Attempt,
) {
    let mut changes = observations.changes();
    loop {
        changes.borrow_and_update();
        let mut batch = observations.pending(REPORT_MAX);
        if batch.is_empty() {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let passing_until = Instant::now() + PASSING;
        while batch.iter().all(|(_, seen)| is_passing(seen.state)) {
            if timeout_at(passing_until, changes.changed()).await.is_err() {
                break;
            }
            batch = observations.pending(REPORT_MAX);
        }
        let wait = match report(&node, &observations, batch, REPORT_PATIENCE).await {
            Ok(None) => Duration::ZERO,
            Ok(Some(why)) => {
                scope.record(RecordKind::Note, format!("a report is sent again: {why}"));
                AGAIN_AFTER
            }
            Err(_) => {
                // Either the link has ended, which comes as `Lost`, or the manager hangs.
                let _ = me.cast(UplinkMsg::Unanswered(attempt));
                return;
            }
        };
        let pace = *pace.borrow();
        tokio::time::sleep(wait.max(pace)).await;
    }
}

/// Asks the manager for what this node needs to know of published ports, as long as the link lasts.
async fn subscribe_all(node: Remote<ToNode>, mut wanted: watch::Receiver<Subscribe>) {
    loop {
        let subscribe = Packed::new(&*wanted.borrow_and_update());
        // A link that has no room has ended, or is about to end; the next one begins with a subscription.
        if node.cast(ToNode::Subscribe(subscribe)).is_err() || wanted.changed().await.is_err() {
            return;
        }
    }
}

/// Renews the lease of tasks that end without a manager, as long as the link lasts and the orders have such tasks.
async fn renew_all(
    node: Remote<ToNode>,
    mut needed: watch::Receiver<bool>,
    link_state: LinkState,
    worker: Address<WorkerMsg>,
    scope: Scope,
) {
    while needed.wait_for(|needed| *needed).await.is_ok() {
        let asked_at = scope.now();
        let said = node.call(ToNode::Renew, RENEW_PATIENCE).await.map(|reply| reply.open());
        let pause = if matches!(said, Ok(Ok(RenewReply::Renewed))) {
            let lapsed = link_state.leased_until() <= asked_at;
            link_state.renew_lease(asked_at);
            if lapsed {
                // The worker begins the tasks that it has held back.
                let _ = worker.cast(WorkerMsg::Leased);
            }
            RENEW_EVERY
        } else {
            RENEW_AGAIN
        };
        tokio::time::sleep(pause).await;
    }
}

/// Whether this state is transient: a task does not stay in it on purpose.
const fn is_passing(state: TaskState) -> bool {
    matches!(state, TaskState::New | TaskState::Accepted | TaskState::Preparing | TaskState::Starting)
}

/// Sends one report. Returns nothing when the manager committed it, else why it has to be sent again.
async fn report(
    node: &Remote<ToNode>,
    observations: &Observations,
    batch: Vec<(TaskId, Observed)>,
    patience: Duration,
) -> Result<Option<String>, CallError> {
    let packed = Packed::new(&Report { tasks: batch.clone() });
    let reply = node.call(|reply| ToNode::Report(packed, reply), patience).await?;
    match reply.open() {
        Ok(ReportReply::Kept) => {
            observations.acknowledge(&batch);
            Ok(None)
        }
        Ok(ReportReply::Again(refusal)) => Ok(Some(refusal.to_string())),
        Err(why) => Ok(Some(why.to_string())),
    }
}
