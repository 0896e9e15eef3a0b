//! The set of an endpoint's tasks, so that the end of the endpoint can wait for them.

use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock();
        // Ended tasks are removed here, so the set is only as large as the number of running tasks.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
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
        self.0.lock()
    }
}

/// Waits for all tasks of a set, and aborts those that take longer than `grace`.
pub(super) async fn finish(tasks: &mut JoinSet<()>, grace: Duration) {
    let _ = timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
}
