//! What the bytes of the engine's streams mean: frames, or the output of a terminal.
//!
//! Without a terminal, output comes in frames: a byte for the stream, three zeros, the length in four bytes, big endian,
//! and the payload. A frame of a log is one line, or one part of a long line. With a terminal, output comes as it is, and
//! a log has no frames either: each of its messages begins with a time, and ends with a line feed or after
//! [`MESSAGE_MAX`] bytes. (Docker's `stdcopy` and its log copier define both forms.)

use super::client::CallError;
use bytes::Bytes;
use essaim_worker::engine::LogStream;

/// Bytes of one message of a log, without its time: Docker's copier breaks a longer line into several messages.
pub(super) const MESSAGE_MAX: usize = 16 << 10;

/// Bytes of a log's frame: a message with its time and details. The details are labels and environment variables of the
/// container, for which this leaves all the room that a program's environment may take on Linux twice over.
const FRAME_MAX: usize = 256 << 10;

/// Bytes before a payload.
const HEAD_LEN: usize = 8;

/// The form of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Frames.
    Framed,
    /// The output of a terminal.
    Terminal,
}

impl Form {
    pub(super) const fn of_terminal(tty: bool) -> Self {
        if tty { Self::Terminal } else { Self::Framed }
    }
}

/// Part of a payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) stream: LogStream,
    pub(super) bytes: Bytes,
    /// Whether the payload ends here. The output of a terminal has no ends.
    pub(super) last: bool,
}

/// Reads frames whose bytes arrive in chunks of any size, and buffers no payload.
#[derive(Debug)]
pub(super) struct Frames {
    form: Form,
    head: Vec<u8>,
    /// Stream of the frame whose payload is being read, and the bytes that it still lacks.
    open: Option<(Kind, usize)>,
    /// What the engine says of an error of its own.
    error: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Output(LogStream),
    /// The engine's own error, after which the stream ends.
    Error,
}

impl Frames {
    pub(super) const fn new(form: Form) -> Self {
        Self { form, head: Vec::new(), open: None, error: Vec::new() }
    }

    /// Takes the next piece out of `chunk`; `None` when the chunk is used up.
    pub(super) fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Piece>, CallError> {
        if self.form == Form::Terminal {
            let bytes = std::mem::take(chunk);
            return Ok((!bytes.is_empty()).then_some(Piece { stream: LogStream::Stdout, bytes, last: false }));
        }
        let (kind, left) = match self.open {
            Some(open) => open,
            None => {
                let taken = (HEAD_LEN - self.head.len()).min(chunk.len());
                self.head.extend_from_slice(&chunk.split_to(taken));
                let Ok([kind, 0, 0, 0, length @ ..]) = <[u8; HEAD_LEN]>::try_from(&*self.head) else {
                    return if self.head.len() < HEAD_LEN { Ok(None) } else { Err(unframed()) };
                };
                self.head.clear();
                let kind = match kind {
                    // Docker writes what was echoed of an input to standard output.
                    0 | 1 => Kind::Output(LogStream::Stdout),
                    2 => Kind::Output(LogStream::Stderr),
                    3 => Kind::Error,
                    _ => return Err(unframed()),
                };
                (kind, u32::from_be_bytes(length) as usize)
            }
        };
        let bytes = chunk.split_to(left.min(chunk.len()));
        let left = left - bytes.len();
        self.open = (left > 0).then_some((kind, left));
        match kind {
            Kind::Output(_) if bytes.is_empty() && left > 0 => Ok(None),
            Kind::Output(stream) => Ok(Some(Piece { stream, bytes, last: left == 0 })),
            Kind::Error => {
                self.error.extend_from_slice(&bytes[..bytes.len().min(MESSAGE_MAX - self.error.len())]);
                if left == 0 {
                    return Err(CallError::Refused(500, String::from_utf8_lossy(&self.error).trim_end().to_owned()));
                }
                Ok(None)
            }
        }
    }
}

fn unframed() -> CallError {
    CallError::Broken("its output is not in frames".into())
}

/// Puts the messages of a log together, each with its time, and with its details if those were asked for.
#[derive(Debug)]
pub(super) struct Messages {
    frames: Frames,
    /// Blanks that end what stands before a message: one behind the time, one behind the details.
    blanks: u32,
    /// The message that is not whole yet.
    begun: Vec<u8>,
    /// Of a terminal's message: blanks still to come, and bytes after which it is whole without a line feed.
    open: (u32, usize),
}

impl Messages {
    pub(super) const fn new(form: Form, details: bool) -> Self {
        let blanks = if details { 2 } else { 1 };
        Self { frames: Frames::new(form), blanks, begun: Vec::new(), open: (blanks, FRAME_MAX) }
    }

    /// Takes the next message out of `chunk`; `None` when the chunk is used up.
    pub(super) fn next(&mut self, chunk: &mut Bytes) -> Result<Option<(LogStream, Vec<u8>)>, CallError> {
        if self.frames.form == Form::Terminal {
            return Ok(self.terminal(chunk).map(|message| (LogStream::Stdout, message)));
        }
        while let Some(Piece { stream, bytes, last }) = self.frames.next(chunk)? {
            if self.begun.len() + bytes.len() > FRAME_MAX {
                return Err(CallError::Broken(format!("a frame of its log is longer than {FRAME_MAX} bytes")));
            }
            self.begun.extend_from_slice(&bytes);
            if last {
                return Ok(Some((stream, std::mem::take(&mut self.begun))));
            }
        }
        Ok(None)
    }

