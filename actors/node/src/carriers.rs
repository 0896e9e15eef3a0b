//! Threads that accept and carry the connections of published ports, apart from the daemon's actors.
//!
//! A connection stays on the thread that it was given to, so that nothing crosses from one processor to another for it. And
//! traffic and actors share no queue: heavy traffic delays neither gossip nor the log. The threads are started for the
//! first port, and end with the daemon.

use parking_lot::Mutex;
use std::io;
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads at most. One moves some tens of thousands of requests, or several GB, a second; with more than these the network
/// is the limit.
const THREADS_MAX: usize = 16;

/// The threads of this daemon.
#[derive(Debug, Default)]
pub(crate) struct Carriers {
    threads: Mutex<Vec<Thread>>,
}

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    /// The thread ends when this is dropped.
    _ends: oneshot::Sender<()>,
}

impl Carriers {
    /// The runtime of the thread with the fewest connections and listeners; the present one when the machine gives no
    /// threads.
    pub(crate) fn runtime(&self) -> Handle {
        let mut threads = self.threads.lock();
        if threads.is_empty() {
            threads.extend((0..wanted()).map_while(|number| Thread::start(number).ok()));
        }
        let runtimes = threads.iter().map(|thread| &thread.runtime);
        runtimes.min_by_key(|runtime| runtime.metrics().num_alive_tasks()).cloned().unwrap_or_else(Handle::current)
    }
}

/// Number of threads on this machine.
fn wanted() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

impl Thread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        // Nothing is ever sent: the thread waits for the sender to be dropped.
        thread::Builder::new().name(format!("carrier-{number}")).spawn(move || drop(runtime.block_on(ended)))?;
        Ok(Self { runtime: handle, _ends: ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn connections_spread_over_the_threads() {
        let carriers = Carriers::default();
        let (mut names, mut held) = (BTreeSet::new(), Vec::new());
        for _ in 0..wanted() {
            let ((end, until), (say, said)) = (oneshot::channel::<()>(), oneshot::channel());
            drop(carriers.runtime().spawn(async move {
                let _ = say.send(thread::current().name().unwrap_or_default().to_owned());
                let _ = until.await;
            }));
            names.insert(said.await.expect("carried"));
            held.push(end);
        }
        assert_eq!(names.len(), wanted(), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("carrier-")), "{names:?}");
    }

    #[tokio::test]
    async fn the_end_of_the_carriers_ends_their_connections() {
        let carriers = Carriers::default();
        let (mut end, until) = oneshot::channel::<()>();
        drop(carriers.runtime().spawn(async move { drop(until.await) }));
        drop(carriers);
        end.closed().await;
    }
}
