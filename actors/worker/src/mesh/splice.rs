//! Bytes that the kernel moves from one socket to another through a pipe (`splice(2)`), without a copy.

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes that a pipe holds: what the kernel lets every user have (`/proc/sys/fs/pipe-max-size`). With larger pieces a core
/// moves more; beyond this there is little to gain.
const ROOM: usize = 1 << 20;

/// Pipes with bytes in them at a time. When all are in use, by slow readers as a rule, other directions copy.
const PIPES_MAX: usize = 128;

/// Empty pipes that a thread keeps for the next direction: making one costs some microseconds.
const KEPT_MAX: usize = 8;

static PIPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static KEPT: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

/// Both ends of a pipe.
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe in use. When it is dropped empty, the thread keeps it for the next direction.
pub(super) struct Pipe {
    ends: Option<Ends>,
    filled: usize,
}

impl Pipe {
    /// An empty pipe; `None` when too many are in use, or the kernel gives no more.
    pub(super) fn new() -> Option<Self> {
        if PIPES.fetch_add(1, Ordering::Relaxed) >= PIPES_MAX {
            PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        // From here on, dropping it gives its place back.
        let mut pipe = Self { ends: KEPT.with_borrow_mut(Vec::pop), filled: 0 };
        if pipe.ends.is_none() {
            let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
            // A pipe of the usual size works, too.
            let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(ROOM as i32));
            pipe.ends = Some(Ends { read, write });
        }
        Some(pipe)
    }

    /// Takes what a socket has into the empty pipe; returns the number of bytes, 0 at their end.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || moved(from, &ends.write, ROOM)) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => (),
                took => {
                    self.filled = took?;
                    return Poll::Ready(Ok(self.filled));
                }
            }
        }
    }

    /// Gives a socket everything that is in the pipe.
    pub(super) fn pour(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(())) };
        while self.filled > 0 {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || moved(&ends.read, to, self.filled)) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => (),
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                gave => self.filled = self.filled.saturating_sub(gave?),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
        if let Some(ends) = self.ends.take().filter(|_| self.filled == 0) {
            // A thread that ends keeps nothing.
            let _ = KEPT.try_with(|kept| {
                let mut kept = kept.borrow_mut();
                if kept.len() < KEPT_MAX {
                    kept.push(ends);
                }
            });
        }
    }
}

/// Number of pipes in use.
#[cfg(test)]
pub(super) fn in_use() -> usize {
    PIPES.load(Ordering::Relaxed)
}

/// Has the kernel move up to so many bytes; returns how many it moved.
fn moved(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    Ok(splice(from, None, to, None, most, flags)?)
}
