//! `/n`: the actor at the root of a node's tree.
//!
//! Parent: none. Children: the faces; while the node has a part in a cluster also `endpoint`, `roster`, `worker` and,
//! on a manager, `manager`. Hears: init, join, leave and farewell from its handle; the node's place in the cluster from
//! the uplink, as a manager told it; that the node's certificate changed. Says: the node's standing, to its watchers.
//! Dies: with the daemon. When a child fails too often the root fails, and the daemon ends with an error. The service
//! manager starts the daemon again, which adopts its tasks.

use crate::address::{self, Chosen, Said};
use crate::founding::{Founded, found};
use crate::group::{self, Opening};
use crate::handle::{Handle, Parts, Shared, StartError};
use crate::part::{PLACE, Part, Place, WORKER_FOLDER, internal, is_old_news};
use crate::request::{Farewell, InitRequest, JoinRequest};
use crate::standing::Standing;
use essaim_membership::Goodbye;
use essaim_model::{Change, Refusal, RefusalKind};
use essaim_presence::endpoint::{JoinError, Keep, join};
use essaim_protocol::Standing as Told;
use essaim_store::{OpenError, Start, Store};
use essaim_system::journal::RecordKind;
use essaim_system::supervisor::{Children, Supervision, Wake};
use essaim_system::{Env, Scope};
use essaim_transport::{EnrolError, Identity, JoinToken};
use essaim_wire::{Generation, NodeId, Reachability, Role, decode, encode};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Wait before a disk that refused is tried again: people make room on a full disk, and no machine does it faster.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Time within which a daemon that is restarted is expected back.
const RESTART_WITHIN: Duration = Duration::from_secs(30);

#[derive(RactorMessage)]
pub(crate) enum Msg {
    /// Begin a cluster with this node as its first manager.
    Init(Box<InitRequest>, RpcReplyPort<Result<NodeId, Refusal>>),
    /// Join a cluster.
    Join(Box<JoinRequest>, RpcReplyPort<Result<NodeId, Refusal>>),
    /// Leave the cluster.
    Leave {
        /// Leave even as a manager.
        force: bool,
        /// Answered when the node has left.
        reply: RpcReplyPort<Result<(), Refusal>>,
    },
    /// A manager told this node its place in the cluster.
    Told(Told),
    /// The node presents another certificate.
    Certified,
    /// The list of managers changed.
    Managers(Vec<(NodeId, SocketAddr)>),
    /// The store of this manager has failed and is of no more use.
    StoreFailed(String),
    /// Try again to take up the part in the group that a disk has refused.
    TryAgain,
    /// Record a failure that no request waits for.
    Noted(String),
    /// The daemon ends.
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
    parts: Parts,
    keep: Keep,
    generation: Generation,
    children: Children,
    part: Option<Part>,
    standing: watch::Sender<Standing>,
    /// Why the node's part in the group is not taken up at the moment; it is tried again.
    refused: Option<String>,
    /// Whether a [`Msg::TryAgain`] is on its way.
    tries_again: bool,
    myself: ActorRef<Msg>,
}

impl Root {
    pub(crate) async fn start(env: Env, parts: Parts) -> Result<Handle, StartError> {
        let generation = Keep::new(Arc::clone(&env.disk)).boot()?;
        let scope = Scope::root(&parts.settings.hostname, env);
        let (standing, shown) = watch::channel(Standing::Inactive);
        let shared = Arc::new(Shared {
            scope,
            hostname: parts.settings.hostname.clone(),
            engines: parts.engines.clone(),
            generation,
            standing: shown,
        });
        let arguments = Arguments { parts, shared: Arc::clone(&shared), standing };
        let (root, _) = Actor::spawn(None, Self, arguments).await.map_err(|why| StartError::Actor(why.to_string()))?;
        Ok(Handle { root, shared })
    }
}

