//! `…/leader/authority`: the actor that keeps the cluster's authority installed on this machine.
//!
//! Parent: `leader`. Children: none.
//! Hears: nothing; requests reach the signer through the endpoint's broker. Says: nothing.
//! Dies: with `leader`; the broker then asks the next leader.

use super::signer::LeaderSigner;
use crate::leader::context::Context;
use essaim_system::Scope;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::sync::Arc;

/// The actor that installs the signer in the endpoint while it lives.
pub(in crate::leader) struct AuthorityActor;

/// [`AuthorityActor`] hears no messages.
#[derive(RactorMessage)]
pub(in crate::leader) enum Msg {}

impl Actor for AuthorityActor {
    type Msg = Msg;
    type State = Arc<Context>;
    type Arguments = (Scope, Arc<Context>);

    async fn pre_start(
        &self,
        _: ActorRef<Msg>,
        (scope, context): Self::Arguments,
    ) -> Result<Arc<Context>, ActorProcessingErr> {
        context.endpoint.set_signer(Some(Arc::new(LeaderSigner::new(scope, Arc::clone(&context)))));
        Ok(context)
    }

    async fn post_stop(&self, _: ActorRef<Msg>, context: &mut Arc<Context>) -> Result<(), ActorProcessingErr> {
        context.endpoint.set_signer(None);
        Ok(())
    }
}
