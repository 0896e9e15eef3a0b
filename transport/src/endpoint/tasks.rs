//! The set of an endpoint's tasks, so that the end of the endpoint can wait for them.

use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

#[derive(Debug)]
pub(super) struct Tasks {
    tasks: Mutex<JoinSet<()>>,
    /// The runtime in which the endpoint was started. A task of another runtime may be the first to ask for a peer; the
    /// session that is made then belongs to the endpoint.
    runtime: Handle,
}

impl Tasks {
    /// No tasks yet, and later ones in the runtime in which this is called.
    pub(super) fn new() -> Self {
        Self { tasks: Mutex::default(), runtime: Handle::current() }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock();
        // Ended tasks are removed here, so the set is only as large as the number of running tasks.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
    }

    /// Waits for all tasks, aborts those that take longer than `grace`, and returns when none is left.
    pub(super) async fn end(&self, grace: Duration) {
        // A task that ends may have started another one in the meantime.
        loop {
            let mut tasks = std::mem::take(&mut *self.lock());
            if tasks.is_empty() {
                return;
            }
            finish(&mut tasks, grace).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock()
    }
}

/// Waits for all tasks of a set, and aborts those that take longer than `grace`.
pub(super) async fn finish(tasks: &mut JoinSet<()>, grace: Duration) {
    let _ = timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
}
