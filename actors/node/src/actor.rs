//! `/n`: the actor at the root of a node's tree.
//!
//! Parent: none. Children: the faces; while the node has a part in a cluster also `endpoint`, `roster`, `worker` and,
//! on a manager, `manager`.
//! Hears: init, join, leave and farewell from its handle; the role and the replica that a manager states for this node,
//! and that the node was removed, from the uplink; that the node's certificate changed. Says: the node's standing, to its watchers.
//! Dies: with the daemon. When a child fails too often the root fails, and the daemon ends with an error. The service
//! manager starts the daemon again, which adopts its tasks.

use crate::address::{self, AddressOptions, Chosen};
use crate::core::{Core, Effect, Input, LocalReplica, Replica, Wake as CoreWake};
use crate::examine::Examiner;
use crate::founding::{Founded, found};
use crate::group::{self, Opening};
use crate::handle::{Handle, Parts, Shared, StartError};
use crate::part::{KeptAddressOptions, PLACE, Part, Place, WORKER_FOLDER, internal};
use crate::request::{Farewell, InitRequest, JoinRequest};
use crate::standing::Standing;
use essaim_manager::Control;
use essaim_membership::Goodbye;
use essaim_model::{Change, Network, NetworkSpec, Noun, Refusal, RefusalKind};
use essaim_presence::endpoint::{JoinError, Keep, join};
use essaim_protocol::RoleStatement;
use essaim_store::{OpenError, Start, Store};
use essaim_system::journal::RecordKind;
use essaim_system::supervisor::{Children, Supervision, Wake};
use essaim_system::{Env, Scope, Timer};
use essaim_transport::{EnrolError, Identity, JoinToken};
use essaim_wire::{Generation, NodeId, Reachability, Role, decode, encode};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Time within which a node promises to be back, in its goodbye before a restart.
const RESTART_WITHIN: Duration = Duration::from_secs(30);

#[derive(RactorMessage)]
pub(crate) enum Msg {
    /// Found a cluster with this node as its first manager; with `force_new_cluster`, go on alone from this node's
    /// replica.
    Init(Box<InitRequest>, RpcReplyPort<Result<NodeId, Refusal>>),
    /// Join the cluster that the request names.
    Join(Box<JoinRequest>, RpcReplyPort<Result<NodeId, Refusal>>),
    /// Leave the cluster.
    Leave {
        /// Leave even when this node is a manager.
        force: bool,
        /// Answered when the node has left.
        reply: RpcReplyPort<Result<(), Refusal>>,
    },
    /// A manager stated the role and the replica of this node.
    Stated(RoleStatement),
    /// A manager refused this node, because it was removed from the cluster.
    Removed,
    /// The endpoint uses another certificate.
    Certified,
    /// The list of managers changed.
    Managers(Vec<(NodeId, SocketAddr)>),
    /// The store that was open as this replica has failed and cannot be used any more; the text says why.
    StoreFailed(Replica, String),
    /// A wait that the core armed is over.
    Elapsed(CoreWake),
    /// Take up the part in the cluster again from what is on disk.
    BeginAgain,
    /// The daemon ends, and other members are told so.
    Farewell(Farewell, RpcReplyPort<()>),
    /// The back-off of a child is over.
    Wake(Wake),
}

pub(crate) struct Root;

pub(crate) struct Arguments {
    parts: Parts,
    shared: Arc<Shared>,
    standing: watch::Sender<Standing>,
}

pub(crate) struct State {
    scope: Scope,
    shared: Arc<Shared>,
    parts: Parts,
    keep: Keep,
    generation: Generation,
    children: Children,
    part: Option<Part>,
    core: Core,
    effects: Vec<Effect>,
    /// Fires when a disk that refused a step is tried again.
    timer: Timer,
    standing: watch::Sender<Standing>,
    myself: ActorRef<Msg>,
}

