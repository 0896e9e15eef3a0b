//! The stand-in for an actor on the other side: takes messages as bytes, and puts them into the outbox.
//!
//! Parent: the guard of its link. Children: none.
//! Hears: what anybody says to the remote actor. Says: frames.
//! Dies: as the remote actor did, or with `noconnection: …` when the link has ended.
//!
//! It never waits: its own mailbox is empty again as soon as it runs, and what is bounded is the outbox. Whoever holds
//! a [`Remote`](super::Remote) goes past it ([`send`]); it is for those who hold an ordinary reference, and for monitors.

use super::Shared;
use super::frame::Frame;
use ractor::message::SerializedMessage;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr};
use ractor_cluster::RactorMessage;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a call waits when its caller named no limit.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Overdue calls are looked for this often, while there are any.
const SWEEP: Duration = Duration::from_secs(1);

/// The mark in `CallReply`, which carries nothing else here, by which a proxy is told to fail,
const FAIL: u64 = 1;

/// or to stop.
const STOP: u64 = 0;

/// A proxy hears only bytes; this type is never made.
#[derive(RactorMessage)]
pub(super) enum Nothing {}

struct Proxy {
    shared: Arc<Shared>,
    to: u64,
}

/// Starts the stand-in of the peer's actor with this key, below the guard.
pub(super) async fn start(shared: Arc<Shared>, key: u64, guard: ActorCell) -> Result<ActorCell, SpawnErr> {
    let id = ActorId::Remote { node_id: shared.id, pid: key };
    let proxy = Proxy { shared, to: key };
    // Without a name: a named remote actor would take the name of a local one with it when it ends.
    let (proxy, _) = ActorRuntime::<Proxy>::spawn_linked_remote(None, proxy, id, (), guard).await?;
    Ok(proxy.get_cell())
}

/// Puts a message for the peer's actor with this key into the outbox; whether it was taken.
pub(super) fn send(shared: &Shared, to: u64, message: SerializedMessage) -> bool {
    match message {
        SerializedMessage::Cast { variant, args, .. } => shared.say(&Frame::Cast { to, variant, args }),
        SerializedMessage::Call { variant, args, reply, .. } => {
            let within = reply.get_timeout().unwrap_or(CALL_DEADLINE);
            let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
            let tag = shared.state().await_reply(Instant::now() + within, reply);
            let taken = shared.say(&Frame::Call { to, tag, within_ms, variant, args });
            if taken {
                shared.called.notify_one();
            } else {
                // Dropping the port is the answer: the caller does not wait.
                shared.state().take_pending(tag);
            }
            taken
        }
        SerializedMessage::CallReply(..) => false,
    }
}

/// Makes a proxy end as the actor it stands for did.
pub(super) fn end(proxy: &ActorCell, failed: bool, why: &str) {
    let mark = if failed { FAIL } else { STOP };
    let _ = proxy.send_serialized(SerializedMessage::CallReply(mark, why.as_bytes().to_vec()));
}

/// Ends calls whose peer never answered. Idle while there are none.
pub(super) async fn sweep(shared: &Shared) {
    loop {
        shared.called.notified().await;
        loop {
            tokio::time::sleep(SWEEP).await;
            if !shared.state().drop_overdue(Instant::now()) {
                break;
            }
        }
    }
}

impl Actor for Proxy {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_serialized(
        &self,
        myself: ActorRef<Nothing>,
        message: SerializedMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SerializedMessage::CallReply(FAIL, why) => return Err(String::from_utf8_lossy(&why).into_owned().into()),
            SerializedMessage::CallReply(_, why) => myself.stop(Some(String::from_utf8_lossy(&why).into_owned())),
            // One that is not taken, because the link has ended or it is too long, is dropped with its reply port.
            message => drop(send(&self.shared, self.to, message)),
        }
        Ok(())
    }
}
