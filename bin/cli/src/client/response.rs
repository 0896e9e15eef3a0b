//! Answers of the daemon: a whole body, a stream of lines, or docker's multiplexed log frames.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::exit::Failure;

/// Longest body in bytes that is read whole. A list of ten thousand nodes is below 20 MB.
const BODY_LEN_MAX: usize = 256 << 20;

/// Longest line or log frame in bytes. An engine cuts longer lines of its tasks.
const PIECE_LEN_MAX: usize = 16 << 20;

/// An answer whose body was not read yet.
pub(crate) struct Reply {
    response: Response<Incoming>,
}

impl Reply {
    pub(crate) fn new(response: Response<Incoming>) -> Self {
        Self { response }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Reads the whole body as text.
    pub(crate) async fn text(self) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.bytes().await?).into_owned())
    }

    /// Reads the whole body as JSON; an empty body is `null`.
    pub(crate) async fn json(self) -> Result<Value, Failure> {
        let bytes = self.bytes().await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::error(format!("the daemon's answer is no JSON: {error}")))
    }

    /// The body as a stream of lines.
    pub(crate) fn lines(self) -> Lines {
        Lines { pieces: Pieces::new(self.response.into_body()) }
    }

    /// The body as a stream of log frames. A body that is not multiplexed is all stdout.
    pub(crate) fn logs(self) -> LogStream {
        let kind = self.response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("");
        let raw = kind.contains("raw-stream");
        LogStream { pieces: Pieces::new(self.response.into_body()), raw }
    }

    async fn bytes(self) -> Result<Bytes, Failure> {
        let mut pieces = Pieces::new(self.response.into_body());
        while pieces.more().await? {
            if pieces.buffer.len() > BODY_LEN_MAX {
                return Err(Failure::error(format!("the daemon's answer is longer than {BODY_LEN_MAX} bytes")));
            }
        }
        Ok(pieces.buffer.freeze())
    }
}

/// Lines of a body that may never end.
pub(crate) struct Lines {
    pieces: Pieces,
}

impl Lines {
    /// Waits for the next line, without its line end; `None` when the stream ended.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.pieces.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.pieces.buffer.split_to(end + 1);
                return Ok(Some(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').to_owned()));
            }
            if self.pieces.buffer.len() > PIECE_LEN_MAX {
                return Err(Failure::error(format!("a line of the stream is longer than {PIECE_LEN_MAX} bytes")));
            }
            if !self.pieces.more().await? {
                let rest = self.pieces.buffer.split();
                return Ok((!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned()));
            }
        }
    }
}

/// The output stream of a task that a log frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
    /// Messages of the daemon about the stream, such as a node that does not answer.
    System,
}

/// Docker's log frames: eight bytes of header (stream, three zeros, length), then the text.
pub(crate) struct LogStream {
    pieces: Pieces,
    raw: bool,
}

impl LogStream {
    /// Waits for the next log frame; `None` when the stream ended.
    pub(crate) async fn next(&mut self) -> Result<Option<(Stream, Bytes)>, Failure> {
        loop {
            if let Some(found) = take_frame(&mut self.pieces.buffer, self.raw)? {
                return Ok(Some(found));
            }
            if !self.pieces.more().await? {
                return if self.pieces.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(Failure::error(
                        "the log ends in the middle of a frame: the daemon stopped, or a task's log is damaged",
                    ))
                };
            }
        }
    }
}

fn take_frame(buffer: &mut BytesMut, raw: bool) -> Result<Option<(Stream, Bytes)>, Failure> {
    const HEADER: usize = 8;
    if raw {
        return Ok((!buffer.is_empty()).then(|| (Stream::Stdout, buffer.split().freeze())));
    }
    if buffer.len() < HEADER {
        return Ok(None);
    }
    let stream = match buffer[0] {
        0 | 1 => Stream::Stdout,
        2 => Stream::Stderr,
        3 => Stream::System,
        other => return Err(Failure::error(format!("a log frame names stream {other}, which does not exist"))),
    };
    let length = (&buffer[4..HEADER]).get_u32() as usize;
    if length > PIECE_LEN_MAX {
        return Err(Failure::error(format!("a log frame of {length} bytes is longer than {PIECE_LEN_MAX}")));
    }
    if buffer.len() < HEADER + length {
        return Ok(None);
    }
    buffer.advance(HEADER);
    Ok(Some((stream, buffer.split_to(length).freeze())))
}

/// The bytes of a body as they arrive.
struct Pieces {
    body: Incoming,
    buffer: BytesMut,
}

impl Pieces {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// Waits for more bytes; false at the end of the body.
    async fn more(&mut self) -> Result<bool, Failure> {
        loop {
            match self.body.frame().await {
                None => return Ok(false),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                        return Ok(true);
                    }
                }
                Some(Err(error)) => {
                    let error = io::Error::other(error);
                    return Err(Failure::error(format!("the daemon broke the connection: {error}")));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_when_it_is_whole() {
        let mut buffer = BytesMut::from(&[2, 0, 0, 0, 0, 0, 0, 3, b'a', b'b'][..]);
        assert_eq!(take_frame(&mut buffer, false).unwrap(), None);
        buffer.extend_from_slice(b"cX");
        assert_eq!(take_frame(&mut buffer, false).unwrap(), Some((Stream::Stderr, Bytes::from_static(b"abc"))));
        assert_eq!(&buffer[..], b"X");
    }

    #[test]
    fn a_frame_that_cannot_be_is_an_error() {
        let mut unknown = BytesMut::from(&[9, 0, 0, 0, 0, 0, 0, 0][..]);
        assert!(take_frame(&mut unknown, false).unwrap_err().to_string().contains("stream 9"));
        let mut endless = BytesMut::from(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..]);
        assert!(take_frame(&mut endless, false).is_err());
    }
}