/// Starts a node. When its disk has a part in a cluster, the node takes that part up again.
pub async fn start(env: Env, parts: Parts) -> Result<Handle, StartError> {
    let keep = Keep::new(Arc::clone(&env.disk));
    let generation = keep.boot()?;
    // A certificate that cannot be read is what the root shows next.
    let identity = keep.identity().ok().flatten();
    let begun = identity.map_or(Standing::Inactive, |it| Standing::Pending { node: it.node(), role: it.role() });
    let scope = Scope::root(&parts.settings.hostname, env);
    let (standing, shown) = watch::channel(begun);
    let shared = Arc::new(Shared {
        scope,
        hostname: parts.settings.hostname.clone(),
        engines: parts.engines.clone(),
        machine: Arc::clone(&parts.machine),
        alone: Arc::new(Examiner { machine: Arc::clone(&parts.machine), engines: parts.engines.clone(), part: None }),
        generation: AtomicU64::new(generation.0),
        standing: shown,
    });
    let arguments = Arguments { parts, shared: Arc::clone(&shared), standing };
    let (root, _) = Actor::spawn(None, Root, arguments).await.map_err(|why| match why {
        SpawnErr::StartupFailed(why) => StartError::Actor(why.to_string()),
        other => StartError::Actor(other.to_string()),
    })?;
    Ok(Handle { root, shared })
}

impl Actor for Root {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { mut parts, shared, standing } = arguments;
        let (scope, generation) = (shared.scope.clone(), shared.generation());
        let mut children = Children::new(scope.clone(), &myself, Supervision::default(), Msg::Wake);
        scope.journal.enter(&scope.path, "actors/node/src/", Some(myself.get_cell()));
        let handle = Handle { root: myself.clone(), shared: Arc::clone(&shared) };
        for face in std::mem::take(&mut parts.faces) {
            children.start(face(handle.clone())).await?;
        }
        let keep = Keep::new(Arc::clone(&scope.env.disk));
        let (core, effects, timer, part) = (Core::new(), Vec::new(), Timer::default(), None);
        let mut state =
            State { scope, shared, parts, keep, generation, children, part, core, effects, timer, standing, myself };
        if let Err(why) = state.resume().await? {
            state.break_off(&why.text).await?;
        }
        Ok(state)
    }

    async fn handle(&self, _: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Init(request, reply) => answered(reply, state.init(&request).await?),
            Msg::Join(request, reply) => answered(reply, state.join(&request).await?),
            Msg::Leave { force, reply } => answered(reply, state.leave(force).await),
            Msg::Stated(statement) => state.feed(Input::Stated(statement)).await?,
            Msg::Removed => state.feed(Input::Removed).await?,
            Msg::Certified => {
                if let Some(part) = &state.part {
                    let role = part.endpoint.role();
                    state.feed(Input::Certified(role)).await?;
                }
            }
            Msg::Managers(managers) => state.remember(managers),
            Msg::StoreFailed(replica, why) => state.feed(Input::StoreFailed(replica, why)).await?,
            Msg::Elapsed(wake) => state.feed(Input::Elapsed(wake)).await?,
            Msg::BeginAgain if state.core.is_outside() => {
                if let Err(why) = state.resume().await? {
                    state.break_off(&why.text).await?;
                }
            }
            Msg::BeginAgain => (),
            Msg::Farewell(farewell, reply) => {
                state.farewell(farewell).await?;
                answered(reply, ());
            }
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
        state.children.on_event(event).await?;
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.drop_part().await?;
        state.children.shutdown("the daemon ends").await;
        Ok(())
    }
}

/// Whether no other manager is left in the cluster when this node leaves. A manager whose store is closed is not the last
/// one: the group has released it a moment ago, and its certificate does not say so yet.
fn is_last_manager(part: &Part) -> bool {
    let alone = |store: &Store| store.state().managers().all(|node| node.id == part.endpoint.node());
    part.endpoint.role() == Role::Manager && part.store.as_ref().is_some_and(alone)
}

/// Words for the operator: what the cluster loses when this manager leaves.
fn what_leaving_does(part: &Part) -> String {
    let Some(store) = part.store.as_ref().filter(|_| !is_last_manager(part)) else {
        return "Removing the last manager erases all current state of the swarm.".into();
    };
    let state = store.state();
    let others = || state.managers().filter(|node| node.id != part.endpoint.node());
    let reachable = others().filter(|node| node.reachability == Reachability::Reachable).count();
    let (left, managers) = (others().count(), others().count() + 1);
    let first = format!("Removing this node leaves {left} managers out of {managers}.");
    if reachable * 2 > left {
        return format!("{first} The group of managers lets it go first, and goes on without it.");
    }
    format!(
        "{first} Without a Raft quorum your swarm will be inaccessible: {reachable} of these can be reached. The only way \
         to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`."
    )
}

/// Sends an answer; the requester may have gone, and then the answer is dropped.
fn answered<T: Send + 'static>(reply: RpcReplyPort<T>, answer: T) {
    let _ = reply.send(answer);
}

