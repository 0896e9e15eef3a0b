//! The trace of a run: a hash of everything that happened, and lines to read.
//!
//! The hash is over every record of every journal, every step of the run and every answer to the clients, in the order
//! in which they were seen. Two runs with the same hash (and the same fingerprint of the network) were the same.

use essaim_wire::Sum;
use parking_lot::Mutex;
use std::fmt::Display;
use std::sync::Arc;
use tokio::time::Instant;

/// The trace of a run. Clones write into the same trace.
#[derive(Clone)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
    begun: Instant,
    prints: bool,
}

#[derive(Default)]
struct Inner {
    sum: Sum,
    lines: u64,
}

impl Trace {
    /// An empty trace that begins now.
    pub fn new(prints: bool) -> Self {
        Self { inner: Arc::default(), begun: Instant::now(), prints }
    }

    /// Adds a line.
    pub fn note(&self, who: impl Display, what: impl Display) {
        let at = self.begun.elapsed();
        let line = format!("{:10.3} {who:>7} {what}", at.as_secs_f64());
        if self.prints {
            println!("{line}");
        }
        let mut inner = self.inner.lock();
        inner.lines += 1;
        inner.sum.add(line.as_bytes());
    }

    /// Virtual time since the trace began.
    pub fn elapsed(&self) -> std::time::Duration {
        self.begun.elapsed()
    }

    /// Hash of all lines so far.
    pub(crate) fn hash(&self) -> u64 {
        self.inner.lock().sum.value()
    }

    /// Number of lines so far.
    pub fn lines(&self) -> u64 {
        self.inner.lock().lines
    }
}
