//! Flow control of a link: keeps it from reading faster than its exported actors handle messages.
//!
//! ractor's mailboxes are unbounded and do not tell how full they are. But a message that an actor cannot decode is
//! dropped when its turn comes, together with its reply port. So a question that no actor understands, sent after every
//! thousandth message, tells when everything before it was handled. The reader lets a few of these marks be open and
//! then waits, and the peer sees a stream that is not read.

use ractor::ActorCell;
use ractor::message::SerializedMessage;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;

/// Messages to one actor after which a mark is set.
const MARK_MESSAGES: usize = 1_024;

/// Bytes to one actor after which a mark is set.
const MARK_BYTES: usize = 1 << 20;

/// Marks that may be open for one actor: its mailbox then holds at most some 5,000 messages of the link, or 5 MiB and
/// one message.
const MARKS_MAX: usize = 4;

/// An actor that handles nothing for this long while marks are open is stuck: the link ends.
const WAIT: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(super) struct Pace {
    actors: BTreeMap<u64, Backlog>,
}

#[derive(Default)]
struct Backlog {
    messages: usize,
    bytes: usize,
    marks: VecDeque<oneshot::Receiver<Vec<u8>>>,
}

impl Pace {
    /// Counts a message of `bytes` bytes handed to the actor with this key. Waits when the actor is too far behind.
    pub(super) async fn count(&mut self, key: u64, actor: &ActorCell, bytes: usize) -> Result<(), String> {
        let backlog = self.actors.entry(key).or_default();
        backlog.messages += 1;
        backlog.bytes += bytes;
        if backlog.messages < MARK_MESSAGES && backlog.bytes < MARK_BYTES {
            return Ok(());
        }
        backlog.messages = 0;
        backlog.bytes = 0;
        backlog.marks.push_back(mark(actor));
        while backlog.marks.len() > MARKS_MAX {
            let Some(oldest) = backlog.marks.front_mut() else { break };
            // The mark's reply port is dropped when its turn has come or the actor has ended; either way the wait is
            // over.
            if tokio::time::timeout(WAIT, oldest).await.is_err() {
                return Err(format!("an actor that the peer floods hears nothing for {} s", WAIT.as_secs()));
            }
            backlog.marks.pop_front();
        }
        Ok(())
    }

    /// Drops what was counted for an actor that is no longer exported.
    pub(super) fn forget(&mut self, key: u64) {
        self.actors.remove(&key);
    }
}

fn mark(actor: &ActorCell) -> oneshot::Receiver<Vec<u8>> {
    let (reply, turn) = oneshot::channel();
    // An empty variant name, which no message enum has.
    let nobody_knows =
        SerializedMessage::Call { variant: String::new(), args: Vec::new(), reply: reply.into(), metadata: None };
    let _ = actor.send_serialized(nobody_knows);
    turn
}
