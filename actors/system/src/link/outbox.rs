//! The outbox of a link: frames that wait to be written, bounded by count and bytes, and written in batches.

use essaim_transport::{FrameSender, MAX_FRAME};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::Notify;

/// Messages that may wait at most: four times the burst of a large reconcile.
const MESSAGES_MAX: usize = 16_384;

/// Bytes that may wait at most: four frames of the largest size. This is what a peer that does not read costs.
const BYTES_MAX: usize = 16 << 20;

/// Above either soft limit, senders that ask first are refused; the rest of the room is left to those that cannot wait.
const MESSAGES_SOFT: usize = 4_096;
const BYTES_SOFT: usize = 4 << 20;

/// Messages that one write takes at most.
const BATCH_MESSAGES: usize = 256;

/// Bytes that one write takes at most: enough to fill packets, and little for an urgent frame to wait behind.
const BATCH_BYTES: usize = 64 << 10;

/// A peer that accepts no bytes for this long is given up, even if its connection stands.
const STALL: Duration = Duration::from_secs(30);

pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Notified when a frame was pushed or the outbox was closed.
    changed: Notify,
    /// Notified when the outbox overflowed, also while a write waits for the peer.
    overflow: Notify,
    /// There is room again for senders that ask first, or it is closed.
    room: Notify,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

/// Reasons why the outbox did not take a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The link has ended.
    Closed,
    /// The outbox is full; the link ends.
    Overflow,
    /// The frame is larger than [`MAX_FRAME`]; it is dropped, and the link goes on.
    TooLong,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            changed: Notify::new(),
            overflow: Notify::new(),
            room: Notify::new(),
        }
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
            self.room.notify_waiters();
            return Err(Refused::Overflow);
        }
        queue.bytes += message.len();
        queue.messages.push_back(message);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// Whether a sender that asks first may push one more message.
    pub(super) fn has_room(&self) -> bool {
        let queue = self.queue();
        !queue.closed && queue.messages.len() < MESSAGES_SOFT && queue.bytes < BYTES_SOFT
    }

    /// Whether the outbox was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.queue().closed
    }

    /// Number of messages and bytes that wait to be written.
    pub(super) fn backlog(&self) -> (usize, usize) {
        let queue = self.queue();
        (queue.messages.len(), queue.bytes)
    }

    /// Closes the outbox: new frames are refused, those that wait are still written.
    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.changed.notify_one();
        self.room.notify_waiters();
    }

    /// Waits until there is room for a sender that asks first, or it is closed.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // From here on a notification counts, also before the first poll.
            room.as_mut().enable();
            if self.has_room() || self.is_closed() {
                return;
            }
            room.await;
        }
    }

    /// Writes frames until the stream fails, the outbox overflows, or it is closed and empty. Returns the reason in
    /// words.
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
            // Gives the memory of a burst back.
            queue.messages.shrink_to(BATCH_MESSAGES);
        }
        if !batch.is_empty() {
            self.room.notify_waiters();
        }
        (batch, queue.closed)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }
}
