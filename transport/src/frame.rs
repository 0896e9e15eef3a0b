//! Frames: messages on a stream of bytes. A frame is four bytes of length, big-endian, and then the message.
//!
//! Both directions are bounded by [`MAX_FRAME`]. A length above it, an end in the middle of a frame, and bytes that do
//! not decode are error values. After such an error the stream cannot be used any more; the receiver closes it.
//!
//! Receiving is safe to cancel: what was read of a frame so far stays in the receiver. A flush that was cancelled goes on
//! with the next one: what was not written yet stays in the sender.

use crate::network::{RecvStream, SendStream};
use bincode::{Decode, Encode};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use essaim_wire::{DecodeError, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest message in bytes: 4 MiB. Senders of larger things (snapshots, logs, orders) cut them into pieces, so that no
/// message occupies a connection for long or a peer's memory without bound.
pub const MAX_FRAME: usize = 4 << 20;

/// Bytes of the length prefix.
const PREFIX: usize = 4;

/// Read size in bytes for quiet streams: most streams carry a small frame now and then, and many are open.
const READ_CHUNK: usize = 4 << 10;

/// Read size in bytes for a stream that filled the last read: several frames cost one read.
const READ_CHUNK_BUSY: usize = 64 << 10;

/// Reasons why a stream of frames cannot be used any more. The variant tells which side is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer (or, when sending, the caller) wants a frame above the limit.
    #[error("a frame of {len} bytes is over the limit of {max}")]
    TooLong {
        /// Length of the frame in bytes.
        len: usize,
        /// Limit of this stream in bytes.
        max: usize,
    },
    /// The stream ended in the middle of a frame.
    #[error("the stream ended in the middle of a frame")]
    Cut,
    /// The peer ended the stream in order where a message was expected.
    #[error("the stream has ended")]
    Finished,
    /// The message is not of the expected type.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// The stream or its connection failed.
    #[error("the stream failed: {0}")]
    Failed(String),
}

/// Writes frames to a stream.
pub struct FrameSender {
    stream: Box<dyn SendStream>,
    buffer: BytesMut,
}

impl FrameSender {
    /// A sender of frames on a raw stream.
    pub fn new(stream: Box<dyn SendStream>) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Sends one message and everything fed before it. Waits while the peer does not read.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), FrameError> {
        self.feed(message)?;
        self.flush().await
    }

    /// Encodes and sends one message.
    pub async fn send_value<T: Encode>(&mut self, value: &T) -> Result<(), FrameError> {
        self.send(&encode(value)).await
    }

    /// Adds a message to those that the next [`FrameSender::flush`] sends, so that many small ones cost one write. Fed
    /// messages are memory of this node: flush before it grows.
    pub fn feed(&mut self, message: &[u8]) -> Result<(), FrameError> {
        if message.len() > MAX_FRAME {
            return Err(FrameError::TooLong { len: message.len(), max: MAX_FRAME });
        }
        self.buffer.reserve(PREFIX + message.len());
        self.buffer.put_u32(u32::try_from(message.len()).expect("MAX_FRAME fits"));
        self.buffer.put_slice(message);
        Ok(())
    }

    /// Sends the messages that were fed.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        while self.buffer.has_remaining() {
            let written = self.stream.write(&self.buffer).await.map_err(failed)?;
            self.buffer.advance(written);
        }
        self.stream.flush().await.map_err(failed)
    }

    /// Bytes that were fed and not written yet.
    pub fn unsent(&self) -> usize {
        self.buffer.len()
    }

    /// Ends the direction in order, after everything sent.
    pub async fn finish(mut self) -> Result<(), FrameError> {
        self.flush().await?;
        self.stream.shutdown().await.map_err(failed)
    }

    /// Aborts the direction with this code.
    pub fn reset(mut self, code: u32) {
        self.stream.reset(code);
    }

    /// The raw stream, for callers that want bytes instead of frames. Flush first.
    pub fn into_inner(self) -> Box<dyn SendStream> {
        self.stream
    }
}