impl State {
    /// Takes up the part in a cluster that is on disk, if there is one. The inner error is one that only an operator
    /// can mend.
    async fn resume(&mut self) -> Result<Result<(), Refusal>, ActorProcessingErr> {
        match self.begin_again().await {
            Ok(None) => Ok(Ok(())),
            Ok(Some(certificate)) => self.feed(Input::Certified(certificate)).await.map(Ok),
            Err(why) => Ok(Err(why)),
        }
    }

    /// Begins the part in a cluster that is on disk. Returns the role of its certificate; `None` when there is none.
    async fn begin_again(&mut self) -> Result<Option<Role>, Refusal> {
        let Some(identity) = self.keep.identity().map_err(internal)? else { return Ok(None) };
        let place = match self.scope.env.disk.find(PLACE).map_err(internal)? {
            Some(bytes) => decode(&bytes).map_err(|why| internal(format!("the file {PLACE} cannot be read: {why}")))?,
            None => return Err(internal(format!("the file {PLACE} is gone; leave the cluster and join again"))),
        };
        let place = self.choose_again(place)?;
        let role = identity.role();
        let known = Store::known(&group::disk(&self.scope.env)).map_err(internal)?;
        let held = known.map_or(LocalReplica::Nothing, |known| {
            LocalReplica::Closed(Replica { lineage: known.lineage, raft_id: known.raft_id })
        });
        self.begin(identity, &place, held).await?;
        Ok(Some(role))
    }

    async fn init(&mut self, request: &InitRequest) -> Result<Result<NodeId, Refusal>, ActorProcessingErr> {
        if request.force_new_cluster {
            return self.force().await;
        }
        if let Err(refusal) = self.refuse_if_active() {
            return Ok(Err(refusal));
        }
        let begun = self.found(request).await;
        self.show_or_forget(begun).await
    }

    /// Founds a cluster and begins this node's part in it.
    async fn found(&mut self, request: &InitRequest) -> Result<NodeId, Refusal> {
        let chosen = self.choose(&request.listen, &request.advertise)?;
        let engine = self.parts.engines.first().map(|engine| engine.kind());
        let engine = engine.ok_or_else(|| internal("this daemon has no engine"))?;
        let Founded { identity, founding } =
            found(&self.scope.env, &self.keep, request, chosen.advertise, self.generation, engine)?;
        let (node, lineage) = (identity.node(), founding.cluster.lineage);
        self.keep.save_identity(&identity).map_err(internal)?;
        let place = self.keep_place(chosen, Vec::new(), (&request.listen, &request.advertise))?;
        self.begin(identity, &place, LocalReplica::Nothing).await?;
        let Some(part) = &mut self.part else { return Err(internal("the node's part was not begun")) };
        let opening = Opening::Start(Start::Found { lineage });
        let replica = part.open_store(opening, &self.myself, &mut self.children).await.map_err(internal)?;
        let store = part.store.clone().ok_or_else(|| internal("the store was not opened"))?;
        store.change(vec![Change::Found(Box::new(founding))], None).await?;
        if let Some(ingress) = NetworkSpec::of_ingress().filter(|_| self.scope.env.build.level >= Network::LEVEL) {
            Control::new(store, part.endpoint.clone(), self.scope.clone()).create_network(ingress).await?;
        }
        // The part is shown only here, when the founding is committed: before it, the state has no cluster to show.
        self.feed(Input::Opened(replica)).await.map_err(internal)?;
        Ok(node)
    }

    /// Shows a part that has begun, or removes what an init or a join that failed left on disk. The signing key is kept
    /// when no certificate came, so that the next request enrols the same node.
    async fn show_or_forget(
        &mut self,
        begun: Result<NodeId, Refusal>,
    ) -> Result<Result<NodeId, Refusal>, ActorProcessingErr> {
        if begun.is_ok() {
            self.show();
        } else if self.part.is_some() || self.keep.identity().is_ok_and(|identity| identity.is_some()) {
            self.forget().await?;
        }
        Ok(begun)
    }

