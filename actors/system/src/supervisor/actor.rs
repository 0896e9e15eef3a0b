//! A plain supervisor: an actor that has children and does nothing else.
//!
//! Parent: the actor that starts it. Children: the specs it is given, in their order, and those added later. Hears:
//! `Add`, `Remove`, `Names`, `Wake`. Says: nothing. Dies: when its children fail more often than its restart intensity
//! allows, after it stopped them in order; its own supervisor then decides.

use super::children::{Children, Escalated};
use super::core::{Supervision, Wake};
use super::spec::ChildSpec;
use crate::scope::Scope;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::fmt;

/// Messages to a [`Supervisor`].
#[derive(RactorMessage)]
pub enum SupervisorMsg {
    /// Start this child and keep it running. Ignored when a child of the same name exists.
    Add(ChildSpec),
    /// Stop the child of this name and do not start it again.
    Remove(String),
    /// Answer with the names of all children, in the order in which they were started.
    Names(RpcReplyPort<Vec<String>>),
    /// A back-off delay has passed; the restart that waited for it is due.
    Wake(Wake),
}

/// A plain supervisor, as an actor type for `ChildSpec`.
#[derive(Debug)]
pub struct Supervisor;

/// Arguments that a [`Supervisor`] is started with.
pub struct SupervisorArgs {
    /// The supervisor's own scope; its children's scopes are below it.
    pub scope: Scope,
    /// Restart strategy, restart intensity and back-off.
    pub plan: Supervision,
    /// Children started in `pre_start`, in this order. The supervisor fails to start when one of them does.
    pub children: Vec<ChildSpec>,
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = Children;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        args: SupervisorArgs,
    ) -> Result<Children, ActorProcessingErr> {
        let mut children = Children::new(args.scope, &myself, args.plan, SupervisorMsg::Wake);
        for spec in args.children {
            if let Err(error) = children.start(spec).await {
                children.shutdown("stopped, because a sibling could not be started").await;
                return Err(error.into());
            }
        }
        Ok(children)
    }

    async fn handle(
        &self,
        _: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Add(spec) => children.add(spec).await?,
            SupervisorMsg::Remove(name) => children.remove(&name).await?,
            SupervisorMsg::Names(reply) => {
                let _ = reply.send(children.names().map(str::to_owned).collect());
            }
            SupervisorMsg::Wake(wake) => children.on_wake(wake).await?,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        children.on_event(event).await.map(drop).map_err(Escalated::into)
    }

    async fn post_stop(&self, _: ActorRef<SupervisorMsg>, children: &mut Children) -> Result<(), ActorProcessingErr> {
        children.shutdown("stopped with its parent").await;
        Ok(())
    }
}

impl fmt::Debug for SupervisorArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorArgs")
            .field("plan", &self.plan)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}
