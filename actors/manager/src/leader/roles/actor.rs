//! `…/leader/roles`: the actor that takes the steps of promotions and demotions, and raises the level of the cluster.
//!
//! Parent: `leader`. Children: none.
//! Hears: that nodes changed (one notification at most), that a step was taken or failed. Says: proposals and changes of
//! the group to the store.
//! Dies: with `leader`. Its successor reads from the state whether an interrupted step was taken.

use super::core::{Step, due, level_due};
use crate::leader::context::{Context, Errand};
use essaim_model::{Change, Refusal};
use essaim_system::Scope;
use essaim_system::journal::RecordKind;
use essaim_wire::NodeId;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Wait after a step that failed: the node may not be up yet.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The actor that promotes and demotes nodes.
pub(in crate::leader) struct RolesActor;

/// Messages to [`RolesActor`].
#[derive(RactorMessage)]
pub(in crate::leader) enum Msg {
    /// Nodes changed.
    Look,
    /// A step of this node was taken, or failed.
    Stepped(NodeId, Result<(), Refusal>),
    /// The proposal that raises the cluster's level was committed, or failed.
    Raised(Result<(), Refusal>),
}

/// State of [`RolesActor`].
pub(in crate::leader) struct State {
    scope: Scope,
    context: Arc<Context>,
    /// Steps under way, one for each node at most.
    steps: BTreeMap<NodeId, Errand>,
    /// Why the last step of a node failed, so that each reason is recorded once.
    troubles: BTreeMap<NodeId, String>,
    /// The proposal that raises the level, while it is under way.
    raising: Option<Errand>,
}

impl Actor for RolesActor {
    type Msg = Msg;
    type State = State;
    type Arguments = (Scope, Arc<Context>);

    async fn pre_start(
        &self,
        _: ActorRef<Msg>,
        (scope, context): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { scope, context, steps: BTreeMap::new(), troubles: BTreeMap::new(), raising: None })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.look(&myself);
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Look => state.look(&myself),
            Msg::Stepped(node, Ok(())) => {
                state.steps.remove(&node);
                state.troubles.remove(&node);
                state.look(&myself);
            }
            Msg::Stepped(node, Err(refusal)) => {
                state.steps.remove(&node);
                state.trouble(node, refusal.to_string());
                state.look(&myself);
            }
            Msg::Raised(raised) => {
                state.raising = None;
                if let Err(refusal) = raised {
                    state
                        .scope
                        .record(RecordKind::Raft, format!("the level of the cluster was not raised yet: {refusal}"));
                }
                state.look(&myself);
            }
        }
        Ok(())
    }
}

impl State {
    fn look(&mut self, myself: &ActorRef<Msg>) {
        self.context.roles.take();
        let store = &self.context.store;
        if self.raising.is_none()
            && let Some(level) = level_due(&store.state(), &store.status().members)
        {
            let (context, scope, myself) = (Arc::clone(&self.context), self.scope.clone(), myself.clone());
            self.raising = Some(Errand::run(async move {
                let raised = context.propose(vec![Change::RaiseLevel(level)]).await.map(|_| {
                    let words = format!("the level of the cluster is {level} now: every manager understands it");
                    scope.record(RecordKind::Raft, words);
                });
                if raised.is_err() {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                // The cast fails only when the actor has ended, and then no answer is needed.
                let _ = myself.cast(Msg::Raised(raised));
            }));
        }
        for step in due(&store.state(), &store.status().members) {
            let node = step.node();
            if self.steps.contains_key(&node) {
                continue;
            }
            let (context, scope, myself) = (Arc::clone(&self.context), self.scope.clone(), myself.clone());
            let errand = Errand::run(async move {
                let taken = take(&context, &scope, step).await;
                if taken.is_err() {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                // The cast fails only when the actor has ended, and then no answer is needed.
                let _ = myself.cast(Msg::Stepped(node, taken));
            });
            self.steps.insert(node, errand);
        }
    }

    fn trouble(&mut self, node: NodeId, words: String) {
        if self.troubles.get(&node) != Some(&words) {
            self.scope.record(RecordKind::Raft, format!("{}: {words}", self.name_of(node)));
            self.troubles.insert(node, words);
        }
    }

    fn name_of(&self, node: NodeId) -> String {
        self.context.store.state().node(node).map_or_else(|| node.to_string(), |node| node.name())
    }
}

async fn take(context: &Context, scope: &Scope, step: Step) -> Result<(), Refusal> {
    let name = |node| context.store.state().node(node).map_or_else(|| node.to_string(), |node| node.name());
    let words = match step {
        Step::Record { node, role, manager } => {
            context.propose(vec![Change::SetRole { id: node, role, manager }]).await?;
            match manager {
                None => format!("{} is a {role} now", name(node)),
                Some(it) if it.voter => format!("{} is a {role} now, and votes", name(node)),
                Some(it) => {
                    format!("{} is a {role} now, number {} in the group; it does not vote yet", name(node), it.raft_id)
                }
            }
        }
        Step::Admit { node, raft_id, addr } => {
            context.store.add_voter(node, raft_id, addr).await?;
            format!("{} was taken into the group as number {raft_id}", name(node))
        }
        Step::LetGo { node, raft_id } => {
            context.store.remove_voter(raft_id).await?;
            format!("{} was let go from the group, where it was number {raft_id}", name(node))
        }
    };
    scope.record(RecordKind::Raft, words);
    Ok(())
}
