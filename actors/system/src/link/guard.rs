//! The guard of a link: watches the actors that the link exports, and is the parent of the proxies.
//!
//! Parent: the actor that opened the link. Children: the proxies of the peer's actors. Hears: `Watch`, and how exported
//! actors end. Says: nothing; it writes `Down` frames. Dies: with its parent, which ends the link, or when the link has
//! ended, with `noconnection: …` as its reason.

use super::Shared;
use super::frame::Frame;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::sync::Arc;

#[derive(RactorMessage)]
pub(super) enum GuardMsg {
    /// This actor was exported: report its end to the peer.
    Watch(ActorCell),
}

pub(super) struct Guard;

impl Actor for Guard {
    type Msg = GuardMsg;
    type State = Arc<Shared>;
    type Arguments = Arc<Shared>;

    async fn pre_start(&self, _: ActorRef<GuardMsg>, shared: Arc<Shared>) -> Result<Arc<Shared>, ActorProcessingErr> {
        Ok(shared)
    }

    async fn handle(
        &self,
        myself: ActorRef<GuardMsg>,
        message: GuardMsg,
        shared: &mut Arc<Shared>,
    ) -> Result<(), ActorProcessingErr> {
        let GuardMsg::Watch(cell) = message;
        myself.get_cell().monitor(cell.clone());
        if cell.get_status() >= ActorStatus::Stopping {
            withdraw(shared, &cell, true, "it had ended already");
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<GuardMsg>,
        event: SupervisionEvent,
        shared: &mut Arc<Shared>,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                let reason = reason.unwrap_or_default();
                // ractor reports a killed actor by this reason, in an event that otherwise reads like a normal end.
                withdraw(shared, &cell, reason == "killed", &reason);
            }
            SupervisionEvent::ActorFailed(cell, error) => withdraw(shared, &cell, true, &error.to_string()),
            _ => (),
        }
        Ok(())
    }
}

/// Tells the peer that an exported actor has ended. Ignored when the actor was not exported on this link.
fn withdraw(shared: &Shared, cell: &ActorCell, failed: bool, why: &str) {
    let key = shared.state().withdraw(cell.get_id());
    if let Some(key) = key {
        let _ = shared.say(&Frame::Down { key, failed, why: why.to_owned() });
    }
}