    fn terminal(&mut self, chunk: &mut Bytes) -> Option<Vec<u8>> {
        while !chunk.is_empty() {
            let (blanks, room) = self.open;
            let ends = |byte: &u8| *byte == b'\n' || (blanks > 0 && *byte == b' ');
            let part = chunk.split_to(chunk.iter().position(ends).map_or(chunk.len(), |end| end + 1).min(room));
            self.begun.extend_from_slice(&part);
            self.open = match (blanks, part.last()) {
                (1, Some(b' ')) => (0, MESSAGE_MAX),
                (2.., Some(b' ')) => (blanks - 1, room - part.len()),
                _ => (blanks, room - part.len()),
            };
            if part.last() == Some(&b'\n') || self.open.1 == 0 {
                self.open = (self.blanks, FRAME_MAX);
                return Some(std::mem::take(&mut self.begun));
            }
        }
        None
    }

    /// Takes what is left when the stream has ended.
    pub(super) fn rest(&mut self) -> Option<(LogStream, Vec<u8>)> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then_some((LogStream::Stdout, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[kind, 0, 0, 0][..], &length, payload].concat()
    }

    fn messages(form: Form, bytes: &[u8], chunk: usize) -> Result<Vec<(LogStream, Vec<u8>)>, CallError> {
        let mut reader = Messages::new(form, false);
        let mut read = Vec::new();
        for chunk in bytes.chunks(chunk) {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while let Some(message) = reader.next(&mut chunk)? {
                read.push(message);
            }
            assert!(chunk.is_empty(), "all of it was taken");
        }
        read.extend(reader.rest());
        Ok(read)
    }

    #[test]
    fn frames_are_the_same_in_chunks_of_every_size() {
        let bytes = [frame(1, b"out\n"), frame(2, b"err\n"), frame(1, b""), frame(1, b"more")].concat();
        let expected: Vec<(LogStream, Vec<u8>)> = vec![
            (LogStream::Stdout, b"out\n".into()),
            (LogStream::Stderr, b"err\n".into()),
            (LogStream::Stdout, b"".into()),
            (LogStream::Stdout, b"more".into()),
        ];
        for chunk in 1..=bytes.len() {
            assert_eq!(messages(Form::Framed, &bytes, chunk).expect("frames"), expected, "chunks of {chunk}");
        }
    }

    #[test]
    fn the_payload_of_a_long_frame_is_handed_on_before_the_frame_ends() {
        let mut frames = Frames::new(Form::Framed);
        let mut chunk = Bytes::from([&[1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF][..], b"begin"].concat());
        let piece = frames.next(&mut chunk).expect("a frame").expect("a piece");
        assert_eq!(piece, Piece { stream: LogStream::Stdout, bytes: "begin".into(), last: false });
        assert_eq!(frames.next(&mut chunk), Ok(None));
    }

    #[test]
    fn a_terminals_output_is_never_taken_for_a_frame() {
        let hostile = Bytes::from_static(&[1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, b'x']);
        let mut frames = Frames::new(Form::Terminal);
        let piece = frames.next(&mut hostile.clone()).expect("output").expect("a piece");
        assert_eq!((piece.bytes, piece.last), (hostile, false));
    }

    #[test]
    fn what_is_not_framed_and_a_frame_that_is_too_long_are_errors() {
        for other in [&b"plain text"[..], &frame(4, b"x"), &[1, 1, 0, 0, 0, 0, 0, 1, b'x']] {
            assert!(matches!(messages(Form::Framed, other, 3), Err(CallError::Broken(_))), "{other:?}");
        }
        let long = frame(1, &vec![b'x'; FRAME_MAX + 1]);
        assert!(matches!(messages(Form::Framed, &long, 4096), Err(CallError::Broken(_))));
    }

    #[test]
    fn an_error_that_the_engine_writes_into_a_stream_ends_it() {
        let bytes = [frame(1, b"out\n"), frame(3, b"error from daemon in stream: gone\n")].concat();
        for chunk in [1, bytes.len()] {
            let error = messages(Form::Framed, &bytes, chunk).expect_err("an error");
            assert_eq!(error, CallError::Refused(500, "error from daemon in stream: gone".into()));
        }
    }

    #[test]
    fn a_terminals_log_is_cut_at_line_feeds_and_into_messages_of_the_copiers_size() {
        let stamp = "2026-01-02T03:04:05.000000006Z ";
        let long = "x".repeat(MESSAGE_MAX);
        let bytes = format!("{stamp}\u{1}\0\u{2}abc\r\n{stamp}{long}{stamp}rest\r\n{stamp}no feed");
        let expected = [
            format!("{stamp}\u{1}\0\u{2}abc\r\n"),
            format!("{stamp}{long}"),
            format!("{stamp}rest\r\n"),
            format!("{stamp}no feed"),
        ];
        for chunk in [1, 7, 4096, bytes.len()] {
            let read = messages(Form::Terminal, bytes.as_bytes(), chunk).expect("a log");
            let read: Vec<_> = read.into_iter().map(|(_, line)| String::from_utf8(line).expect("text")).collect();
            assert_eq!(read, expected, "chunks of {chunk}");
        }
    }
}
