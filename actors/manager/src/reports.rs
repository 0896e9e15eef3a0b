//! What workers report, merged: while one proposal is under way, whatever comes is collected for the next.
//!
//! Nothing waits for company when nothing is under way, and a thousand workers that report at once cost a handful of
//! entries. A report is answered when it is committed; one that was not is sent again by its worker.

use essaim_model::{Change, Observed, Refusal, RefusalKind, TaskId};
use essaim_store::Store;
use essaim_wire::NodeId;
use tokio::sync::{mpsc, oneshot};

/// How many reports may wait: one of each worker that a manager serves at most. More are refused, and sent again.
const WAITING: usize = 4096;

/// How many tasks one entry tells of at most, so that it stays well below 1 MiB (about 60 bytes each).
const TASKS_IN_AN_ENTRY: usize = 8192;

struct Waiting {
    node: NodeId,
    tasks: Vec<(TaskId, Observed)>,
    kept: oneshot::Sender<Result<(), Refusal>>,
}

/// Where reports are handed in. Clones share one queue; the queue ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    queue: mpsc::Sender<Waiting>,
}

impl Reports {
    /// Starts collecting for `store`.
    pub(crate) fn start(store: Store) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(collect(store, waiting));
        Self { queue }
    }

    /// Hands in a report, and waits until it is committed.
    pub(crate) async fn keep(&self, node: NodeId, tasks: Vec<(TaskId, Observed)>) -> Result<(), Refusal> {
        let busy = || Refusal::new(RefusalKind::Unknown, "the manager is busy; report again");
        let (kept, answer) = oneshot::channel();
        self.queue.try_send(Waiting { node, tasks, kept }).map_err(|_| busy())?;
        answer.await.unwrap_or_else(|_| Err(busy()))
    }
}

async fn collect(store: Store, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(first) = waiting.recv().await {
        let mut tasks = first.tasks.len();
        let mut batch = vec![first];
        while tasks < TASKS_IN_AN_ENTRY
            && let Ok(next) = waiting.try_recv()
        {
            tasks += next.tasks.len();
            batch.push(next);
        }
        let (reports, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|it| (Change::Observe { node: it.node, reports: it.tasks }, it.kept)).unzip();
        let kept = store.change(reports, None).await.map(|_| ());
        for answer in answers {
            // A worker whose link is gone sends it again.
            let _ = answer.send(kept.clone());
        }
    }
}
