//! Keeps a link from reading faster than the actors behind it hear.
//!
//! ractor's mailboxes are unbounded and do not say how full they are. But a message that an actor cannot decode is
//! dropped when its turn comes, and with it the reply port it carries: so a question that nobody understands, sent
//! after every thousandth message, tells when everything before it was heard. The reader lets a few of those marks
//! be open and then waits, which the peer feels as a stream that is not read.

use ractor::ActorCell;
use ractor::message::SerializedMessage;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;

/// After so many messages to one actor, or
const MARK_MESSAGES: usize = 1_024;

/// after so many bytes, a mark is set.
const MARK_BYTES: usize = 1 << 20;

/// So many marks may be open: an actor's mailbox holds some 5,000 messages of a link, or 5 MiB (and one message).
const MARKS_MAX: usize = 4;

/// An actor that hears nothing for so long, while so much waits, is stuck: the link ends.
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
    /// A message of this size was handed to the actor with this key. Waits when it is too far behind.
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
            // That it was dropped is the answer: its turn has come, or the actor has ended.
            if tokio::time::timeout(WAIT, oldest).await.is_err() {
                return Err(format!("an actor that the peer floods hears nothing for {} s", WAIT.as_secs()));
            }
            backlog.marks.pop_front();
        }
        Ok(())
    }

    /// The actor is not exported any more.
    pub(super) fn forget(&mut self, key: u64) {
        self.actors.remove(&key);
    }
}

fn mark(actor: &ActorCell) -> oneshot::Receiver<Vec<u8>> {
    let (reply, turn) = oneshot::channel();
    // No variant has no name.
    let nobody_knows =
        SerializedMessage::Call { variant: String::new(), args: Vec::new(), reply: reply.into(), metadata: None };
    let _ = actor.send_serialized(nobody_knows);
    turn
}
