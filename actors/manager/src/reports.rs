//! What workers report, merged: while one proposal is under way, whatever comes is collected for the next.
//!
//! Nothing waits for company when nothing is under way, and a thousand workers that report at once cost a handful of
//! entries. A report is answered when it is committed; one that was not is sent again by its worker.
//!
//! A batch holds what fits into one proposal, by bytes. A report that is larger than [`ALONE_BYTES`] goes alone, in as many
//! proposals as it takes, beside the batches: neither its size nor its time is another worker's. One that no proposal can
//! hold is refused for itself.

use essaim_model::{Change, Observed, Refusal, RefusalKind, TaskId};
use essaim_store::{PROPOSAL_BYTES_MAX, Store};
use essaim_wire::{NodeId, encoded_len};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// How many reports may wait: one of each worker that a manager serves at most. More are refused, and sent again.
const WAITING: usize = 4096;

/// How many bytes of reports one proposal holds: three quarters of what it may have, the rest is for the change around
/// each report and the proposal itself.
const BATCH_BYTES: usize = PROPOSAL_BYTES_MAX / 4 * 3;

/// A report of more bytes than this is not merged with others: a thousand tasks at once, about, of which the reports of
/// other workers would have to wait.
const ALONE_BYTES: usize = 64 << 10;

/// How many large reports are under way at the same time. More of them are refused, and sent again: at 4 MiB each, the
/// most that a frame holds, they take 16 MiB.
const ALONE_MAX: usize = 4;

struct Waiting {
    node: NodeId,
    tasks: Vec<(TaskId, Observed)>,
    bytes: usize,
    kept: oneshot::Sender<Result<(), Refusal>>,
}

/// Where reports are handed in. Clones share one queue; the queue ends with the last of them.
#[derive(Clone)]
pub(crate) struct Reports {
    queue: mpsc::Sender<Waiting>,
    store: Store,
    alone: Arc<Semaphore>,
}

impl Reports {
    /// Starts collecting for `store`.
    pub(crate) fn start(store: Store) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(collect(store.clone(), waiting));
        Self { queue, store, alone: Arc::new(Semaphore::new(ALONE_MAX)) }
    }

    /// Hands in a report, and waits until it is committed.
    pub(crate) async fn keep(&self, node: NodeId, tasks: Vec<(TaskId, Observed)>) -> Result<(), Refusal> {
        let busy = || Refusal::new(RefusalKind::Unknown, "the manager is busy; report again");
        let bytes = encoded_len(&tasks);
        if bytes > ALONE_BYTES {
            let _turn = self.alone.try_acquire().map_err(|_| busy())?;
            return self.keep_alone(node, tasks).await;
        }
        let (kept, answer) = oneshot::channel();
        self.queue.try_send(Waiting { node, tasks, bytes, kept }).map_err(|_| busy())?;
        answer.await.unwrap_or_else(|_| Err(busy()))
    }

    /// Keeps a large report, part by part: what is said of one task does not depend on what is said of another.
    async fn keep_alone(&self, node: NodeId, tasks: Vec<(TaskId, Observed)>) -> Result<(), Refusal> {
        for reports in cut(tasks)? {
            self.store.change(vec![Change::Observe { node, reports }], None).await?;
        }
        Ok(())
    }
}

/// Cuts a report into parts that fit a proposal each. Refused when one task alone is more than that: whoever says so much
/// of a task would be refused whatever else is in the report.
fn cut(tasks: Vec<(TaskId, Observed)>) -> Result<Vec<Vec<(TaskId, Observed)>>, Refusal> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for report in tasks {
        let more = encoded_len(&report);
        if more > BATCH_BYTES {
            let text = format!("what is reported of task {} takes {more} bytes, and may take {BATCH_BYTES}", report.0);
            return Err(Refusal::invalid(text));
        }
        if bytes + more > BATCH_BYTES {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += more;
        part.push(report);
    }
    parts.push(part);
    Ok(parts)
}

async fn collect(store: Store, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(first) = waiting.recv().await {
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        while bytes + ALONE_BYTES <= BATCH_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            bytes += next.bytes;
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

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::TaskState;
    use essaim_wire::Timestamp;

    fn report(task: u128, error: usize) -> (TaskId, Observed) {
        let failed = Observed {
            state: TaskState::Failed,
            error: Some("x".repeat(error)),
            ..Observed::nothing(Timestamp::default())
        };
        (TaskId::from_bits(task), failed)
    }

    #[test]
    fn a_large_report_is_cut_into_parts_that_fit_and_nothing_is_lost() {
        let tasks: Vec<_> = (0..3_000).map(|task| report(task, 1_000)).collect();
        let parts = cut(tasks.clone()).expect("each task fits");
        assert_eq!(parts.len(), 4);
        assert!(parts.iter().all(|part| encoded_len(part) < PROPOSAL_BYTES_MAX - 1_000));
        assert_eq!(parts.concat(), tasks);
    }

    #[test]
    fn a_task_of_which_too_much_is_said_is_refused_by_name() {
        let refusal = cut(vec![report(1, 9), report(2, PROPOSAL_BYTES_MAX)]).expect_err("it fits nowhere");
        assert!(refusal.text.contains(&TaskId::from_bits(2).to_string()), "{refusal}");
    }

    #[test]
    fn a_full_batch_of_small_reports_fits_a_proposal() {
        // Many workers with little to say: the change around each report counts as well.
        let tasks = vec![report(1, 40)];
        let each = encoded_len(&tasks);
        let count = BATCH_BYTES / each;
        let change = Change::Observe { node: NodeId::from_bits(u128::MAX), reports: tasks };
        assert!(count.min(WAITING) * encoded_len(&change) < PROPOSAL_BYTES_MAX - 1_000);
    }
}