impl Actor for Root {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { mut parts, shared, standing } = arguments;
        let (scope, generation) = (shared.scope.clone(), shared.generation);
        let mut children = Children::new(scope.clone(), &myself, Supervision::default(), Msg::Wake);
        scope.journal.enter(&scope.path, "actors/node/src/", Some(myself.get_cell()));
        let handle = Handle { root: myself.clone(), shared };
        for face in std::mem::take(&mut parts.faces) {
            children.start(face(handle.clone())).await?;
        }
        let keep = Keep::new(Arc::clone(&scope.env.disk));
        let (part, refused, tries_again) = (None, None, false);
        let mut state =
            State { scope, parts, keep, generation, children, part, standing, refused, tries_again, myself };
        if let Err(why) = state.resume().await {
            state.break_off(why.text).await?;
        }
        Ok(state)
    }

    async fn handle(&self, _: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Init(request, reply) => {
                let answer = state.init(&request).await;
                if answer.is_err() && !request.force_new_cluster {
                    state.forget_unless_active().await?;
                }
                answered(reply, answer);
            }
            Msg::Join(request, reply) => {
                let answer = state.join(&request).await;
                if answer.is_err() {
                    state.forget_unless_active().await?;
                }
                answered(reply, answer);
            }
            Msg::Leave { force, reply } => answered(reply, state.leave(force).await),
            Msg::Told(told) => state.hear(told).await?,
            Msg::Certified => state.settle().await?,
            Msg::Managers(managers) => state.remember(managers),
            Msg::StoreFailed(why) => state.reopen(&why).await?,
            Msg::TryAgain => state.try_again().await?,
            Msg::Noted(what) => {
                state.scope.record(RecordKind::Note, what);
            }
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

/// Whether the cluster ends with this node.
fn is_last_manager(part: &Part) -> bool {
    let alone = |store: &Store| store.state().managers().all(|node| node.id == part.endpoint.node());
    part.endpoint.role() == Role::Manager && part.store.as_ref().is_none_or(alone)
}

/// The effect on the cluster when this manager leaves, in words.
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

/// Sends an answer; the requester may have gone.
fn answered<T: Send + 'static>(reply: RpcReplyPort<T>, answer: T) {
    let _ = reply.send(answer);
}

impl State {
    /// Takes up the part in a cluster that the files on disk describe.
    async fn resume(&mut self) -> Result<(), Refusal> {
        let Some(identity) = self.keep.identity().map_err(internal)? else { return Ok(()) };
        let place = match self.scope.env.disk.find(PLACE).map_err(internal)? {
            Some(bytes) => decode(&bytes).map_err(|why| internal(format!("the file {PLACE} cannot be read: {why}")))?,
            None => return Err(internal(format!("the file {PLACE} is gone; leave the cluster and join again"))),
        };
        let role = identity.role();
        self.begin(identity, &place).await?;
        let known = Store::known(&group::disk(&self.scope.env)).map_err(internal)?;
        if role == Role::Manager && known.is_some() {
            self.take_up_again().await.map_err(internal)?;
        }
        self.show();
        Ok(())
    }

    async fn init(&mut self, request: &InitRequest) -> Result<NodeId, Refusal> {
        if request.force_new_cluster {
            return self.force().await;
        }
        self.refuse_if_active()?;
        let chosen = self.choose(&request.listen, &request.advertise)?;
        let engine = self.parts.engines.first().map(|engine| engine.kind());
        let engine = engine.ok_or_else(|| internal("this daemon has no engine"))?;
        let Founded { identity, founding } =
            found(&self.scope.env, &self.keep, request, chosen.advertise, self.generation, engine)?;
        let (node, lineage) = (identity.node(), founding.cluster.lineage);
        self.keep.save_identity(&identity).map_err(internal)?;
        let place = self.keep_place(chosen, Vec::new())?;
        self.begin(identity, &place).await?;
        self.take_up(Opening::Start(Start::Found { lineage })).await?;
        let store = self.part.as_ref().and_then(|part| part.store.clone());
        let store = store.ok_or_else(|| internal("the store was not opened"))?;
        store.change(vec![Change::Found(Box::new(founding))], None).await?;
        self.show();
        Ok(node)
    }

    /// Makes a new cluster of this manager alone, with the state that it knows.
    async fn force(&mut self) -> Result<NodeId, Refusal> {
        if Store::known(&group::disk(&self.scope.env)).map_err(internal)?.is_none() {
            let text = "this node has no part in a group of managers: there is nothing to make a new cluster from";
            return Err(Refusal::new(RefusalKind::Precondition, text));
        }
        let Some(part) = &mut self.part else {
            return Err(internal("the node's part in the cluster could not be taken up; see `essaim journal`"));
        };
        part.give_up(&mut self.children).await.map_err(internal)?;
        let node = part.endpoint.node();
        self.take_up(Opening::Force).await?;
        self.show();
        Ok(node)
    }

    async fn join(&mut self, request: &JoinRequest) -> Result<NodeId, Refusal> {
        self.refuse_if_active()?;
        let token: JoinToken = request.token.parse().map_err(|why| Refusal::invalid(format!("{why}")))?;
        if request.remotes.is_empty() {
            return Err(Refusal::invalid("at least one RemoteAddr is required to join"));
        }
        let chosen = self.choose(&request.listen, &request.advertise)?;
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
        let place = self.keep_place(chosen, enrolled.managers)?;
        self.begin(enrolled.identity, &place).await?;
        if let Some(part) = &self.part {
            part.worker.set_availability(request.availability);
        }
        self.show();
        Ok(node)
    }

