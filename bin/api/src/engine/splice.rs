//! Two unix connections joined byte by byte.
//!
//! Each direction ends by itself: when one side has sent its last byte, the other side's input is closed and its output
//! goes on (`echo x | docker run -i cat` sees the answer). When a side is gone altogether, both connections are closed.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Bytes that are buffered in each direction.
const BUFFER_LEN: usize = 16 << 10;

/// Interval at which a side that sends no more is looked at: is it gone, or does it still read?
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One of the two connections.
pub(super) struct Side {
    stream: UnixStream,
    /// Bytes that arrived behind the head.
    early: Vec<u8>,
}

impl Side {
    /// The connection below HTTP; `None` if it is no unix connection.
    pub(super) fn of(upgraded: Upgraded) -> Option<Self> {
        let parts = upgraded.downcast::<TokioIo<UnixStream>>().ok()?;
        Some(Self { stream: parts.io.into_inner(), early: parts.read_buf.to_vec() })
    }
}

/// Copies in both directions until both have ended or a side is gone.
pub(super) async fn splice(client: Side, engine: Side) {
    let ended = tokio::select! {
        ended = one_way(&client, &engine) => ended,
        ended = one_way(&engine, &client) => ended,
    };
    if let Err(why) = ended {
        tracing::debug!(%why, "a joined connection broke off");
    }
}

/// Copies what `from` sends until it sends no more, and then waits until it is gone.
async fn one_way(from: &Side, to: &Side) -> io::Result<()> {
    write_all(&to.stream, &from.early).await?;
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        from.stream.readable().await?;
        match from.stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => write_all(&to.stream, &buffer[..len]).await?,
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => (),
            Err(why) => return Err(why),
        }
    }
    drop(buffer);
    shutdown(to.stream.as_raw_fd(), Shutdown::Write)?;
    // The socket counts as closed for writing when the other end has closed it, or when this end has sent all and the
    // other direction is over, too.
    while !from.stream.ready(Interest::WRITABLE | Interest::READABLE).await?.is_write_closed() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn write_all(to: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => (),
            Err(why) => return Err(why),
        }
    }
    Ok(())
}