    /// Makes a new cluster of this manager alone, with the state of its replica.
    async fn force(&mut self) -> Result<Result<NodeId, Refusal>, ActorProcessingErr> {
        match Store::known(&group::disk(&self.scope.env)) {
            Ok(Some(_)) => (),
            Ok(None) => {
                let text = "this node has no part in a group of managers: there is nothing to make a new cluster from";
                return Ok(Err(Refusal::new(RefusalKind::Precondition, text)));
            }
            Err(why) => return Ok(Err(internal(why))),
        }
        let Some(part) = &mut self.part else {
            return Ok(Err(internal("the node's part in the cluster could not be taken up; see `essaim journal`")));
        };
        part.close_store(&mut self.children).await?;
        let node = part.endpoint.node();
        match part.open_store(Opening::Force, &self.myself, &mut self.children).await {
            Ok(replica) => {
                self.feed(Input::Forced(replica)).await?;
                Ok(Ok(node))
            }
            Err(why) => {
                // The earlier history is still on disk, and the core opens it again.
                self.feed(Input::Closed).await?;
                Ok(Err(internal(why)))
            }
        }
    }

    async fn join(&mut self, request: &JoinRequest) -> Result<Result<NodeId, Refusal>, ActorProcessingErr> {
        if let Err(refusal) = self.refuse_if_active() {
            return Ok(Err(refusal));
        }
        let begun = self.enrol(request).await;
        self.show_or_forget(begun).await
    }

    /// Asks the remotes for a certificate, and begins this node's part in the cluster that signed it.
    async fn enrol(&mut self, request: &JoinRequest) -> Result<NodeId, Refusal> {
        let token: JoinToken = request.token.parse().map_err(|why| Refusal::invalid(format!("{why}")))?;
        if request.remotes.is_empty() {
            return Err(Refusal::invalid("at least one RemoteAddr is required to join"));
        }
        let chosen = self.choose(&request.listen, &request.advertise)?;
        // Asked first: a cluster that has signed a certificate has recorded the node, and would wait for it in vain.
        if let Err(why) = self.scope.env.network.is_free(chosen.listen) {
            let next = "stop the program that has the port, or choose another address with --listen-addr";
            let words = format!("cannot listen on {}: {why}; {next}", chosen.listen);
            return Err(Refusal::new(RefusalKind::Precondition, words));
        }
        let mut refused = None;
        let mut enrolled = None;
        for remote in &request.remotes {
            let addr = resolve(remote).await?;
            match join(&self.scope.env, &self.keep, chosen.listen, addr, &token).await {
                Ok(joined) => {
                    enrolled = Some((joined, addr));
                    break;
                }
                Err(why) => refused = Some(why),
            }
        }
        let Some((enrolled, _)) = enrolled else {
            return Err(refused.map_or_else(|| internal("nobody was asked"), refuse_join));
        };
        let node = enrolled.identity.node();
        let place = self.keep_place(chosen, enrolled.managers, (&request.listen, &request.advertise))?;
        self.begin(enrolled.identity, &place, LocalReplica::Nothing).await?;
        if let Some(part) = &self.part {
            part.worker.set_availability(request.availability);
        }
        Ok(node)
    }

    async fn leave(&mut self, force: bool) -> Result<(), Refusal> {
        let Some(part) = &self.part else {
            if self.core.broken().is_some() && force {
                return self.forget().await;
            }
            return Err(Refusal::new(RefusalKind::NotManager, "This node is not part of a swarm"));
        };
        if part.endpoint.role() == Role::Manager && !force {
            let text = format!(
                "You are attempting to leave the swarm on a node that is participating as a manager. {} Use `--force` to \
                 ignore this message. ",
                what_leaving_does(part)
            );
            return Err(Refusal::new(RefusalKind::NotManager, text));
        }
        part.worker.clear().await;
        if !is_last_manager(part)
            && let Err(why) = part.worker.depart().await
        {
            let words = format!("no manager has kept that this node leaves, and they will take it for lost: {why}");
            self.scope.record(RecordKind::Node, words);
        }
        part.roster.goodbye(Goodbye::Leaving).await;
        self.forget().await
    }

    async fn farewell(&mut self, farewell: Farewell) -> Result<(), ActorProcessingErr> {
        let Some(part) = &self.part else { return Ok(()) };
        self.core.end();
        match farewell {
            Farewell::Stopping => {
                part.worker.halt().await;
                part.roster.goodbye(Goodbye::Stopped).await;
            }
            Farewell::Restarting => part.roster.goodbye(Goodbye::Restarting { within: RESTART_WITHIN }).await,
        }
        self.drop_part().await
    }

