//! `…/manager/leader`: the actor that follows the applied entries and notifies the actors that they concern.
//!
//! Parent: `manager`, while it leads. Children: `liveness`, `scheduler`, `roles`, `authority`, `reaper`, and one
//! `service.X` for each service of the state.
//! Hears: that an entry was applied, that the brake released other nodes than before. Says: notifications.
//! Dies: when its children failed too often; `manager` starts it again, or gives leadership away.

use super::authority::AuthorityActor;
use super::context::{Context, EndedSlots};
use super::liveness::LivenessActor;
use super::reaper::ReaperActor;
use super::roles::RolesActor;
use super::scheduler::SchedulerActor;
use super::service::{self, ServiceActor};
use crate::ManagerArguments;
use crate::ballots::BallotBox;
use crate::feed::{Feed, Subscription};
use essaim_model::{Event, Node, Service, ServiceId};
use essaim_store::Advance;
use essaim_system::journal::RecordKind;
use essaim_system::supervisor::{Children, Supervision, Wake};
use essaim_system::{ChildSpec, Notifier, Scope};
use essaim_wire::Term;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The actor at the root of the leader's tree.
pub(super) struct Leader;

/// Arguments of [`Leader`].
pub(super) struct Arguments {
    pub(super) scope: Scope,
    pub(super) manager: ManagerArguments,
    pub(super) ballots: BallotBox,
    pub(super) feed: Feed,
    pub(super) term: Term,
}

/// Messages to [`Leader`].
#[derive(RactorMessage)]
pub(super) enum Msg {
    /// The store applied an entry of the log.
    Look,
    /// The set of released nodes changed, so every service looks at its slots.
    Released,
    /// The back-off of a child is over.
    Wake(Wake),
}

/// State of [`Leader`].
pub(super) struct State {
    context: Arc<Context>,
    children: Children,
    services: BTreeMap<ServiceId, Watched>,
    node_sensitive: NodeSensitive,
    _subscription: Subscription,
}

/// A service with a running actor.
struct Watched {
    name: String,
    notifier: Notifier<service::Msg>,
}

impl Actor for Leader {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { scope, manager, ballots, feed, term } = arguments;
        let context = Arc::new(Context::new(&manager, ballots, feed, term));
        context.leader.address().set(myself.clone());
        let children = Children::new(scope.clone(), &myself, Supervision::default(), Msg::Wake);
        let (cluster, subscription) = context.feed.subscribe(&context.leader);
        let (services, node_sensitive) = (BTreeMap::new(), NodeSensitive::default());
        let mut state = State { context, children, services, node_sensitive, _subscription: subscription };
        if let Err(why) = state.start_children(&cluster).await {
            state.children.shutdown("stopped, because a sibling could not be started").await;
            return Err(why);
        }
        scope.record(RecordKind::Raft, format!("leads in term {}", term.0));
        Ok(state)
    }

    async fn handle(&self, _: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Look => state.follow().await?,
            Msg::Released => state.services.values().for_each(|watched| watched.notifier.notify()),
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
        state.children.shutdown("this manager no longer leads").await;
        Ok(())
    }
}

impl State {
    async fn start_children(&mut self, cluster: &essaim_model::State) -> Result<(), ActorProcessingErr> {
        let shared = || Arc::clone(&self.context);
        let (liveness, scheduler, roles, authority, reaper) = (shared(), shared(), shared(), shared(), shared());
        let context = &self.context;
        let specs = [
            ChildSpec::actor_at(context.liveness.address(), "liveness", move |scope| {
                (LivenessActor, (scope, Arc::clone(&liveness)))
            }),
            ChildSpec::actor_at(context.scheduler.address(), "scheduler", move |scope| {
                (SchedulerActor, (scope, Arc::clone(&scheduler)))
            }),
            ChildSpec::actor_at(context.roles.address(), "roles", move |scope| {
                (RolesActor, (scope, Arc::clone(&roles)))
            }),
            ChildSpec::actor("authority", move |scope| (AuthorityActor, (scope, Arc::clone(&authority)))),
            ChildSpec::actor_at(context.reaper.address(), "reaper", move |scope| {
                (ReaperActor, (scope, Arc::clone(&reaper)))
            }),
        ];
        for spec in specs {
            self.children.start(spec).await?;
        }
        for service in cluster.services() {
            self.watch(service).await?;
        }
        Ok(())
    }

    /// Starts the actor of a service.
    async fn watch(&mut self, service: &Service) -> Result<(), ActorProcessingErr> {
        let id = service.id;
        self.node_sensitive.set(service);
        if self.services.contains_key(&id) {
            return Ok(());
        }
        let name = format!("service.{}", service.spec.name.as_str());
        let notifier = Notifier::new(|| service::Msg::Look);
        let (context, own) = (Arc::clone(&self.context), notifier.clone());
        let spec = ChildSpec::actor_at(notifier.address(), name.clone(), move |scope| {
            (ServiceActor, service::Arguments { scope, context: Arc::clone(&context), id, notifier: own.clone() })
        });
        self.services.insert(id, Watched { name, notifier });
        self.children.add(spec).await?;
        Ok(())
    }

    async fn unwatch(&mut self, id: ServiceId) -> Result<(), ActorProcessingErr> {
        self.node_sensitive.remove(id);
        if let Some(watched) = self.services.remove(&id) {
            self.children.remove(&watched.name).await?;
        }
        Ok(())
    }

