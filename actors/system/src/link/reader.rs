//! The reader of a link: reads frames and delivers them to exported actors, proxies and pending calls.

use super::frame::Frame;
use super::guard::GuardMsg;
use super::pace::Pace;
use super::state::Import;
use super::{EXPORTS_MAX, PROXY_WAIT, REVISION, Shared, proxy};
use essaim_transport::FrameReceiver;
use ractor::message::SerializedMessage;
use ractor::{ActorRef, RpcReplyPort};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Calls of the peer that may wait for answers at the same time; further calls end at once.
const SERVED_MAX: usize = 1_024;

/// Upper bound on the deadline of a peer's call, whatever the caller asked for.
const SERVED_LONGEST: Duration = Duration::from_secs(600);

/// Bytes of an export's name at most, and of its message type's name.
const NAME_MAX: usize = 256;

/// Reads frames until the peer closes the link, is lost, or breaks the protocol; returns the reason.
pub(super) async fn read_all(shared: Arc<Shared>, guard: ActorRef<GuardMsg>, mut recv: FrameReceiver) -> String {
    match recv.recv_value().await {
        Ok(Some(Frame::Open { revision: REVISION })) => (),
        Ok(Some(Frame::Open { revision })) => {
            return format!("the peer speaks revision {revision} of links, this node {REVISION}");
        }
        Ok(Some(_)) => return "the peer did not say which language it speaks".into(),
        Ok(None) => return "the peer ended the stream".into(),
        Err(error) => return error.to_string(),
    }
    let mut pace = Pace::default();
    loop {
        let frame = match recv.recv_value().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "the peer ended the stream".into(),
            Err(error) => return error.to_string(),
        };
        match frame {
            Frame::Open { .. } => return "the peer opened the link twice".into(),
            Frame::Export { key, name, hears } => {
                if let Err(why) = on_export(&shared, &guard, key, name, hears).await {
                    return why;
                }
            }
            Frame::Down { key, failed, why } => {
                let gone = shared.state().remove_proxy(key);
                if let Some(gone) = gone {
                    proxy::end(&gone, failed, &why);
                    // The wait slows a peer that exports and withdraws all the time to the pace at which its proxies
                    // end.
                    let _ = gone.wait(Some(PROXY_WAIT)).await;
                }
            }
            Frame::Cast { to, variant, args } => {
                if let Err(why) = on_cast(&shared, &mut pace, to, variant, args).await {
                    return why;
                }
            }
            Frame::Call { to, tag, within_ms, variant, args } => {
                let within = Duration::from_millis(within_ms);
                if let Err(why) = on_call(&shared, &mut pace, Asked { to, tag, within }, variant, args).await {
                    return why;
                }
            }
            Frame::Reply { tag, answer } => {
                let port = shared.state().take_pending(tag);
                // Without an answer the port is dropped, which ends the call at the caller's side.
                if let (Some(port), Some(answer)) = (port, answer) {
                    let _ = port.send(answer);
                }
            }
            Frame::Close { why } => return format!("the peer closed the link: {why}"),
        }
    }
}

async fn on_export(
    shared: &Arc<Shared>,
    guard: &ActorRef<GuardMsg>,
    key: u64,
    name: String,
    hears: String,
) -> Result<(), String> {
    if name.len() > NAME_MAX || hears.len() > NAME_MAX {
        return Err("the peer exported an actor with a name that is too long".into());
    }
    let known = shared.state().proxies.get(&key).cloned();
    let cell = match known {
        // The peer exports the same actor under another name.
        Some(cell) => cell,
        None if shared.state().proxies.len() >= EXPORTS_MAX => {
            return Err(format!("the peer exported more than {EXPORTS_MAX} actors"));
        }
        None => proxy::start(Arc::clone(shared), key, guard.get_cell()).await.map_err(|error| error.to_string())?,
    };
    let mut state = shared.state();
    if state.imports.len() >= EXPORTS_MAX && !state.imports.contains_key(&name) {
        return Err(format!("the peer exported actors under more than {EXPORTS_MAX} names"));
    }
    state.proxies.insert(key, cell.clone());
    state.imports.insert(name, Import { key, cell, hears });
    drop(state);
    shared.imported.notify_waiters();
    Ok(())
}

/// Delivers a cast to an exported actor. A cast to any other actor is dropped and does not end the link, because the
/// peer may still send to an actor that has just ended.
async fn on_cast(shared: &Shared, pace: &mut Pace, to: u64, variant: String, args: Vec<u8>) -> Result<(), String> {
    let target = shared.state().exports.get(&to).cloned();
    let Some(target) = target else {
        pace.forget(to);
        tracing::debug!(peer = shared.peer, to, "a message for an actor that is not exported was dropped");
        return Ok(());
    };
    let bytes = args.len();
    let _ = target.send_serialized(SerializedMessage::Cast { variant, args, metadata: None });
    pace.count(to, &target, bytes).await
}

/// A peer's call: key of the called actor, tag of the answer, and deadline of the caller.
struct Asked {
    to: u64,
    tag: u64,
    within: Duration,
}

async fn on_call(
    shared: &Arc<Shared>,
    pace: &mut Pace,
    asked: Asked,
    variant: String,
    args: Vec<u8>,
) -> Result<(), String> {
    let Asked { to, tag, within } = asked;
    let target = {
        let mut state = shared.state();
        let target = if state.served < SERVED_MAX { state.exports.get(&to).cloned() } else { None };
        state.served += usize::from(target.is_some());
        target
    };
    let Some(target) = target else {
        let _ = shared.say(&Frame::Reply { tag, answer: None });
        return Ok(());
    };
    let within = within.min(SERVED_LONGEST);
    let (send, recv) = oneshot::channel();
    let reply = RpcReplyPort::from((send, within));
    let bytes = args.len();
    let _ = target.send_serialized(SerializedMessage::Call { variant, args, reply, metadata: None });
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // An actor that has ended, or that cannot decode the bytes, drops the port; the caller is told that there is no
        // answer.
        let answer = tokio::time::timeout(within, recv).await.ok().and_then(Result::ok);
        shared.state().served -= 1;
        if shared.say(&Frame::Reply { tag, answer }).is_err() {
            // An answer that is too long for a frame is replaced by none.
            let _ = shared.say(&Frame::Reply { tag, answer: None });
        }
    });
    pace.count(to, &target, bytes).await
}
