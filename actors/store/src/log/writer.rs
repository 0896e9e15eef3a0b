//! The writer: the only committer of the log (group commit). It drains its queue, commits it as one group, and calls
//! back *after* the sync.
//!
//! On a disk whose calls block, the writer is a thread, so that no runtime thread waits for a disk. On a simulated disk
//! it is a task of the runtime, since a simulation has one thread and must be repeatable. An error ends the writer: the
//! contents of a disk that has failed once are unknown, so every later operation fails too, and the manager stops.

use super::{LogBackend, Op};
use essaim_system::env::Disk;
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait in the queue: with one batch of proposals each, more than a disk commits in a second.
const QUEUE: usize = 1024;

/// Jobs per group, so that the first of them does not wait for ever.
const GROUP: usize = 1024;

/// Groups per write of the committed index, which is also written at the end. It costs a page of its own, and a
/// restarted manager learns it from a leader. What is read from a manager without contact is older by at most this many
/// groups.
const COMMITTED_EVERY: u32 = 64;

/// Callback of a job: called once, after the sync, or with the error.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

enum Job {
    Commit { ops: Vec<Op>, done: Option<Done> },
    Close(oneshot::Sender<()>),
}

/// Handle on the writer; clones share its queue.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the writer of `backend`.
    pub(crate) fn start(backend: Arc<dyn LogBackend>, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        if disk.blocks() {
            std::thread::Builder::new().name("essaim-log".into()).spawn(move || run_blocking(queue, &*backend))?;
        } else {
            tokio::spawn(run(queue, backend, disk));
        }
        Ok(Self { jobs })
    }

    /// Queues `ops`; `done` is called when they are durable, or with an error when they never will be.
    pub(crate) async fn submit(&self, ops: Vec<Op>, done: Option<Done>) {
        if let Err(refused) = self.jobs.send(Job::Commit { ops, done }).await
            && let Job::Commit { done: Some(done), .. } = refused.0
        {
            done(Err(closed()));
        }
    }

    /// Queues `ops` and waits until they are durable.
    pub(crate) async fn commit(&self, ops: Vec<Op>) -> io::Result<()> {
        let (told, answer) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            let _ = told.send(result);
        });
        self.submit(ops, Some(done)).await;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Commits all queued jobs and ends the writer.
    pub(crate) async fn close(&self) {
        let (told, answer) = oneshot::channel();
        if self.jobs.send(Job::Close(told)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the log is closed")
}

fn run_blocking(mut queue: mpsc::Receiver<Job>, backend: &dyn LogBackend) {
    let mut group = Group::default();
    while let Some(job) = queue.blocking_recv() {
        group.take(job);
        while group.has_room()
            && let Ok(job) = queue.try_recv()
        {
            group.take(job);
        }
        if group.commit(backend) {
            return;
        }
    }
    group.finish(backend);
}

async fn run(mut queue: mpsc::Receiver<Job>, backend: Arc<dyn LogBackend>, disk: Arc<dyn Disk>) {
    let mut group = Group::default();
    while let Some(job) = queue.recv().await {
        group.take(job);
        let lag = disk.lag();
        if !lag.is_zero() {
            tokio::time::sleep(lag).await;
        }
        while group.has_room()
            && let Ok(job) = queue.try_recv()
        {
            group.take(job);
        }
        if group.commit(&*backend) {
            return;
        }
    }
    group.finish(&*backend);
}

/// The jobs that are committed together.
#[derive(Default)]
struct Group {
    ops: Vec<Op>,
    /// Latest committed index that is to be written; `unwritten` counts the groups since the last such write.
    committed: Option<Op>,
    unwritten: u32,
    done: Vec<Done>,
    jobs: usize,
    closing: Option<oneshot::Sender<()>>,
    /// First error of the backend; every later commit fails with it.
    failed: Option<String>,
}

impl Group {
    const fn has_room(&self) -> bool {
        self.jobs < GROUP && self.closing.is_none()
    }

    fn take(&mut self, job: Job) {
        self.jobs += 1;
        match job {
            Job::Commit { ops, done } => {
                for op in ops {
                    match op {
                        Op::Committed(_) => self.committed = Some(op),
                        op => self.ops.push(op),
                    }
                }
                self.done.extend(done);
            }
            Job::Close(told) => self.closing = Some(told),
        }
    }

    /// Commits the group and calls back. Returns whether the writer was closed. A new committed index alone is not
    /// worth a sync: it waits for the next group.
    fn commit(&mut self, backend: &dyn LogBackend) -> bool {
        self.jobs = 0;
        if let Some(told) = self.closing.take() {
            self.finish(backend);
            let _ = told.send(());
            return true;
        }
        if !self.ops.is_empty() || !self.done.is_empty() {
            self.unwritten += 1;
            if self.unwritten >= COMMITTED_EVERY {
                self.finish(backend);
            } else {
                self.flush(backend);
            }
        }
        false
    }

    /// Commits the group together with the committed index.
    fn finish(&mut self, backend: &dyn LogBackend) {
        self.unwritten = 0;
        self.ops.extend(self.committed.take());
        self.flush(backend);
    }

    fn flush(&mut self, backend: &dyn LogBackend) {
        if self.failed.is_none()
            && !self.ops.is_empty()
            && let Err(error) = backend.commit(&self.ops)
        {
            tracing::error!(%error, "the log could not be written");
            self.failed = Some(error.to_string());
        }
        self.ops.clear();
        for done in self.done.drain(..) {
            done(match &self.failed {
                None => Ok(()),
                Some(why) => Err(io::Error::other(why.clone())),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::LogId;
    use crate::log::{Found, LogError};
    use parking_lot::Mutex;
    use std::ops::Range;

    #[derive(Default)]
    struct Counting {
        groups: Mutex<Vec<usize>>,
        broken: bool,
    }

    impl LogBackend for Counting {
        fn load(&self) -> Result<Found, LogError> {
            Ok(Found::default())
        }

        fn commit(&self, ops: &[Op]) -> io::Result<()> {
            self.groups.lock().push(ops.len());
            if self.broken { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
        }

        fn read(&self, _: Range<u64>) -> io::Result<Vec<(u64, Vec<u8>)>> {
            Ok(Vec::new())
        }
    }

    fn append(index: u64) -> Vec<Op> {
        vec![Op::Append(vec![(index, vec![1])])]
    }

    fn writer(backend: &Arc<Counting>) -> Writer {
        let disk = Arc::new(essaim_system::env::SimDisk::new());
        Writer::start(Arc::clone(backend) as Arc<dyn LogBackend>, disk).expect("it starts")
    }

    #[tokio::test]
    async fn what_has_queued_up_is_one_group() {
        let backend = Arc::new(Counting::default());
        let writer = writer(&backend);
        // The writer's task runs only when this one waits, so all three jobs are queued before the writer looks.
        let all = futures::future::join_all((1..=3).map(|index| writer.commit(append(index)))).await;
        assert!(all.into_iter().all(|result| result.is_ok()));
        assert_eq!(*backend.groups.lock(), [3]);
    }

    #[tokio::test]
    async fn how_far_the_log_is_committed_is_written_now_and_then_with_a_group_that_has_another_reason() {
        let backend = Arc::new(Counting::default());
        let writer = writer(&backend);
        for index in 1..=3 {
            writer.submit(vec![Op::Committed(Some(LogId { term: 1, index }))], None).await;
            tokio::task::yield_now().await;
        }
        assert!(backend.groups.lock().is_empty());
        for index in 4..=u64::from(COMMITTED_EVERY) + 4 {
            writer.commit(append(index)).await.expect("committed");
        }
        let mut groups = std::mem::take(&mut *backend.groups.lock());
        assert_eq!(groups.pop(), Some(1), "the next ones are free of it");
        assert_eq!(groups.pop(), Some(2), "an entry, and the last of the three");
        assert!(groups.iter().all(|ops| *ops == 1), "an entry each");
        writer.submit(vec![Op::Committed(Some(LogId { term: 1, index: 4 }))], None).await;
        writer.close().await;
        assert_eq!(*backend.groups.lock(), [1], "closing writes it too");
    }

    #[tokio::test]
    async fn after_an_error_nothing_is_durable_any_more() {
        let backend = Arc::new(Counting { broken: true, ..Counting::default() });
        let writer = writer(&backend);
        assert!(writer.commit(append(1)).await.is_err());
        assert!(writer.commit(append(2)).await.is_err());
        assert_eq!(*backend.groups.lock(), [1], "the disk is not asked again");
    }
}
