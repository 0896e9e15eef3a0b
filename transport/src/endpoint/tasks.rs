//! The tasks of an endpoint, so that its end can wait for theirs.

use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock();
        // What has ended is forgotten here, so the set is as large as what runs.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits for all, aborts those that take longer than `grace`, and returns when none is left.
    pub(super) async fn end(&self, grace: Duration) {
        // A task that ends may have started another one meanwhile.
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
