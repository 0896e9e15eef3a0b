//! The proxy of a peer's actor: takes messages as bytes and puts them into the link's outbox.
//!
//! Parent: the guard of its link. Children: none. Hears: messages for the remote actor. Says: frames. Dies: as the
//! remote actor did, or with `noconnection: …` when the link has ended.
//!
//! A proxy never waits, so its own mailbox is empty whenever it has run; the outbox is what is bounded. A
//! [`Remote`](super::Remote) writes to the outbox directly ([`send`]); the proxy serves ordinary references and
//! monitors.

use super::Shared;
use super::frame::Frame;
use super::outbox::Refused;
use ractor::message::SerializedMessage;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr};
use ractor_cluster::RactorMessage;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Deadline of a call whose caller set none.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Interval at which overdue calls are looked for while there are any.
const SWEEP: Duration = Duration::from_secs(1);

/// Tag of a `CallReply` by which a proxy is told to fail. Proxies receive no other replies.
const FAIL: u64 = 1;

/// Tag of a `CallReply` by which a proxy is told to stop in order.
const STOP: u64 = 0;

/// Message type of a proxy, which handles only bytes: it has no values.
#[derive(RactorMessage)]
pub(super) enum Nothing {}

struct Proxy {
    shared: Arc<Shared>,
    to: u64,
}

/// Starts the proxy of the peer's actor with this key, as a child of the guard.
pub(super) async fn start(shared: Arc<Shared>, key: u64, guard: ActorCell) -> Result<ActorCell, SpawnErr> {
    let id = ActorId::Remote { node_id: shared.id, pid: key };
    let proxy = Proxy { shared, to: key };
    // The proxy has no name: ractor removes the local name of a named remote actor when that actor ends.
    let (proxy, _) = ActorRuntime::<Proxy>::spawn_linked_remote(None, proxy, id, (), guard).await?;
    Ok(proxy.get_cell())
}

/// Puts a message for the peer's actor with this key into the outbox, or says why it was not taken.
pub(super) fn send(shared: &Shared, to: u64, message: SerializedMessage) -> Result<(), Refused> {
    match message {
        SerializedMessage::Cast { variant, args, .. } => shared.say(&Frame::Cast { to, variant, args }),
        SerializedMessage::Call { variant, args, reply, .. } => {
            let within = reply.get_timeout().unwrap_or(CALL_DEADLINE);
            let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
            let tag = shared.state().await_reply(Instant::now() + within, reply);
            let taken = shared.say(&Frame::Call { to, tag, within_ms, variant, args });
            if taken.is_ok() {
                shared.called.notify_one();
            } else {
                // Dropping the reply port ends the call at its caller at once.
                shared.state().take_pending(tag);
            }
            taken
        }
        SerializedMessage::CallReply(..) => Ok(()),
    }
}

/// Ends a proxy the way the actor behind it ended.
pub(super) fn end(proxy: &ActorCell, failed: bool, why: &str) {
    let mark = if failed { FAIL } else { STOP };
    let _ = proxy.send_serialized(SerializedMessage::CallReply(mark, why.as_bytes().to_vec()));
}

/// Ends calls that the peer did not answer by their deadline. Idle while no call waits.
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
            // A message that is not taken, because the link has ended or it is too long, is dropped with its reply
            // port.
            message => drop(send(&self.shared, self.to, message)),
        }
        Ok(())
    }
}