    async fn leave(&mut self, force: bool) -> Result<(), Refusal> {
        let Some(part) = &self.part else {
            if matches!(*self.standing.borrow(), Standing::Broken(_)) && force {
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
        match farewell {
            Farewell::Stopping => {
                part.worker.halt().await;
                part.roster.goodbye(Goodbye::Stopped).await;
            }
            Farewell::Restarting => part.roster.goodbye(Goodbye::Restarting { within: RESTART_WITHIN }).await,
        }
        self.drop_part().await
    }

    /// Stores the place in the cluster that a manager told this node, unless it is outdated; `settle` acts on it.
    async fn hear(&mut self, told: Told) -> Result<(), ActorProcessingErr> {
        if let Some(part) = &mut self.part {
            let own = match &part.store {
                Some(store) => Some((store.lineage(), store.raft_id())),
                // A store that the disk does not let open still counts: its votes bind this node as much as those of an
                // open store.
                None => Store::known(&group::disk(&self.scope.env))?.map(|known| (known.lineage, known.raft_id)),
            };
            if is_old_news(&told, part.told.as_ref(), own) {
                return Ok(());
            }
            part.told = Some(told);
        }
        self.settle().await
    }

    /// Brings certificate and group in line with the node's place in the cluster: first the certificate, then the
    /// group. Level-triggered: it compares what is with what should be, so it may be called at any time.
    async fn settle(&mut self) -> Result<(), ActorProcessingErr> {
        let Some(part) = &mut self.part else { return Ok(()) };
        let Some(told) = part.told else { return Ok(()) };
        if part.endpoint.role() != told.role {
            part.endpoint.renew(told.role);
        }
        let has = part.store.as_ref().map(|store| (store.lineage(), store.raft_id()));
        let shall = match (part.endpoint.role(), told.role, told.raft_id) {
            (Role::Manager, Role::Manager, Some(raft_id)) => Some((told.lineage, raft_id)),
            // The store stays as it is until the group has decided.
            (_, Role::Manager, _) => has,
            (_, Role::Worker, _) => None,
        };
        if has == shall {
            self.show();
            return Ok(());
        }
        part.give_up(&mut self.children).await?;
        match shall {
            None => Store::wipe(&group::disk(&self.scope.env))?,
            Some((lineage, raft_id)) => {
                let opening = Opening::Start(Start::Join { lineage, raft_id });
                match part.take_up(opening, &self.myself, &mut self.children).await {
                    Ok(()) => self.refused = None,
                    Err(OpenError::Disk(why)) => self.put_off(why.to_string()),
                    Err(why) => {
                        self.scope.record(RecordKind::Raft, format!("cannot take up its part in the group: {why}"));
                    }
                }
            }
        }
        self.show();
        Ok(())
    }

    /// Opens a failed store again: the files on disk are good, or the store says why they are not.
    async fn reopen(&mut self, why: &str) -> Result<(), ActorProcessingErr> {
        let Some(part) = &mut self.part else { return Ok(()) };
        if part.store.is_none() {
            return Ok(());
        }
        self.scope
            .record(RecordKind::Raft, format!("its part in the group of managers failed, and is opened again: {why}"));
        part.give_up(&mut self.children).await?;
        if let Err(why) = self.take_up_again().await {
            return self.break_off(why.to_string()).await;
        }
        self.show();
        Ok(())
    }

    /// Takes up the node's part in the group with the files on disk. A disk that refuses is tried again later, while
    /// the node goes on running tasks. `Err` is final.
    async fn take_up_again(&mut self) -> Result<(), OpenError> {
        let Some(part) = self.part.as_mut().filter(|part| part.store.is_none()) else { return Ok(()) };
        match part.take_up(Opening::Start(Start::Resume), &self.myself, &mut self.children).await {
            Ok(()) => self.refused = None,
            // The node was demoted meanwhile, or the group has not admitted it yet.
            Err(OpenError::Nothing) => (),
            Err(OpenError::Disk(why)) => self.put_off(why.to_string()),
            Err(why) => return Err(why),
        }
        Ok(())
    }

    /// Schedules another try to take up the node's part in the group. Each reason is recorded once.
    fn put_off(&mut self, why: String) {
        if self.refused.as_ref() != Some(&why) {
            let text = format!("its part in the group of managers cannot be taken up, and is tried again: {why}");
            self.scope.record(RecordKind::Raft, text);
        }
        self.refused = Some(why);
        if !std::mem::replace(&mut self.tries_again, true) {
            self.myself.send_after(TRY_AGAIN, || Msg::TryAgain);
        }
    }

    async fn try_again(&mut self) -> Result<(), ActorProcessingErr> {
        self.tries_again = false;
        // The part may have been taken up meanwhile in another way.
        if self.refused.is_none() {
            return Ok(());
        }
        if let Err(why) = self.take_up_again().await {
            return self.break_off(why.to_string()).await;
        }
        self.show();
        // A node without a store on disk takes its place from the last word of a manager.
        self.settle().await
    }

    /// Gives the part in the cluster up for good: the standing says why, every file stays, and tasks keep running.
    async fn break_off(&mut self, why: String) -> Result<(), ActorProcessingErr> {
        self.scope.record(RecordKind::Note, format!("cannot take up its part in the cluster: {why}"));
        self.drop_part().await?;
        self.standing.send_replace(Standing::Broken(why.into()));
        Ok(())
    }

    async fn begin(&mut self, identity: Identity, place: &Place) -> Result<(), Refusal> {
        let part = Part::begin(&self.scope, &self.parts, identity, self.generation, place, &mut self.children).await?;
        part.follow(self.myself.clone());
        self.part = Some(part);
        Ok(())
    }

    async fn take_up(&mut self, opening: Opening) -> Result<(), Refusal> {
        let Some(part) = &mut self.part else { return Ok(()) };
        part.take_up(opening, &self.myself, &mut self.children).await.map_err(internal)
    }

    /// Publishes the node's standing.
    fn show(&self) {
        let standing = match &self.part {
            Some(part) => Standing::Active(Arc::new(part.membership())),
            None => Standing::Inactive,
        };
        self.standing.send_replace(standing);
    }

    fn refuse_if_active(&self) -> Result<(), Refusal> {
        if self.part.is_none() && !matches!(*self.standing.borrow(), Standing::Broken(_)) {
            return Ok(());
        }
        let text = "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join \
                    another one.";
        Err(Refusal::new(RefusalKind::AlreadyInCluster, text))
    }

    fn choose(&self, listen: &str, advertise: &str) -> Result<Chosen, Refusal> {
        let settings = &self.parts.settings;
        let daemon = Said { listen: &settings.listen, advertise: &settings.advertise };
        address::choose(daemon, Said { listen, advertise }, &address::interfaces())
    }

    fn keep_place(&self, chosen: Chosen, managers: Vec<(NodeId, SocketAddr)>) -> Result<Place, Refusal> {
        let place = Place::V1 { listen: chosen.listen, advertise: chosen.advertise, managers };
        self.scope.env.disk.write(PLACE, &encode(&place)).map_err(internal)?;
        Ok(place)
    }

    /// Stores the managers to contact first after a restart.
    fn remember(&self, managers: Vec<(NodeId, SocketAddr)>) {
        if managers.is_empty() || self.part.is_none() {
            return;
        }
        let kept = self.scope.env.disk.find(PLACE).ok().flatten().and_then(|bytes| decode::<Place>(&bytes).ok());
        let Some(Place::V1 { listen, advertise, managers: before }) = kept else { return };
        if before == managers {
            return;
        }
        let place = Place::V1 { listen, advertise, managers };
        if let Err(why) = self.scope.env.disk.write(PLACE, &encode(&place)) {
            self.scope.record(RecordKind::Note, format!("the managers' addresses could not be kept: {why}"));
        }
    }

    /// Stops the part in the cluster; its files stay.
    async fn drop_part(&mut self) -> Result<(), ActorProcessingErr> {
        if let Some(part) = self.part.take() {
            part.end(&mut self.children).await?;
        }
        Ok(())
    }

    /// Stops the part in the cluster, and removes all files of the cluster.
    async fn forget(&mut self) -> Result<(), Refusal> {
        self.drop_part().await.map_err(internal)?;
        Store::wipe(&group::disk(&self.scope.env)).map_err(internal)?;
        self.keep.forget_cluster().map_err(internal)?;
        self.scope.env.disk.remove(PLACE).map_err(internal)?;
        self.scope.env.disk.remove_folder(WORKER_FOLDER).map_err(internal)?;
        self.show();
        Ok(())
    }

    /// Removes what a failed init or join left behind, except the key of the signing request: asking again with it
    /// finds the same node.
    async fn forget_unless_active(&mut self) -> Result<(), ActorProcessingErr> {
        if self.standing.borrow().membership().is_some() || matches!(*self.standing.borrow(), Standing::Broken(_)) {
            return Ok(());
        }
        if self.part.is_some() || self.keep.identity().is_ok_and(|identity| identity.is_some()) {
            self.forget().await?;
        }
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
