//! The way to the engine: its socket, or a connection within the process.

use std::fmt;
use std::sync::Arc;
use tokio::io::DuplexStream;

/// An engine inside the process, for a face without sockets: each call opens a connection to it.
#[derive(Clone)]
pub struct EngineInside(Arc<dyn Fn() -> DuplexStream + Send + Sync>);

impl EngineInside {
    /// The engine that `open` opens a connection to; the other end of the connection is served by the caller.
    pub fn new(open: impl Fn() -> DuplexStream + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    pub(super) fn open(&self) -> DuplexStream {
        (self.0)()
    }
}

impl fmt::Debug for EngineInside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineInside")
    }
}

/// The way to the engine.
#[derive(Debug, Clone)]
pub(super) enum Dial {
    /// The engine listens on its unix socket.
    Socket,
    /// The engine is inside the process, which joins no connections that switch protocols.
    Inside(EngineInside),
}