/// Reads frames from a stream.
pub struct FrameReceiver {
    stream: Box<dyn RecvStream>,
    buffer: BytesMut,
    limit: usize,
    /// Whether the last read filled its buffer.
    busy: bool,
}

impl FrameReceiver {
    /// A receiver of frames from a raw stream.
    pub fn new(stream: Box<dyn RecvStream>) -> Self {
        Self { stream, buffer: BytesMut::new(), limit: MAX_FRAME, busy: false }
    }

    /// Sets the largest length of one frame, in bytes: small while the peer has not been judged yet.
    pub fn limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_FRAME);
    }

    /// Receives the next message; `None` when the peer has ended the stream in order.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            self.buffer.reserve(if self.busy { READ_CHUNK_BUSY } else { READ_CHUNK });
            let room = self.buffer.capacity() - self.buffer.len();
            let read = self.stream.read_buf(&mut self.buffer).await.map_err(failed)?;
            if read == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
            }
            self.busy = read == room;
        }
    }

    /// Receives and decodes the next message; `None` when the peer has ended the stream in order.
    pub async fn recv_value<T: Decode<()>>(&mut self) -> Result<Option<T>, FrameError> {
        match self.recv().await? {
            Some(message) => Ok(Some(decode(&message)?)),
            None => Ok(None),
        }
    }

    /// Receives and decodes a message that the protocol requires; the end of the stream is an error.
    pub async fn expect_value<T: Decode<()>>(&mut self) -> Result<T, FrameError> {
        self.recv_value().await?.ok_or(FrameError::Finished)
    }

    /// Refuses the rest of the stream with this code.
    pub fn stop(mut self, code: u32) {
        self.stream.stop(code);
    }

    /// The raw stream, and the bytes that were read from it and not returned yet.
    pub fn into_inner(self) -> (Box<dyn RecvStream>, Bytes) {
        (self.stream, self.buffer.freeze())
    }

    /// Takes a whole frame out of the buffer, if there is one. The length is checked before memory is allocated for it.
    fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > self.limit {
            return Err(FrameError::TooLong { len, max: self.limit });
        }
        if self.buffer.len() < PREFIX + len {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn failed(error: std::io::Error) -> FrameError {
    FrameError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    fn pipe() -> (DuplexStream, FrameReceiver) {
        let (near, far) = duplex(1 << 20);
        (near, FrameReceiver::new(Box::new(far)))
    }

    #[tokio::test]
    async fn several_frames_in_one_write_are_read_one_by_one() {
        let (near, mut recv) = pipe();
        let mut send = FrameSender::new(Box::new(near));
        for number in 0..100u64 {
            send.feed(&encode(&number)).expect("small");
        }
        send.finish().await.expect("sent");
        for number in 0..100u64 {
            assert_eq!(recv.recv_value().await, Ok(Some(number)));
        }
        assert_eq!(recv.recv_value::<u64>().await, Ok(None));
        assert_eq!(recv.expect_value::<u64>().await, Err(FrameError::Finished));
    }

    #[tokio::test]
    async fn giving_up_on_a_frame_that_is_half_here_loses_nothing() {
        let (mut near, mut recv) = pipe();
        near.write_all(&[0, 0, 0, 3, 7]).await.expect("written");
        assert!(futures::poll!(std::pin::pin!(recv.recv())).is_pending());
        near.write_all(&[8, 9]).await.expect("written");
        assert_eq!(recv.recv().await, Ok(Some(Bytes::from_static(&[7, 8, 9]))));
    }

    #[tokio::test]
    async fn a_lowered_limit_holds_until_it_is_raised() {
        let (near, mut recv) = pipe();
        let mut send = FrameSender::new(Box::new(near));
        recv.limit(2);
        send.send(&[1, 2, 3]).await.expect("sent");
        assert_eq!(recv.recv().await, Err(FrameError::TooLong { len: 3, max: 2 }));
        recv.limit(usize::MAX);
        assert_eq!(recv.recv().await, Ok(Some(Bytes::from_static(&[1, 2, 3]))));
    }
}
