//! An actor that has children and nothing else.
//!
//! Parent: whoever starts it. Children: the specs it is given, in their order, and those added later.
//! Hears: `Add`, `Remove`, `Names`, `Wake`. Says: nothing.
//! Dies: when its children fail too often, after it stopped them in order; its own supervisor then decides.

use super::children::{Children, Escalated};
use super::core::{Supervision, Wake};
use super::spec::ChildSpec;
use crate::scope::Scope;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::fmt;

/// What a [`Supervisor`] hears.
#[derive(RactorMessage)]
pub enum SupervisorMsg {
    /// A child is wanted from now on; nothing happens when there is one of this name.
    Add(ChildSpec),
    /// A child is not wanted any more.
    Remove(String),
    /// The names of all children, in the order in which they were started.
    Names(RpcReplyPort<Vec<String>>),
    /// A delay is over.
    Wake(Wake),
}

/// The actor.
#[derive(Debug)]
pub struct Supervisor;

/// What a [`Supervisor`] starts with.
pub struct SupervisorArgs {
    /// Where it stands.
    pub scope: Scope,
    /// Strategy, intensity, back-off.
    pub plan: Supervision,
    /// Its first children; it does not come up when one of them does not.
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
