//! The stand-in for an actor on the other side: takes messages as bytes, and puts them into the outbox.
//!
//! Parent: the guard of its link. Children: none.
//! Hears: what anybody says to the remote actor. Says: frames.
//! Dies: as the remote actor did, or with `noconnection: …` when the link has ended.
//!
//! It never waits: its own mailbox is empty again as soon as it runs, and what is bounded is the outbox.

use super::Shared;
use super::frame::Frame;
use ractor::message::SerializedMessage;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr};
use ractor_cluster::RactorMessage;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    load: Arc<Load>,
}

/// How many messages of senders that ask first are in the proxy's mailbox.
#[derive(Default)]
pub(super) struct Load(AtomicUsize);

impl Load {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sub(&self) {
        // Messages of others come through the same mailbox and were not counted.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |load| load.checked_sub(1));
    }
}

/// Starts the stand-in of the peer's actor with this key, below the guard.
pub(super) async fn start(shared: Arc<Shared>, key: u64, guard: ActorCell) -> Result<(ActorCell, Arc<Load>), SpawnErr> {
    let id = ActorId::Remote { node_id: shared.id, pid: key };
    let load = Arc::new(Load::default());
    let proxy = Proxy { shared, to: key, load: Arc::clone(&load) };
    // Without a name: a named remote actor would take the name of a local one with it when it ends.
    let (proxy, _) = ActorRuntime::<Proxy>::spawn_linked_remote(None, proxy, id, (), guard).await?;
    Ok((proxy.get_cell(), load))
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
        let shared = &self.shared;
        match message {
            SerializedMessage::Cast { variant, args, .. } => {
                self.load.sub();
                shared.say(&Frame::Cast { to: self.to, variant, args });
            }
            SerializedMessage::Call { variant, args, reply, .. } => {
                self.load.sub();
                let within = reply.get_timeout().unwrap_or(CALL_DEADLINE);
                let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
                let tag = shared.state().await_reply(Instant::now() + within, reply);
                if shared.say(&Frame::Call { to: self.to, tag, within_ms, variant, args }) {
                    shared.called.notify_one();
                } else {
                    // Dropping the port is the answer: the caller does not wait.
                    shared.state().take_pending(tag);
                }
            }
            SerializedMessage::CallReply(FAIL, why) => return Err(String::from_utf8_lossy(&why).into_owned().into()),
            SerializedMessage::CallReply(_, why) => myself.stop(Some(String::from_utf8_lossy(&why).into_owned())),
        }
        Ok(())
    }
}