    /// Hands an input to the core and carries out its effects, until no step is due.
    async fn feed(&mut self, input: Input) -> Result<(), ActorProcessingErr> {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            self.core.handle(input, &mut self.effects);
            for effect in std::mem::take(&mut self.effects) {
                next = self.perform(effect).await?.or(next);
            }
        }
        Ok(())
    }

    /// Carries out an effect. Returns the outcome of a step as the next input; other effects have none.
    async fn perform(&mut self, effect: Effect) -> Result<Option<Input>, ActorProcessingErr> {
        let outcome = match effect {
            Effect::Certify(role) => {
                if let Some(part) = &self.part {
                    part.endpoint.renew(role);
                }
                None
            }
            Effect::Resume => Some(self.open_store(Start::Resume).await),
            Effect::Join(Replica { lineage, raft_id }) => Some(self.open_store(Start::Join { lineage, raft_id }).await),
            Effect::Close => {
                if let Some(part) = &mut self.part {
                    part.close_store(&mut self.children).await?;
                }
                Some(Input::Closed)
            }
            Effect::Wipe => Some(match Store::wipe(&group::disk(&self.scope.env)) {
                Ok(()) => Input::Wiped,
                Err(why) => Input::DiskRefused(why.to_string()),
            }),
            Effect::WakeAfter(after, wake) => {
                self.timer.arm(&self.myself, after, move || Msg::Elapsed(wake));
                None
            }
            Effect::Record(words) => {
                self.scope.record(RecordKind::Raft, words);
                None
            }
            Effect::BreakOff(why) => {
                self.break_off(&why).await?;
                None
            }
            Effect::Expel => {
                self.expel().await?;
                None
            }
            Effect::StartAnew(generation) => {
                self.start_anew(generation).await?;
                None
            }
            Effect::Show => {
                self.show();
                None
            }
        };
        Ok(outcome)
    }

    /// Stops the node's part and begins it again as start number `generation` of the daemon.
    async fn start_anew(&mut self, generation: Generation) -> Result<(), ActorProcessingErr> {
        if let Err(why) = self.keep.boot_as(generation) {
            // The manager states the later start again on the next link, and the node tries again.
            self.scope.record(RecordKind::Note, format!("cannot count its starts from there: {why}"));
            return Ok(());
        }
        self.generation = generation;
        self.shared.generation.store(generation.0, Ordering::Relaxed);
        self.drop_part().await?;
        self.core.end();
        // The part begins by a message, because the ends of the stopped children are handled before any message.
        let _ = self.myself.cast(Msg::BeginAgain);
        Ok(())
    }

    async fn open_store(&mut self, start: Start) -> Input {
        let Some(part) = &mut self.part else { return Input::Missing };
        match part.open_store(Opening::Start(start), &self.myself, &mut self.children).await {
            Ok(replica) => Input::Opened(replica),
            // The folder is empty: the node was demoted meanwhile, or the group has not admitted it yet.
            Err(OpenError::Nothing) => Input::Missing,
            Err(OpenError::Disk(why)) => Input::DiskRefused(why.to_string()),
            Err(why) => Input::Unusable(why.to_string()),
        }
    }

    /// Gives up the part in the cluster until an operator acts: shows the reason, and keeps every file. Running tasks
    /// go on.
    async fn break_off(&mut self, why: &str) -> Result<(), ActorProcessingErr> {
        self.scope.record(RecordKind::Note, format!("cannot take up its part in the cluster: {why}"));
        self.drop_part().await?;
        self.core.break_off(why);
        self.show();
        Ok(())
    }

    /// Ends the tasks and the part in the cluster of a node that was removed from it. The reason is shown first, because
    /// tasks may take their grace to end.
    async fn expel(&mut self) -> Result<(), ActorProcessingErr> {
        self.show();
        if let Some(part) = &self.part {
            part.worker.clear().await;
        }
        self.drop_part().await
    }

    async fn begin(&mut self, identity: Identity, place: &Place, held: LocalReplica) -> Result<(), Refusal> {
        let role = identity.role();
        let part = Part::begin(&self.scope, &self.parts, identity, self.generation, place, &mut self.children).await?;
        part.follow(self.myself.clone());
        self.core.begin(self.generation, role, held);
        self.part = Some(part);
        Ok(())
    }

    /// Publishes the node's standing to those who watch it.
    fn show(&self) {
        let standing = match (self.core.broken(), &self.part) {
            (Some(why), _) => Standing::Broken(Arc::clone(why)),
            (None, Some(part)) => Standing::Active(Arc::new(part.membership())),
            (None, None) => Standing::Inactive,
        };
        self.standing.send_replace(standing);
    }

    fn refuse_if_active(&self) -> Result<(), Refusal> {
        if self.core.is_outside() {
            return Ok(());
        }
        let text = "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join \
                    another one.";
        Err(Refusal::new(RefusalKind::AlreadyInCluster, text))
    }

    fn flags(&self) -> AddressOptions<'_> {
        let settings = &self.parts.settings;
        AddressOptions { listen: &settings.listen, advertise: &settings.advertise }
    }

    fn choose(&self, listen: &str, advertise: &str) -> Result<Chosen, Refusal> {
        address::choose(self.flags(), AddressOptions { listen, advertise }, &address::interfaces())
    }

    /// The place, with the addresses that the daemon's flags and the machine's interfaces give now.
    fn choose_again(&self, place: Place) -> Result<Place, Refusal> {
        let Place::V1 { listen, advertise, managers, flags, request } = place;
        let (then, kept) = ((flags.as_options(), request.as_options()), Chosen { listen, advertise });
        let chosen = address::choose_again(self.flags(), then, kept, &address::interfaces())?;
        if chosen != kept {
            let words = format!("listens on {}, and tells others {}", chosen.listen, chosen.advertise);
            self.scope.record(RecordKind::Note, words);
        }
        Ok(Place::V1 { listen: chosen.listen, advertise: chosen.advertise, managers, flags, request })
    }

    fn keep_place(
        &self,
        chosen: Chosen,
        managers: Vec<(NodeId, SocketAddr)>,
        (listen, advertise): (&str, &str),
    ) -> Result<Place, Refusal> {
        let flags = self.flags();
        let kept =
            |it: AddressOptions<'_>| KeptAddressOptions { listen: it.listen.into(), advertise: it.advertise.into() };
        let place = Place::V1 {
            listen: chosen.listen,
            advertise: chosen.advertise,
            managers,
            flags: kept(flags),
            request: kept(AddressOptions { listen, advertise }),
        };
        self.scope.env.disk.write(PLACE, &encode(&place)).map_err(internal)?;
        Ok(place)
    }

    /// Stores the managers' addresses, which the node dials first after a restart.
    fn remember(&self, now: Vec<(NodeId, SocketAddr)>) {
        if now.is_empty() || self.part.is_none() {
            return;
        }
        let kept = self.scope.env.disk.find(PLACE).ok().flatten().and_then(|bytes| decode::<Place>(&bytes).ok());
        let Some(Place::V1 { listen, advertise, managers, flags, request }) = kept else { return };
        if managers == now {
            return;
        }
        let place = Place::V1 { listen, advertise, managers: now, flags, request };
        if let Err(why) = self.scope.env.disk.write(PLACE, &encode(&place)) {
            self.scope.record(RecordKind::Note, format!("the managers' addresses could not be kept: {why}"));
        }
    }

    /// Stops the part in the cluster, and keeps its files.
    async fn drop_part(&mut self) -> Result<(), ActorProcessingErr> {
        if let Some(part) = self.part.take() {
            part.end(&mut self.children).await?;
        }
        Ok(())
    }

    /// Stops the part in the cluster, and removes all files of the cluster.
    async fn forget(&mut self) -> Result<(), Refusal> {
        self.drop_part().await.map_err(internal)?;
        self.core.end();
        Store::wipe(&group::disk(&self.scope.env)).map_err(internal)?;
        self.keep.forget_cluster().map_err(internal)?;
        self.scope.env.disk.remove(PLACE).map_err(internal)?;
        self.scope.env.disk.remove_folder(WORKER_FOLDER).map_err(internal)?;
        self.show();
        Ok(())
    }
}

async fn resolve(remote: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(addr) = remote.parse() {
        return Ok(addr);
    }
    if let Ok(addr) = remote.parse() {
        return Ok(SocketAddr::new(addr, address::PORT));
    }
    let with_port = if remote.contains(':') { remote.to_owned() } else { format!("{remote}:{}", address::PORT) };
    let invalid = |why: String| Refusal::invalid(format!("invalid address {remote:?} to join: {why}"));
    let mut found = tokio::net::lookup_host(&with_port).await.map_err(|why| invalid(why.to_string()))?;
    found.next().ok_or_else(|| invalid("it has no address".into()))
}

fn refuse_join(why: JoinError) -> Refusal {
    let kind = match &why {
        JoinError::Enrol(EnrolError::Refused(_)) => RefusalKind::Denied,
        JoinError::Enrol(_) => RefusalKind::Unknown,
        JoinError::Trust(_) | JoinError::Keep(_) => RefusalKind::Internal,
    };
    Refusal::new(kind, why.to_string())
}
