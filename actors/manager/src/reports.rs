//! Reports of workers, merged: the reports that come while one proposal is under way go into the next.
//!
//! When no proposal is under way, a report is proposed at once, so a thousand workers that report at once cost a
//! handful of entries. A report is answered when it is committed; a report that was not committed is sent again by its
//! worker.
//!
//! A batch is bounded by the bytes of one proposal. A report that is larger than [`ALONE_BYTES`] is proposed alone, in
//! as many proposals as it takes, beside the batches, so that neither its size nor its duration delays other workers. A
//! report that no proposal can hold is refused alone.

use essaim_model::{Change, Observed, Refusal, RefusalKind, TaskId};
use essaim_store::{PROPOSAL_BYTES_MAX, Store};
use essaim_wire::{NodeId, encoded_len};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Reports that may wait: one of each worker that a manager serves at most. More are refused, and sent again.
const WAITING: usize = 4096;

/// Bytes of reports in one proposal at most: three quarters of the proposal's bound. The rest is for the change around
/// each report and the proposal itself.
const BATCH_BYTES: usize = PROPOSAL_BYTES_MAX / 4 * 3;

/// A report of more bytes than this, about a thousand tasks, is not merged with others: the reports of other workers
/// would wait for it.
const ALONE_BYTES: usize = 64 << 10;

/// Large reports that are under way at the same time at most. More are refused, and sent again: at 4 MiB each, the most
/// that a frame holds, they take 16 MiB.
const ALONE_MAX: usize = 4;

struct Waiting {
    node: NodeId,
    tasks: Vec<(TaskId, Observed)>,
    bytes: usize,
    kept: oneshot::Sender<Result<(), Refusal>>,
}

/// Queue of reports. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub(crate) struct Reports {
    queue: mpsc::Sender<Waiting>,
    store: Store,
    alone: Arc<Semaphore>,
}

impl Reports {
    /// Starts collecting reports for `store`.
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

    /// Commits a large report part by part, because the parts about different tasks do not depend on each other.
    async fn keep_alone(&self, node: NodeId, tasks: Vec<(TaskId, Observed)>) -> Result<(), Refusal> {
        for reports in cut(tasks)? {
            self.store.change(vec![Change::Observe { node, reports }], None).await?;
        }
        Ok(())
    }
}

/// Cuts a report into parts that fit a proposal each. Refused when the observation of one task alone does not fit: it
/// would be refused in every report.
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
            // A worker whose link has ended sends its report again.
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
        // Many small reports: the change around each report counts towards the proposal's bytes, too.
        let tasks = vec![report(1, 40)];
        let each = encoded_len(&tasks);
        let count = BATCH_BYTES / each;
        let change = Change::Observe { node: NodeId::from_bits(u128::MAX), reports: tasks };
        assert!(count.min(WAITING) * encoded_len(&change) < PROPOSAL_BYTES_MAX - 1_000);
    }
}
