//! One output stream of a task, split into lines for the log.

use crate::process::ring::{PIECE_LEN, Writer};
use essaim_wire::Timestamp;
use essaim_worker::engine::LogStream;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Reads from one output before the shim looks at anything else: a task that writes without end must not keep its shim
/// from hearing a stop.
const READS_MAX: u32 = 16;

pub(super) struct Lines {
    pipe: Option<File>,
    stream: LogStream,
    /// Bytes of the line that has not ended yet, fewer than one piece.
    partial: Vec<u8>,
}

impl Lines {
    pub(super) fn new(pipe: OwnedFd, stream: LogStream) -> Self {
        // If this fails and the pipe stays blocking, a read after `poll` still finds something and does not block.
        let _ = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        Self { pipe: Some(File::from(pipe)), stream, partial: Vec::new() }
    }

    /// The pipe, until the task has closed it.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what the pipe has, up to a bound. Returns whether there was anything.
    pub(super) fn read(&mut self, buffer: &mut [u8], now: Timestamp, log: &mut Writer) -> bool {
        let mut any = false;
        for _ in 0..READS_MAX {
            let Some(pipe) = &mut self.pipe else { break };
            match pipe.read(buffer) {
                Ok(0) => self.pipe = None,
                Ok(len) => {
                    any = true;
                    self.cut(&buffer[..len], now, log);
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => (),
                Err(_) => self.pipe = None,
            }
        }
        any
    }

    /// Logs the last line even if it has no line end, because nothing follows.
    pub(super) fn end(&mut self, now: Timestamp, log: &mut Writer) {
        if !self.partial.is_empty() {
            log.push(now, self.stream, &self.partial);
            self.partial.clear();
        }
        self.pipe = None;
    }

    fn cut(&mut self, mut bytes: &[u8], now: Timestamp, log: &mut Writer) {
        while !bytes.is_empty() {
            let room = PIECE_LEN - self.partial.len();
            let window = &bytes[..bytes.len().min(room)];
            let (taken, whole) = match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (window.len(), window.len() == room),
            };
            if whole && self.partial.is_empty() {
                log.push(now, self.stream, &bytes[..taken]);
            } else {
                self.partial.extend_from_slice(&bytes[..taken]);
                if whole {
                    log.push(now, self.stream, &self.partial);
                    self.partial.clear();
                }
            }
            bytes = &bytes[taken..];
        }
    }
}
