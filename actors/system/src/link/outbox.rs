//! What waits to be written: bounded by count and by bytes, and written in batches.

use essaim_transport::{FrameSender, MAX_FRAME};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::Notify;

/// No more messages wait than this: a burst of a large reconcile, four times over.
const MESSAGES_MAX: usize = 16_384;

/// No more bytes wait than this: four frames of the largest kind. What a peer that does not read may cost.
const BYTES_MAX: usize = 16 << 20;

/// Above either of these, senders that ask first are refused: they leave room for those that do not.
const MESSAGES_SOFT: usize = 4_096;
const BYTES_SOFT: usize = 4 << 20;

/// One write takes so many messages at most,
const BATCH_MESSAGES: usize = 256;

/// or so many bytes: enough to fill packets, and little to wait behind.
const BATCH_BYTES: usize = 64 << 10;

/// A peer that takes nothing for so long is lost to this link, whatever its connection says.
const STALL: Duration = Duration::from_secs(30);

pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Something was pushed, or it is closed.
    changed: Notify,
    /// It overflowed, perhaps while a write waits for the peer.
    overflow: Notify,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

/// A message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The link has ended.
    Closed,
    /// Too much waits already: the link ends.
    Overflow,
    /// It is larger than any frame may be: only this message is lost.
    TooLong,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { queue: Mutex::new(Queue::default()), changed: Notify::new(), overflow: Notify::new() }
    }

    pub(super) fn push(&self, message: Vec<u8>) -> Result<(), Refused> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(Refused::Closed);
        }
        if message.len() > MAX_FRAME {
            return Err(Refused::TooLong);
        }
        if queue.messages.len() >= MESSAGES_MAX || queue.bytes + message.len() > BYTES_MAX {
            queue.closed = true;
            drop(queue);
            self.overflow.notify_one();
            return Err(Refused::Overflow);
        }
        queue.bytes += message.len();
        queue.messages.push_back(message);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// Whether there is room for one more message of a sender that asks first.
    pub(super) fn has_room(&self) -> bool {
        let queue = self.queue();
        !queue.closed && queue.messages.len() < MESSAGES_SOFT && queue.bytes < BYTES_SOFT
    }

    /// Whether it takes nothing more.
    pub(super) fn is_closed(&self) -> bool {
        self.queue().closed
    }

    /// Messages and bytes that wait.
    pub(super) fn backlog(&self) -> (usize, usize) {
        let queue = self.queue();
        (queue.messages.len(), queue.bytes)
    }

    /// Takes nothing more; what waits is still written.
    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.changed.notify_one();
    }

    /// Writes until the stream fails, the outbox overflows, or it is closed and empty; why it ended.
    pub(super) async fn write_all(&self, send: FrameSender) -> String {
        tokio::select! {
            why = self.write(send) => why,
            () = self.overflow.notified() => {
                format!("the peer reads too slowly: more than {MESSAGES_MAX} messages or {BYTES_MAX} bytes wait")
            }
        }
    }

    async fn write(&self, mut send: FrameSender) -> String {
        loop {
            let changed = self.changed.notified();
            let (batch, closed) = self.take();
            if batch.is_empty() {
                if closed {
                    let _ = send.finish().await;
                    return "closed".into();
                }
                changed.await;
                continue;
            }
            for message in batch {
                if let Err(error) = send.feed(&message) {
                    return error.to_string();
                }
            }
            match tokio::time::timeout(STALL, send.flush()).await {
                Ok(Ok(())) => (),
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("the peer took nothing for {} s", STALL.as_secs()),
            }
        }
    }

    fn take(&self) -> (Vec<Vec<u8>>, bool) {
        let mut queue = self.queue();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            let Some(message) = queue.messages.pop_front() else { break };
            bytes += message.len();
            batch.push(message);
        }
        queue.bytes -= bytes;
        if queue.messages.is_empty() && queue.messages.capacity() > BATCH_MESSAGES {
            // A burst must not be remembered as memory.
            queue.messages.shrink_to(BATCH_MESSAGES);
        }
        (batch, queue.closed)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }
}