    /// Takes the events since the last look, and notifies each actor that they concern once.
    async fn follow(&mut self) -> Result<(), ActorProcessingErr> {
        let Some(Advance { state: cluster, events, .. }) = self.context.leader.take() else { return Ok(()) };
        let concerned = match events {
            Some(events) => self.concerned(&cluster, &events).await?,
            None => self.everybody(&cluster).await?,
        };
        concerned.notify(&self.context, &self.services);
        Ok(())
    }

    async fn concerned(
        &mut self,
        cluster: &essaim_model::State,
        events: &[Event],
    ) -> Result<Concerned, ActorProcessingErr> {
        let mut concerned = Concerned::default();
        for event in events {
            match event {
                Event::Service { old: None, new: Some(new) } => self.watch(new).await?,
                Event::Service { old: Some(old), new: None } => self.unwatch(old.id).await?,
                Event::Service { new: Some(new), .. } => {
                    self.node_sensitive.set(new);
                    concerned.add(event, cluster);
                }
                _ => concerned.add(event, cluster),
            }
        }
        concerned.add_node_sensitive(&self.node_sensitive);
        Ok(concerned)
    }

    /// Returns every actor of the tree: events were dropped because too many had gathered, so anything may have
    /// changed.
    async fn everybody(&mut self, cluster: &essaim_model::State) -> Result<Concerned, ActorProcessingErr> {
        let gone: Vec<_> = self.services.keys().filter(|id| cluster.service(**id).is_none()).copied().collect();
        for id in gone {
            self.unwatch(id).await?;
        }
        for service in cluster.services() {
            self.watch(service).await?;
        }
        let services: BTreeSet<_> = self.services.keys().copied().collect();
        let ended = EndedSlots { everything: true, ..EndedSlots::default() };
        Ok(Concerned { services, nodes: true, places: false, ended })
    }
}

/// The services that a change of any node concerns, as an index, because a cluster may have thousands of services and few
/// of them are such: global services and jobs, and services that are rebalanced.
#[derive(Debug, Default)]
pub(super) struct NodeSensitive(BTreeSet<ServiceId>);

impl NodeSensitive {
    /// Notes a new service, or one with another spec.
    pub(super) fn set(&mut self, service: &Service) {
        if service.spec.mode.is_per_node() || service.spec.rebalance_pause().is_some() {
            self.0.insert(service.id);
        } else {
            self.0.remove(&service.id);
        }
    }

    fn remove(&mut self, id: ServiceId) {
        self.0.remove(&id);
    }
}

/// The actors that some events concern, and that are to be notified.
#[derive(Default)]
pub(super) struct Concerned {
    pub(super) services: BTreeSet<ServiceId>,
    /// Nodes or the cluster's settings changed, which concerns `liveness`, `roles` and `reaper`.
    nodes: bool,
    /// A node changed in what services look at.
    places: bool,
    /// The slots in which tasks ended, for `reaper`.
    ended: EndedSlots,
}

impl Concerned {
    pub(super) fn add(&mut self, event: &Event, cluster: &essaim_model::State) {
        match event {
            Event::Service { new, .. } => self.services.extend(new.iter().map(|service| service.id)),
            Event::Task { old, new } => {
                self.services.extend(old.iter().chain(new).map(|task| task.service));
                let ended = new.iter().filter(|task| task.has_ended());
                self.ended.slots.extend(ended.map(|task| (task.service, task.slot)));
            }
            Event::Node { old, new } => {
                self.nodes = true;
                if old.as_ref().zip(new.as_ref()).is_none_or(|(old, new)| is_news(old, new)) {
                    self.places = true;
                    let node = old.iter().chain(new).map(|node| node.id).next();
                    let there = node.into_iter().flat_map(|node| cluster.tasks_on(node));
                    self.services.extend(there.map(|task| task.service));
                }
            }
            Event::Cluster { .. } => {
                self.nodes = true;
                self.services.extend(cluster.services().map(|service| service.id));
                self.ended.everything = true;
            }
            // No service uses an object yet.
            Event::Object { .. } => (),
        }
    }

    /// Adds the services that any node concerns if a node changed: once for all events, however many nodes changed.
    pub(super) fn add_node_sensitive(&mut self, services: &NodeSensitive) {
        if self.places {
            self.services.extend(&services.0);
        }
    }

    fn notify(&self, context: &Context, services: &BTreeMap<ServiceId, Watched>) {
        self.services.iter().filter_map(|id| services.get(id)).for_each(|watched| watched.notifier.notify());
        if self.nodes {
            context.liveness.notify();
            context.roles.notify();
        }
        if self.nodes || self.ended.everything || !self.ended.slots.is_empty() {
            context.reaper.merge(|ended| {
                ended.slots.extend(&self.ended.slots);
                ended.everything |= self.ended.everything;
            });
        }
    }
}

/// Whether any field of the node that a service looks at has changed.
fn is_news(old: &Node, new: &Node) -> bool {
    (&old.spec, old.role, old.reachability, old.unsteady, old.departure, old.level, &old.description)
        != (&new.spec, new.role, new.reachability, new.unsteady, new.departure, new.level, &new.description)
}
